"""Residual quantiles by band of predicted time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asymsim.calibration.residual_intervals import bounds, intervals, level_of
from asymsim.core.times.parameters import BANDS, INTERVAL

FIELDS = {*(INTERVAL.names or ())} - {"time_scale"}


@given(st.integers(1, 3000), st.integers(0, 2**32 - 1), st.floats(0.0, 1.0))
def test_quantiles_nest(rows: int, seed: int, noise: float) -> None:
    rng = np.random.default_rng(seed)
    predicted = np.exp(rng.uniform(-14, -4, rows))
    measured = predicted * np.exp(noise * rng.normal(size=rows))
    made = intervals(measured / predicted, predicted)
    assert set(made) == FIELDS
    assert all(len(made[name]) == BANDS + (name == "band_edges_s") for name in made)
    assert (np.diff(made["band_edges_s"]) >= 0).all()
    assert (made["ratio_p05"] <= made["ratio_p95"]).all()
    low, high = bounds(made, predicted)
    assert (low <= predicted).all()
    assert (predicted <= high).all()


@pytest.mark.parametrize("rows", [40, 200, 600, 5000])
def test_new_rows_fall_inside_with_nine_chances_of_ten(rows: int) -> None:
    rng = np.random.default_rng(7)
    inside = []
    for _ in range(200):
        predicted, fresh = np.exp(rng.uniform(-14, -4, (2, rows)))
        made = intervals(np.exp(0.2 * rng.normal(size=rows)), predicted)
        low, high = bounds(made, fresh)
        measured = fresh * np.exp(0.2 * rng.normal(size=rows))
        inside.append(((measured >= low) & (measured <= high)).mean())
    assert np.mean(inside) == pytest.approx(0.9, abs=0.015)


def test_bands_follow_where_the_error_is() -> None:
    rng = np.random.default_rng(1)
    predicted = np.sort(np.exp(rng.uniform(-14, -4, 6000)))
    noise = np.where(np.arange(6000) < 3000, 0.3, 0.03)
    made = intervals(np.exp(noise * rng.normal(size=6000)), predicted)
    width = made["ratio_p95"] - made["ratio_p05"]
    assert width[:6].min() > 5 * width[6:].max()


def test_equal_predictions_and_one_row_make_an_interval() -> None:
    for ratio in (np.array([2.0]), np.linspace(1.0, 2.0, 600)):
        made = intervals(ratio, np.full(len(ratio), 1e-6))
        assert np.isfinite(made["ratio_p05"]).all()
        assert (made["ratio_p95"] >= made["ratio_p05"]).all()


def test_sites_that_err_as_a_whole_widen_the_interval() -> None:
    rng = np.random.default_rng(3)
    covered = {True: [], False: []}
    for _ in range(60):
        groups = np.repeat(np.arange(30), 40)
        bias = 0.2 * rng.normal(size=30)[groups]
        predicted = np.exp(rng.uniform(-14, -4, len(groups)))
        ratio = np.exp(bias + 0.02 * rng.normal(size=len(groups)))
        fresh = np.exp(0.2 * rng.normal(size=2000))
        level = level_of(ratio, predicted, groups % 5)
        for widened in covered:
            made = intervals(ratio, predicted, level if widened else 0.05)
            low, high = bounds(made, np.ones(2000) * np.median(predicted))
            inside = (fresh * np.median(predicted) >= low) & (fresh * np.median(predicted) <= high)
            covered[widened].append(inside.mean())
    assert np.mean(covered[False]) < 0.885
    assert np.mean(covered[True]) == np.clip(np.mean(covered[True]), 0.885, 0.945)


def test_independent_rows_keep_their_level() -> None:
    rng = np.random.default_rng(4)
    ratio, predicted = np.exp(0.2 * rng.normal(size=20_000)), np.exp(rng.uniform(-14, -4, 20_000))
    assert level_of(ratio, predicted, np.arange(20_000) % 5) >= 0.045
    assert level_of(ratio[:1], predicted[:1], np.zeros(1, int)) == 0.05
