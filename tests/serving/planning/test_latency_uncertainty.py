"""Drawn times: their spread is that of the estimate's interval, and a draw never mixes with another."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from asymsim.core.times.parameters import HOST_TIME, NUM_TIME_CLASSES
from asymsim.estimator.resolve import resolve
from asymsim.estimator.scenario import Scenario
from asymsim.estimator.token_counts import scenario_tokens
from asymsim.serving.batch_estimates import batch_estimates
from asymsim.serving.planning.latency_uncertainty import class_ratios, standard_normals, time_factors, with_time_errors


def parts(**fields: Any) -> tuple[Any, Any]:
    scenario = Scenario(model="llava-1.5-7b", **fields)
    bound = resolve(scenario)
    return bound, np.array(scenario_tokens(scenario, bound.model).token_counts(), np.int64)


def test_a_draw_of_nothing_changes_nothing() -> None:
    bound, load = parts(engine="vllm")
    ratios = class_ratios(bound, load)
    assert ratios is not None
    by_class = time_factors(ratios, np.zeros((1, NUM_TIME_CLASSES)))
    assert (by_class == 1.0).all()
    twin = with_time_errors(bound, by_class[0])
    assert twin.gpu_arrays.stamp != bound.gpu_arrays.stamp
    assert twin.gpu_arrays.host_s == bound.gpu_arrays.host_s
    ours, theirs = (batch_estimates(each, each.dense_schedule, load[None])[1] for each in (twin, bound))
    assert all((ours[name] == theirs[name]).all() for name in theirs)


@pytest.mark.parametrize("gpu", ["h100_sxm", "l40s", "a100_80gb_sxm"])
@pytest.mark.parametrize("batch_size", [1, 32])
def test_drawn_times_spread_as_the_interval_of_an_estimate(gpu: str, batch_size: int) -> None:
    """The ends were joined by another rule, root of the sum of squares: they agree to a fifth of the width."""
    bound, load = parts(gpu=gpu, batch_size=batch_size)
    ratios = class_ratios(bound, load)
    assert ratios is not None
    many = time_factors(ratios, standard_normals(1000, 0))
    times = [
        float(batch_estimates(with_time_errors(bound, each), bound.dense_schedule, load[None])[1]["e2e_s"][0])
        for each in many
    ]
    whole = batch_estimates(bound, bound.dense_schedule, load[None])[1]
    low, middle, high = (float(whole[name][0]) for name in ("e2e_s_p05", "e2e_s", "e2e_s_p95"))
    found = np.percentile(times, (5, 50, 95))
    assert found == pytest.approx((low, middle, high), abs=0.2 * (high - low))


def test_each_class_takes_each_stratum_once_and_goes_its_own_way() -> None:
    made = standard_normals(20, 3)
    assert made.shape == (20, NUM_TIME_CLASSES)
    assert (np.sort(made, axis=0) == np.sort(made[:, :1], axis=0)).all()
    assert np.abs(made.mean(axis=0)).max() < 1e-12
    orders = {tuple(np.argsort(column)) for column in made.T}
    assert len(orders) == NUM_TIME_CLASSES
    assert (standard_normals(20, 3) == made).all()
    assert (standard_normals(20, 4) != made).any()


def test_the_host_errs_too() -> None:
    bound, load = parts(engine="vllm")
    ratios = class_ratios(bound, load)
    assert ratios is not None
    assert ratios[HOST_TIME, 1] > 1.0
    by_class = np.ones(NUM_TIME_CLASSES)
    by_class[HOST_TIME] = 2.0
    assert with_time_errors(bound, by_class).gpu_arrays.host_s == 2.0 * bound.gpu_arrays.host_s


def test_a_roofline_has_no_error_to_draw() -> None:
    bound, load = parts(gpu="v100_sxm2_32gb", dtype="fp16")
    assert class_ratios(bound, load) is None


def test_no_drawn_time_is_below_the_roofline() -> None:
    bound, load = parts()
    fast = batch_estimates(with_time_errors(bound, np.full(NUM_TIME_CLASSES, 1e-6)), bound.dense_schedule, load[None])[
        1
    ]["e2e_s"][0]
    whole = batch_estimates(bound, bound.dense_schedule, load[None])[1]["e2e_s"][0]
    assert 0.2 * whole < fast < whole
