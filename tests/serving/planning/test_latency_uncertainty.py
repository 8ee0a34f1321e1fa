"""Sampled times: their spread matches the estimate's interval, and samples of different classes are independent."""

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
    resolved = resolve(scenario)
    return resolved, np.array(scenario_tokens(scenario, resolved.model).token_counts(), np.int64)


def test_a_draw_of_nothing_changes_nothing() -> None:
    resolved, counts = parts(engine="vllm")
    ratios = class_ratios(resolved, counts)
    assert ratios is not None
    factors = time_factors(ratios, np.zeros((1, NUM_TIME_CLASSES)))
    assert (factors == 1.0).all()
    unperturbed = with_time_errors(resolved, factors[0])
    assert unperturbed.gpu_arrays.stamp != resolved.gpu_arrays.stamp
    assert unperturbed.gpu_arrays.host_s == resolved.gpu_arrays.host_s
    perturbed_times, expected_times = (
        batch_estimates(each, each.dense_schedule, counts[None])[1] for each in (unperturbed, resolved)
    )
    assert all((perturbed_times[name] == expected_times[name]).all() for name in expected_times)


@pytest.mark.parametrize("gpu", ["h100_sxm", "l40s", "a100_80gb_sxm"])
@pytest.mark.parametrize("batch_size", [1, 32])
def test_drawn_times_spread_as_the_interval_of_an_estimate(gpu: str, batch_size: int) -> None:
    """The ends were joined by another rule, root of the sum of squares: they agree to a fifth of the width."""
    resolved, counts = parts(gpu=gpu, batch_size=batch_size)
    ratios = class_ratios(resolved, counts)
    assert ratios is not None
    all_factors = time_factors(ratios, standard_normals(1000, 0))
    times = [
        float(
            batch_estimates(with_time_errors(resolved, factors), resolved.dense_schedule, counts[None])[1]["e2e_s"][0]
        )
        for factors in all_factors
    ]
    expected = batch_estimates(resolved, resolved.dense_schedule, counts[None])[1]
    low, middle, high = (float(expected[name][0]) for name in ("e2e_s_p05", "e2e_s", "e2e_s_p95"))
    percentiles = np.percentile(times, (5, 50, 95))
    assert percentiles == pytest.approx((low, middle, high), abs=0.2 * (high - low))


def test_each_class_takes_each_stratum_once_and_goes_its_own_way() -> None:
    normals = standard_normals(20, 3)
    assert normals.shape == (20, NUM_TIME_CLASSES)
    assert (np.sort(normals, axis=0) == np.sort(normals[:, :1], axis=0)).all()
    assert np.abs(normals.mean(axis=0)).max() < 1e-12
    orders = {tuple(np.argsort(column)) for column in normals.T}
    assert len(orders) == NUM_TIME_CLASSES
    assert (standard_normals(20, 3) == normals).all()
    assert (standard_normals(20, 4) != normals).any()


def test_the_host_errs_too() -> None:
    resolved, counts = parts(engine="vllm")
    ratios = class_ratios(resolved, counts)
    assert ratios is not None
    assert ratios[HOST_TIME, 1] > 1.0
    factors = np.ones(NUM_TIME_CLASSES)
    factors[HOST_TIME] = 2.0
    assert with_time_errors(resolved, factors).gpu_arrays.host_s == 2.0 * resolved.gpu_arrays.host_s


def test_a_roofline_has_no_error_to_draw() -> None:
    resolved, counts = parts(gpu="v100_sxm2_32gb", dtype="fp16")
    assert class_ratios(resolved, counts) is None


def test_no_drawn_time_is_below_the_roofline() -> None:
    resolved, counts = parts()
    fast_s = batch_estimates(
        with_time_errors(resolved, np.full(NUM_TIME_CLASSES, 1e-6)), resolved.dense_schedule, counts[None]
    )[1]["e2e_s"][0]
    expected = batch_estimates(resolved, resolved.dense_schedule, counts[None])[1]["e2e_s"][0]
    assert 0.2 * expected < fast_s < expected
