"""Goodput curves: requests that meet the limits against the request rate, and the largest sustained rate."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from asymsim.estimator.scenario import Scenario
from asymsim.serving.metrics import serving_metrics
from asymsim.serving.planning.bisection import largest
from asymsim.serving.planning.candidate import Candidate, Outcome
from asymsim.serving.planning.per_gpu import GpuPlan, candidates_by_tp, lone_request_s
from asymsim.serving.planning.plan import Plan
from asymsim.serving.planning.query import PlanQuery

# Even rates up to a margin above the largest sustained rate of any method, and for each method a few rates just above
# its sustained rate, where goodput falls.
NUM_RATES, RATE_MARGIN = 10, 1.3
RATES_PAST_SUSTAINED = (1.02, 1.05, 1.1, 1.15, 1.2, 1.3)
# Relative tolerance of the sustained rate.
TOLERANCE = 0.01


@dataclass(frozen=True)
class GoodputPoint:
    """Goodput at one request rate, in requests a second and as a share; None where the backlog grows."""

    request_rate: float
    request_goodput: float | None
    slo_share: float | None
    outcome: Outcome


@dataclass(frozen=True)
class GoodputCurve:
    """Goodput of a fleet against the request rate.

    Attributes
    ----------
    scenario : Scenario
    replicas : int
    num_requests : int
        Requests that were simulated at each rate.
    sustained_rate : float, optional
        The largest request rate at which the limits are met at the percentile, within 1 %; None where no rate does.
    points : tuple of GoodputPoint
        In order of the rate.
    """

    scenario: Scenario
    replicas: int
    num_requests: int
    sustained_rate: float | None
    points: tuple[GoodputPoint, ...]


def sustained_rate(candidate: Candidate, rate_per_s: float, replicas: int = 1) -> float | None:
    """The largest request rate at which the target is met while a rate 1 % higher misses it; None if no rate meets it.

    Parameters
    ----------
    candidate : Candidate
    rate_per_s : float
        Arrival rate of its requests; other rates are the same requests, closer or farther apart.
    replicas : int
    """

    def is_sustained(rate: float) -> bool:
        return candidate.sped_up(rate / rate_per_s).run(replicas).meets_target

    if candidate.one_at_a_time().missed_limits:
        return None
    start = replicas * candidate.full_batch_rate_per_s()
    return largest(is_sustained, start, TOLERANCE) if np.isfinite(start) else None


def goodput_curves(plan: Plan, *, replicas: int = 1, workers: int | None = None) -> list[GoodputCurve]:
    """Goodput curves of a plan, one for each of its GPU plans, at the tensor parallelism of that plan.

    Parameters
    ----------
    plan : Plan
    replicas : int
        Replicas of the fleet.
    workers : int, optional
        Threads, each for one GPU model; as many as cores by default.
    """
    by_gpu = [[gpu_plan for gpu_plan in plan.gpu_plans if gpu_plan.scenario.gpu == gpu] for gpu in plan.query.gpus]
    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        curves_by_gpu = list(pool.map(lambda gpu_plans: _curves_on_gpu(plan.query, gpu_plans, replicas), by_gpu))
    return [curve for curves in curves_by_gpu for curve in curves]


@dataclass(frozen=True)
class _CurveInput:
    """A candidate whose requests arrive at ``rate_per_s``, as many as its highest rate needs."""

    scenario: Scenario
    candidate: Candidate
    rate_per_s: float


def _curves_on_gpu(query: PlanQuery, gpu_plans: list[GpuPlan], replicas: int) -> list[GoodputCurve]:
    """Curves on one GPU model, at common rates."""
    inputs = [item for gpu_plan in gpu_plans if (item := _curve_input(query, gpu_plan, replicas)) is not None]
    sustained = [sustained_rate(item.candidate, item.rate_per_s, replicas) for item in inputs]
    highest = [rate for rate in sustained if rate is not None]
    highest = highest or [replicas * item.candidate.full_batch_rate_per_s() for item in inputs] or [1.0]
    last_rate = RATE_MARGIN * max(highest)
    curves = []
    for item, rate in zip(inputs, sustained, strict=True):
        rates = {last_rate * (index + 1) / NUM_RATES for index in range(NUM_RATES)}
        if rate is not None:
            rates |= {rate, *(rate * factor for factor in RATES_PAST_SUSTAINED)}
        points = tuple(_point(item, point_rate, replicas) for point_rate in sorted(rates) if point_rate <= last_rate)
        curves.append(GoodputCurve(item.scenario, replicas, len(item.candidate.requests), rate, points))
    return curves


def _curve_input(query: PlanQuery, gpu_plan: GpuPlan, replicas: int) -> _CurveInput | None:
    """The input of a plan's curve; None where no tensor parallelism fits."""
    tp_sizes = query.tp_sizes if gpu_plan.gpus is None else (gpu_plan.scenario.tp_size,)
    query = replace(query, tp_sizes=tp_sizes)
    for tp_size, planned in candidates_by_tp(query, gpu_plan.scenario, query.requests(gpu_plan.num_requests)):
        if isinstance(planned, Candidate):
            workload = query.workload
            if workload.trace is None:
                full_batch_rate = replicas * min(planned.full_batch_rate_per_s(), 1e6)
                workload = replace(workload, target_request_rate=full_batch_rate)
            full_batch_query = replace(query, workload=workload)
            count = full_batch_query.number_of_requests(lone_request_s(query, gpu_plan.scenario.gpu))
            requests = full_batch_query.requests(count)
            candidate = Candidate.create(
                planned.resolved, requests, query.engine_config, query.router, query.slo_target
            )
            return _CurveInput(replace(gpu_plan.scenario, tp_size=tp_size), candidate, full_batch_query.rate_per_s)
    return None


def _point(curve_input: _CurveInput, rate: float, replicas: int) -> GoodputPoint:
    candidate = curve_input.candidate
    outcome = candidate.sped_up(rate / curve_input.rate_per_s).run(replicas)
    metrics = serving_metrics(outcome.result, candidate.target.slo)
    return GoodputPoint(rate, metrics.rates["request_goodput"], metrics.shares["slo_share"], outcome)
