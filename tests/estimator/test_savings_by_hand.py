"""Shares saved and their intervals, worked out by hand from made-up costs."""

from __future__ import annotations

import math

import numpy as np
import pytest

from asymsim.core.operators.layout import PHASE_NAMES
from asymsim.estimator.result import Flops, KvCache, Latency, Memory, Seconds
from asymsim.estimator.savings import fraction_saved, interval_saved, savings, savings_interval

# Seconds of two operator classes, 5 %, median and 95 %. Pruning halves the first and leaves the second.
DENSE = np.array([[(4.0, 8.0, 10.0), (1.0, 2.0, 3.0)]])
PRUNED = np.array([[(3.0, 4.0, 6.0), (1.0, 2.0, 3.0)]])


def test_a_saved_share_is_of_the_dense_cost() -> None:
    assert fraction_saved(6.0, 10.0) == 0.4
    assert fraction_saved(12.0, 10.0) == pytest.approx(-0.2)
    assert fraction_saved(0.0, 10.0) == 1.0
    assert fraction_saved(3.0, 0.0) == 0.0
    assert fraction_saved(None, 10.0) is None
    assert fraction_saved(10.0, None) is None


@pytest.mark.parametrize("correlation", [0.0, 0.5, 1.0])
def test_correlated_errors_of_a_class_cancel(correlation: float) -> None:
    # 6 s of 10 s: 0.4 saved. An error d of the pruned time moves it by d / 10, one of the dense time by 6 d / 100.
    # An error of unchanged work is in both and moves it by 0.4 d / 10.
    low, high = interval_saved(PRUNED, DENSE, np.array([correlation, 0.0]))
    late = math.sqrt(0.2**2 + 0.12**2 - 2 * correlation * 0.2 * 0.12)
    early = math.sqrt(0.1**2 + 0.24**2 - 2 * correlation * 0.1 * 0.24)
    assert low == pytest.approx(0.4 - math.hypot(late, 0.04))
    assert high == pytest.approx(0.4 + math.hypot(early, 0.04))


def test_errors_of_a_class_add_up_over_phases() -> None:
    # The same class in a second phase, where pruning leaves it as it is: 1 s of both.
    again = np.array([[(0.5, 1.0, 2.0), (0.0, 0.0, 0.0)]])
    pruned, dense = (np.concatenate([seconds, again]) for seconds in (PRUNED, DENSE))
    low, _ = interval_saved(pruned, dense, np.zeros(2))
    saved = 1 - 7 / 11
    changed = math.hypot(2 / 11, 2 * 7 / 121)
    assert low == pytest.approx(saved - math.hypot(changed + saved * 1 / 11, saved * 1 / 11))


def test_a_pruned_time_beyond_the_dense_one_errs_by_the_size_of_the_difference() -> None:
    low, high = interval_saved(DENSE, PRUNED, np.array([0.0, 0.0]))
    saved = 1 - 10 / 6
    # An error of unchanged work moves the share by 2/3 of its error, in either direction.
    late = math.hypot(math.hypot(2 / 6, 2 * 10 / 36), 2 / 3 / 6)
    early = math.hypot(math.hypot(4 / 6, 1 * 10 / 36), 2 / 3 / 6)
    assert (low, high) == pytest.approx((saved - late, saved + early))


def test_equal_medians_with_other_ends_are_not_the_same_work() -> None:
    # 10 s both: nothing saved, but the first class may be 2 s or 4 s late, and 1 s or 3 s early.
    dense = np.array([[(5.0, 8.0, 12.0), (1.0, 2.0, 3.0)]])
    pruned = np.array([[(7.0, 8.0, 10.0), (1.0, 2.0, 3.0)]])
    low, high = interval_saved(pruned, dense, np.zeros(2))
    assert (low, high) == pytest.approx((-math.hypot(0.2, 0.4), math.hypot(0.1, 0.3)))


def test_a_time_without_an_interval_gives_none() -> None:
    unknown = DENSE.copy()
    unknown[0, 1, 0] = math.nan
    assert interval_saved(PRUNED, unknown, np.zeros(2)) == (None, None)
    assert interval_saved(unknown, DENSE, np.zeros(2)) == (None, None)
    assert interval_saved(np.zeros((1, 2, 3)), np.zeros((1, 2, 3)), np.zeros(2)) == (None, None)


def test_time_to_the_first_token_and_times_after_it_take_their_phases() -> None:
    # Each phase takes ten times as long as the one before, and saves another share.
    shares = {"vision_tower": 0.1, "projector": 0.2, "selection": -0.3, "prefill": 0.4, "decode": 0.5}
    shares["decode_selection"] = 0.6
    dense, pruned = np.zeros((len(PHASE_NAMES), 1, 3)), np.zeros((len(PHASE_NAMES), 1, 3))
    for index, phase in enumerate(PHASE_NAMES):
        dense[index], pruned[index] = 10.0**index, 10.0**index * (1 - shares[phase])
    saved = savings_interval(pruned, dense, np.zeros(1))
    ttft = (0.1 * 1 + 0.2 * 10 - 0.3 * 100 + 0.4 * 1000) / 1111
    tpot = (0.5 * 1e4 + 0.6 * 1e5) / 11e4
    e2e = (ttft * 1111 + tpot * 11e4) / 111_111
    # Without errors both ends are the share itself.
    for name, share in (("ttft", ttft), ("tpot", tpot), ("e2e", e2e)):
        ends = getattr(saved, name)
        assert (ends.p05, ends.p95) == pytest.approx((share, share))


def costs(scale: int, tpot: float | None) -> tuple[Flops, KvCache, Memory, Latency]:
    """Figures that are all different; ``scale`` 1 saves a tenth to seven tenths of them, 0 nothing."""

    def seconds(value: float | None) -> Seconds:
        return Seconds(p05=value, p50=value, p95=value, source="fitted")

    flops = Flops(
        vision_tower=1, projector=2, selection=3, prefill=1000 - 200 * scale, decode=5, decode_step_first=6,
        total=1000 - 100 * scale,
    )  # fmt: skip
    cache = KvCache(bytes_per_token=7, prefill_bytes=8, peak_bytes=1000 - 300 * scale)
    memory = Memory(
        weights_bytes=9, kv_cache_bytes=10, activation_bytes=11, peak_bytes=1000 - 400 * scale, fits=True,
        max_batch_size=12,
    )  # fmt: skip
    latency = Latency(
        vision_s=seconds(0.1), selection_s=seconds(0.2), prefill_s=seconds(0.3), ttft_s=seconds(1000 - 500.0 * scale),
        tpot_s=seconds(tpot), e2e_s=seconds(1000 - 700.0 * scale),
    )  # fmt: skip
    return flops, cache, memory, latency


def test_each_figure_saves_its_own_share() -> None:
    saved = savings(costs(1, 40.0), costs(0, 100.0))
    shares = (saved.flops, saved.prefill_flops, saved.kv_bytes, saved.peak_bytes, saved.ttft, saved.tpot, saved.e2e)
    assert shares == pytest.approx((0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7))
    assert savings(costs(1, None), costs(0, None)).tpot is None
