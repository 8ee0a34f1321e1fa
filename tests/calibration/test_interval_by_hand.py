"""Bands of residual quantiles, fit errors and splits of a few rows worked out on paper."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from asymsim.calibration.fit_errors import fit_errors, shape_group_correlation
from asymsim.calibration.residual_intervals import band_of, bounds, intervals, level_of
from asymsim.calibration.shape_groups import MeasuredRows, assemble, held_out, shape_group_hash
from asymsim.calibration.table_rows import Rows
from asymsim.calibration.user_scale import user_intervals

MASK = 2**64 - 1


def test_twelve_bands_of_forty_rows() -> None:
    """In each band the ratios are 1 to 40 and a hundred times its number; the p (n + 1)-th are wanted: 2.05, 38.95."""
    predicted = np.arange(1.0, 481.0)
    ratio = np.concatenate([100 * band + np.random.default_rng(band).permutation(40) + 1.0 for band in range(12)])
    bands = intervals(ratio, predicted)
    assert bands["band_edges_s"] == pytest.approx([1 + 479 * edge / 12 for edge in range(13)])
    assert bands["ratio_p05"] == pytest.approx([100 * band + 2.05 for band in range(12)])
    assert bands["ratio_p95"] == pytest.approx([100 * band + 38.95 for band in range(12)])
    narrower = intervals(ratio, predicted, 0.1)
    assert narrower["ratio_p05"][0] == pytest.approx(4.1)
    assert narrower["ratio_p95"][0] == pytest.approx(36.9)


@pytest.mark.parametrize(
    ("rows", "groups"),
    [(480, 12), (479, 6), (240, 6), (239, 4), (160, 4), (159, 3), (120, 3), (119, 2), (79, 1), (3, 1)],
)
def test_bands_are_joined_until_each_has_forty_rows(rows: int, groups: int) -> None:
    predicted = np.arange(1.0, rows + 1.0)
    bands = intervals(predicted, predicted)
    assert len(set(bands["ratio_p05"].tolist())) == groups
    # Joined bands share their quantiles, band by band in equal groups.
    assert all(len(set(part.tolist())) == 1 for part in np.split(bands["ratio_p95"], groups))


def test_a_time_at_an_edge_belongs_to_the_band_above_and_the_outer_bands_are_open() -> None:
    edges = np.arange(13.0)
    assert band_of(edges, np.array([-1.0, 0.0, 0.99, 3.0, 11.0, 12.0, 99.0])).tolist() == [0, 0, 0, 3, 11, 11, 11]


def test_the_prediction_lies_within_its_bounds() -> None:
    interval = {
        "band_edges_s": np.arange(13.0),
        "ratio_p05": np.array([0.8, 1.1, *[1.0] * 10]),
        "ratio_p95": np.array([1.5, 1.3, 0.9, *[1.0] * 9]),
    }
    low, high = bounds(interval, np.array([0.5, 1.5, 2.5]))
    assert low == pytest.approx([0.4, 1.5, 2.5])
    assert high == pytest.approx([0.75, 1.95, 2.5])


def naive_level(ratio: np.ndarray, fold: np.ndarray) -> float:
    """The first level at which quantiles of the other folds hold 89 % of the rows; all predictions are 1."""
    for level in (0.05, 0.045, 0.04, 0.035, 0.03, 0.025, 0.02, 0.015, 0.01):
        inside = 0
        for left_out in set(fold.tolist()):
            others, held_out_ratios = ratio[fold != left_out], ratio[fold == left_out]
            low = min(1.0, float(np.quantile(others, level, method="weibull")))
            high = max(1.0, float(np.quantile(others, 1 - level, method="weibull")))
            inside += sum(low <= value <= high for value in held_out_ratios.tolist())
        if inside >= 0.89 * len(ratio):
            return level
    return 0.01


@pytest.mark.parametrize("spread", [0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5])
def test_levels_fall_until_left_out_folds_are_covered(spread: float) -> None:
    generator = np.random.default_rng(8)
    fold = np.repeat(np.arange(5), 7)
    ratio = np.exp(spread * generator.normal(size=5)[fold] + 0.1 * generator.normal(size=35))
    assert level_of(ratio, np.ones(35), fold) == naive_level(ratio, fold)


def test_several_levels_occur() -> None:
    generator, levels = np.random.default_rng(9), set()
    for _ in range(10):
        fold = np.repeat(np.arange(5), 7)
        ratio = np.exp(0.12 * generator.normal(size=5)[fold] + 0.1 * generator.normal(size=35))
        level = level_of(ratio, np.ones(35), fold)
        assert level == naive_level(ratio, fold)
        levels.add(level)
    assert len(levels) >= 2


def table(seconds: list[float], predicted: list[float], **more: Any) -> MeasuredRows:
    times = np.array(predicted)
    values: dict[str, Any] = {
        "roofline_s": np.array(seconds) / 2,
        "columns": {},
        "runs": (),
        **more,
    }
    return MeasuredRows(
        seconds=np.array(seconds),
        held_out=np.zeros(len(seconds), bool),
        fold=np.zeros(len(seconds), np.int64),
        predict=lambda index, numbers: times[index],
        sizes=np.zeros(0, np.int64),
        dropped={},
        source="",
        **values,
    )


def test_fit_errors_by_hand() -> None:
    """Predicted over measured is 1.0, 1.1, ... 2.0 on eleven rows of a second; a twelfth is left out of the errors."""
    predicted = [1.0 + row / 10 for row in range(11)]
    rows = table([1.0] * 11 + [5.0], [*predicted, 1.0])
    # Up to 1.25 s from 0.7 to 1.5 of a prediction, up to 1.65 s to 1.6 of it, beyond from 0.4.
    interval = {
        "band_edges_s": np.array([0.0, 1.25, 1.65, *np.arange(10.0, 20.0)]),
        "ratio_p05": np.array([0.7, 0.7, 0.4, *[1.0] * 9]),
        "ratio_p95": np.array([1.5, 1.6, 1.5, *[1.0] * 9]),
    }
    errors = fit_errors(rows, np.zeros(1), interval, np.arange(11))
    assert errors.rows == 11
    assert (errors.median, errors.mean, errors.p90) == pytest.approx((0.5, 0.5, 0.9))
    assert errors.bias == pytest.approx(0.5)
    # 0.7 times 1.5 and 1.6 are above a second.
    assert errors.coverage == pytest.approx(9 / 11)
    # 1.6 is more than half as much again, 0.4 less than half: three rows are narrow.
    assert errors.narrow == pytest.approx(3 / 11)
    assert (errors.roofline_median, errors.roofline_mean) == pytest.approx((0.5, 0.5))


def test_bias_is_the_median_not_the_mean() -> None:
    errors = fit_errors(
        table([1.0] * 3, [1.0, 1.1, 9.0]),
        np.zeros(1),
        {"band_edges_s": np.arange(13.0), "ratio_p05": np.ones(12), "ratio_p95": np.ones(12)},
        np.arange(3),
    )
    assert errors.bias == pytest.approx(0.1)
    assert errors.mean == pytest.approx((0.1 + 8.0) / 3)


def test_neighbours_along_a_run_correlate_and_others_do_not_count() -> None:
    """Two shape groups of three token counts, out of order: the pairs are (1, 2), (2, 4), (5, 1), (1, 3)."""
    residual = {(7, 1): 1.0, (7, 2): 2.0, (7, 3): 4.0, (9, 1): 5.0, (9, 2): 1.0, (9, 3): 3.0}
    keys = [(9, 2), (7, 3), (7, 1), (9, 1), (9, 3), (7, 2)]
    rows = table(
        [math.exp(residual[key]) for key in keys],
        [1.0] * 6,
        columns={
            "weight": np.array([weight for weight, _ in keys]),
            "tokens": np.array([tokens for _, tokens in keys]),
        },
        runs=("weight", "tokens"),
    )
    first, second = np.array([1.0, 2.0, 5.0, 1.0]), np.array([2.0, 4.0, 1.0, 3.0])
    expected = ((first - 2.25) * (second - 2.5)).mean() / (first.std() * second.std())
    assert shape_group_correlation(rows, np.zeros(1)) == pytest.approx(expected)


def hashed(*shape: int) -> int:
    """The finaliser of SplitMix64 with other shifts, column by column, from the seed 1729."""
    key = 1729
    for column in shape:
        key = (key ^ column) * 0x9E3779B97F4A7C15 & MASK
        key = (key ^ key >> 29) * 0xBF58476D1CE4E5B9 & MASK
        key ^= key >> 32
    return key


def test_a_quarter_of_the_hashes_is_held_out() -> None:
    n, k = np.arange(1, 500), np.arange(1, 500)[::-1] * 128
    keys = [hashed(*pair) for pair in zip(n.tolist(), k.tolist(), strict=True)]
    assert shape_group_hash(n, k).tolist() == keys
    assert held_out(n, k).tolist() == [key % 10_000 < 2500 for key in keys]


def test_rows_that_beat_the_hardware_are_dropped_and_counted() -> None:
    """Of six rows one beats the peak, one the memory and one both; a row exactly at its bound stays."""
    seconds = np.array([3.0, 0.99, 4.0, 4.99, 0.5, 5.0])
    peak_s, memory_s = [1.0, 1.0, 1.0, 2.0, 1.0, 5.0], [2.0, 0.5, 3.0, 5.0, 2.0, 4.0]
    bounds_s = {"beats_peak": np.array(peak_s), "beats_memory": np.array(memory_s)}
    n = np.array([10.0, 20.0, 30.0, 40.0, 50.0, 60.0])
    rows = assemble(
        Rows({"seconds": seconds}, {"other": 7}, "place"),
        {"n": n, "m": n + 1},
        shape_group=("n",),
        runs=("n", "m"),
        bounds_s=bounds_s,
        many=lambda shapes, numbers, out: np.copyto(out, shapes[:, 1] * numbers[0]),
    )
    assert rows.seconds.tolist() == [3.0, 4.0, 5.0]
    assert rows.dropped == {"other": 7, "beats_peak": 2, "beats_memory": 1}
    assert rows.roofline_s.tolist() == [2.0, 3.0, 5.0]
    assert rows.predict(np.array([2, 0]), np.array([2.0])).tolist() == [122.0, 22.0]
    keys = [hashed(size) for size in (10, 30, 60)]
    assert rows.fold.tolist() == [key // 10_000 % 5 for key in keys]
    assert rows.held_out.tolist() == [key % 10_000 < 2500 for key in keys]


def test_a_shape_group_is_in_one_of_five_folds() -> None:
    sizes = range(1, 40)
    n = np.array(sizes, float)
    one = np.ones(len(n))
    rows = assemble(
        Rows({"seconds": one}, {}, ""),
        {"n": n},
        shape_group=("n",),
        runs=("n",),
        bounds_s={"beats_peak": one},
        many=lambda shapes, numbers, out: None,
    )
    assert rows.fold.tolist() == [hashed(size) // 10_000 % 5 for size in sizes]
    assert set(rows.fold.tolist()) == set(range(5))


@pytest.mark.parametrize(
    ("shape_groups", "student_t"),
    # Degrees of freedom are one less than the shape groups: 2.920 of two, 2.353 of three.
    [([0, 0, 1, 1, 2, 2], 2.920), ([0, 0, 1, 1, 2, 3], 2.353)],
)
def test_few_rows_have_the_width_of_students_t(shape_groups: list[int], student_t: float) -> None:
    logs = np.array([0.1, -0.1, 0.2, -0.2, 0.1, -0.1])
    half_width = student_t * math.sqrt((4 * 0.01 + 2 * 0.04) / 6)
    bands = user_intervals(np.exp(logs), np.arange(1.0, 7.0), np.array(shape_groups), "gemm_bf16")
    assert bands["ratio_p05"] == pytest.approx([math.exp(-half_width)] * 12)
    assert bands["ratio_p95"] == pytest.approx([math.exp(half_width)] * 12)
    assert (bands["band_edges_s"][0], bands["band_edges_s"][-1]) == (1.0, 6.0)
