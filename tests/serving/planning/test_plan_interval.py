"""Intervals, the best fleet and the savings of a plan, from GPU plans written by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from asymsim.estimator.scenario import Scenario
from asymsim.serving.planning.document import answer_row, plan_document
from asymsim.serving.planning.per_gpu import GpuPlan
from asymsim.serving.planning.plan import Plan, difference, middle_90_percent
from asymsim.serving.planning.query import PlanQuery
from asymsim.serving.power import Tariff
from asymsim.serving.slo import Slo, SloTarget
from asymsim.serving.workload.spec import WorkloadSpec

INF = math.inf


@pytest.mark.parametrize(
    ("samples", "ends"),
    [
        # One sample in twenty lies beyond either end: of 20 the first and the last, of 40 two, of 19 none.
        (20, (1.0, 18.0)),
        (39, (1.0, 37.0)),
        (40, (2.0, 37.0)),
        (100, (5.0, 94.0)),
        (19, (0.0, 18.0)),
        (1, (0.0, 0.0)),
    ],
)
def test_the_interval_is_the_middle_nine_tenths(samples: int, ends: tuple[float, float]) -> None:
    shuffled = np.random.default_rng(5).permutation(samples).astype(float)
    assert middle_90_percent(shuffled) == ends


def test_no_samples_have_no_interval() -> None:
    assert middle_90_percent(None) == middle_90_percent(np.zeros(0)) == (None, None)


def test_a_sample_that_neither_meets_is_no_difference() -> None:
    more, less = np.array([INF, INF, 5.0, 3.0]), np.array([INF, 2.0, INF, 1.0])
    saved = difference(more, less)
    assert saved is not None
    assert saved.tolist() == [INF, -INF, 2.0]
    assert difference(None, less) is difference(more, None) is None


def scenario(gpu: str, method: str = "none", tp_size: int = 1) -> Scenario:
    return Scenario(model="llava-1.5-7b", gpu=gpu, method=method, tp_size=tp_size)


def gpu_plan(chosen: Scenario, replicas: int | None, sampled: Any = None) -> GpuPlan:
    sampled_gpus = None if sampled is None else np.array(sampled, float)
    return GpuPlan(scenario=chosen, attempts=(), num_requests=100, replicas=replicas, sampled_gpus=sampled_gpus)


# 20 samples of the unpruned fleet: 8 GPUs but for one of 6 and two of 10; the pruned one takes 4, or 6 in the last.
UNPRUNED, PRUNED = [6] + [8] * 17 + [10, 10], [4] * 19 + [6]
GPU_PLANS = (
    gpu_plan(scenario("l40s"), 8, UNPRUNED),
    gpu_plan(scenario("l40s", "fastv"), 4, PRUNED),
    # Fewer replicas, not fewer GPUs.
    gpu_plan(scenario("h100_sxm", tp_size=2), 3),
    gpu_plan(scenario("h100_sxm", "fastv", tp_size=2), 1),
    gpu_plan(scenario("a100_80gb_sxm"), None),
    gpu_plan(scenario("a100_80gb_sxm", "fastv"), 5, [5] * 19 + [INF]),
)


@pytest.fixture
def plan() -> Plan:
    query = PlanQuery(
        scenarios=(scenario("l40s"), scenario("l40s", "fastv")),
        gpus=("l40s", "h100_sxm", "a100_80gb_sxm"),
        workload=WorkloadSpec(target_request_rate=5.0),
        slo_target=SloTarget(slo=Slo(ttft_s=0.25, e2e_s=4.0), percentile=90.0),
        tariff=Tariff(prices={"l40s": 1.0, "h100_sxm": 3.0, "a100_80gb_sxm": 2.0}),
    )
    return Plan(query, GPU_PLANS)


def test_the_best_fleets_go_by_gpus_and_by_rent(plan: Plan) -> None:
    assert [gpu_plan.gpus for gpu_plan in GPU_PLANS] == [8, 4, 6, 2, None, 5]
    assert [plan.usd_per_hour(gpu_plan) for gpu_plan in GPU_PLANS] == [8.0, 4.0, 18.0, 6.0, None, 10.0]
    assert plan.fewest_gpus is GPU_PLANS[3]
    assert plan.cheapest is GPU_PLANS[1]


def test_savings_are_within_one_gpu_model_sample_by_sample(plan: Plan) -> None:
    on_l40s, on_h100 = plan.savings
    # Sample by sample 2, seventeen times 4, then 6 and 4: without one at either end 4 to 4.
    assert (on_l40s.gpus_saved, on_l40s.p05_gpus_saved, on_l40s.p95_gpus_saved) == (4, 4.0, 4.0)
    assert (on_h100.unpruned, on_h100.pruned, on_h100.gpus_saved) == (GPU_PLANS[2], GPU_PLANS[3], 4)
    assert on_h100.p05_gpus_saved is on_h100.p95_gpus_saved is None


def test_the_document_of_gpu_plans_by_hand(plan: Plan) -> None:
    document = plan_document(plan)
    assert document["slo"] == {"ttft_ms": pytest.approx(250.0), "e2e_ms": pytest.approx(4000.0)}
    assert (document["percentile"], document["request_rate"]) == (90.0, 5.0)
    assert (document["fewest_gpus"]["gpus"], document["fewest_gpus"]["usd_per_hour"]) == (2, 6.0)
    assert (document["cheapest"]["gpu"], document["cheapest"]["method"]) == ("l40s", "fastv")
    assert document["savings"][0] == {
        "gpu": "l40s",
        "method": "fastv",
        "keep": None,
        "unpruned_gpus": 8,
        "gpus": 4,
        "gpus_saved": 4,
        "gpus_saved_p05": 4.0,
        "gpus_saved_p95": 4.0,
    }
    unpruned, unmet = (answer_row(plan, GPU_PLANS[index]) for index in (0, 5))
    assert (unpruned["gpus_p05"], unpruned["gpus_p95"], unpruned["unmet_draws"]) == (8.0, 10.0, 0)
    assert (unmet["gpus_p05"], unmet["gpus_p95"], unmet["unmet_draws"]) == (5.0, 5.0, 1)
    assert answer_row(plan, GPU_PLANS[4])["tp_size"] is answer_row(plan, GPU_PLANS[2])["unmet_draws"] is None
