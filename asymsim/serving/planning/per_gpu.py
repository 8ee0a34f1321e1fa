"""Plans on one GPU model: the fewest GPUs for each scenario, with and without errors of the latency model."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from asymsim.core.arrays import Array
from asymsim.core.token_counts import TokenCounts
from asymsim.estimator.resolve import resolve
from asymsim.estimator.scenario import Scenario, unpruned
from asymsim.serving.planning.candidate import Candidate, Outcome
from asymsim.serving.planning.latency_uncertainty import class_ratios, standard_normals, time_factors, with_time_errors
from asymsim.serving.planning.query import TP_SIZES, PlanQuery
from asymsim.serving.planning.replica_search import MAX_REPLICAS, ReplicaSearch, fewest_replicas
from asymsim.serving.request_shapes import request_token_counts
from asymsim.serving.workload.requests import Requests
from asymsim.util.errors import InputError, UnsupportedError

# Requests whose mean gives the duration of a request that is served alone.
LONE_REQUESTS = 200
Advance = Callable[[int], None]


@dataclass(frozen=True)
class TpAttempt:
    """One degree of tensor parallelism: the fewest replicas, or the reason why there are none."""

    tp_size: int
    replicas: int | None
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class GpuPlan:
    """The fewest GPUs of one model for one scenario.

    Attributes
    ----------
    scenario : Scenario
        With the GPU, and the degree of tensor parallelism that takes fewest of them.
    attempts : tuple of TpAttempt
    num_requests : int
        Requests that were simulated.
    replicas, gpus : int, optional
        None where no fleet meets the limits.
    reason : str, optional
        Why no fleet meets the limits.
    outcome : Outcome, optional
        Outcome of the fewest replicas.
    sampled_gpus : numpy.ndarray, optional
        The fewest GPUs in each sample of the latency model's error, at this ``tp_size``; infinite where no fleet meets
        the limits. None without samples, or where a time is a bare roofline.
    """

    scenario: Scenario
    attempts: tuple[TpAttempt, ...]
    num_requests: int
    replicas: int | None = None
    reason: str | None = None
    outcome: Outcome | None = None
    sampled_gpus: Array | None = None

    @property
    def gpus(self) -> int | None:
        """GPUs of all replicas."""
        return None if self.replicas is None else self.replicas * self.scenario.tp_size


def plans_on_gpu(query: PlanQuery, gpu: str, advance: Advance = lambda searches: None) -> list[GpuPlan]:
    """The plan of each scenario on one GPU model; ``advance`` is called with the number of searches done."""
    requests = query.requests(query.number_of_requests(lone_request_s(query, gpu)))
    gpu_plans, chosen_candidates = [], []
    for scenario in query.scenarios:
        gpu_plan, candidate = _best_gpu_plan(query, replace(scenario, gpu=gpu), requests)
        gpu_plans.append(gpu_plan)
        chosen_candidates.append(candidate)
        advance(1)
    if not query.samples:
        return gpu_plans
    normals = standard_normals(query.samples, query.workload.seed)
    ratios: dict[int, Array | None] = {}
    for index, (gpu_plan, candidate) in enumerate(zip(gpu_plans, chosen_candidates, strict=True)):
        if candidate is None:
            advance(query.samples)
            continue
        # A pruned scenario and its dense baseline get the same factors, so one typical batch serves both.
        tp_size = gpu_plan.scenario.tp_size
        if tp_size not in ratios:
            ratios[tp_size] = class_ratios(candidate.resolved, _typical_token_counts(candidate, gpu_plan))
        sampled_gpus = _sampled_gpus(query, candidate, gpu_plan, ratios[tp_size], normals, advance)
        gpu_plans[index] = replace(gpu_plan, sampled_gpus=sampled_gpus)
    return gpu_plans


def candidates_by_tp(query: PlanQuery, scenario: Scenario, requests: Requests) -> Iterator[tuple[int, Candidate | str]]:
    """A candidate for each degree of tensor parallelism, or the reason why there is none."""
    for tp_size in query.tp_sizes or TP_SIZES:
        try:
            resolved = resolve(replace(scenario, tp_size=tp_size))
        except UnsupportedError as error:
            yield tp_size, f"not for this model: {error.remedy}"
            continue
        except InputError as error:
            if error.field == "dtype" or (error.field == "tp_size" and query.tp_sizes is None):
                yield tp_size, str(error)
                continue
            raise
        candidate = Candidate.create(resolved, requests, query.engine_config, query.router, query.slo_target)
        yield tp_size, candidate if candidate.fits_memory else "no memory for a cache beside the weights"


def lone_request_s(query: PlanQuery, gpu: str) -> float:
    """Mean end-to-end latency of an unpruned request alone, on as few GPUs as it fits on; 0 where it fits on none."""
    requests = query.requests(LONE_REQUESTS).take(slice(LONE_REQUESTS))
    for _, candidate in candidates_by_tp(query, replace(unpruned(query.scenarios[0]), gpu=gpu), requests):
        if isinstance(candidate, Candidate):
            e2e_s = candidate.one_at_a_time().result.e2e_s
            return float(np.nanmean(e2e_s)) if np.isfinite(e2e_s).any() else 0.0
    return 0.0


def _best_gpu_plan(query: PlanQuery, scenario: Scenario, requests: Requests) -> tuple[GpuPlan, Candidate | None]:
    """The plan at the degree of tensor parallelism that takes fewest GPUs, and its candidate."""
    attempts: list[TpAttempt] = []
    reason: str | None = None
    best: tuple[int, ReplicaSearch, Candidate] | None = None
    for tp_size, candidate in candidates_by_tp(query, scenario, requests):
        if isinstance(candidate, str):
            attempts.append(TpAttempt(tp_size, None, candidate))
            continue
        max_replicas = MAX_REPLICAS
        if best is not None:
            # As many GPUs as are known to be enough are no improvement.
            max_replicas = (best[0] * (best[1].replicas or 0) - 1) // tp_size
        if max_replicas < 1:
            attempts.append(TpAttempt(tp_size, None, "no fewer GPUs"))
            continue
        search = fewest_replicas(candidate, query.rate_per_s, max_replicas, explain=best is None)
        attempts.append(TpAttempt(tp_size, search.replicas, search.reason))
        reason = search.reason
        if search.replicas is not None:
            best = tp_size, search, candidate
    plan_without_fleet = GpuPlan(scenario=scenario, attempts=tuple(attempts), num_requests=len(requests))
    if best is None:
        # The reason at the highest degree that was simulated, or else why none could be.
        return replace(plan_without_fleet, reason=reason or attempts[-1].reason), None
    tp_size, search, candidate = best
    scenario = replace(scenario, tp_size=tp_size)
    return replace(plan_without_fleet, scenario=scenario, replicas=search.replicas, outcome=search.outcome), candidate


def _typical_token_counts(candidate: Candidate, gpu_plan: GpuPlan) -> Array:
    """Token counts of the served request of median length, in a batch of the plan's mean size."""
    assert gpu_plan.outcome is not None
    assert gpu_plan.replicas is not None
    result = gpu_plan.outcome.result
    token_counts, shape_of = request_token_counts(candidate.resolved, candidate.requests, candidate.engine_config)
    shape_of = shape_of[np.isfinite(result.e2e_s)]
    columns = [TokenCounts._fields.index(name) for name in ("visual_tokens", "text_tokens", "output_tokens")]
    tokens_per_request = token_counts[shape_of][:, columns].sum(axis=1)
    median_request = np.argsort(tokens_per_request, kind="stable")[len(tokens_per_request) // 2]
    typical: Array = token_counts[shape_of[median_request]].copy()
    # Little's law: mean requests in flight are the sum of their latencies over the run's duration.
    in_flight = float(np.nansum(result.e2e_s)) / max(result.end_s, 1e-9) / gpu_plan.replicas
    typical[TokenCounts._fields.index("batch_size")] = max(1, round(in_flight))
    return typical


def _sampled_gpus(
    query: PlanQuery, candidate: Candidate, gpu_plan: GpuPlan, ratios: Array | None, normals: Array, advance: Advance
) -> Array | None:
    """The fewest GPUs in each sample of the latency model's error; each search begins at the plan's replicas."""
    if ratios is None:
        advance(len(normals))
        return None
    assert gpu_plan.replicas is not None
    gpus = np.empty(len(normals))
    for index, factors in enumerate(time_factors(ratios, normals)):
        perturbed = candidate.with_scenario(with_time_errors(candidate.resolved, factors))
        search = fewest_replicas(perturbed, query.rate_per_s, start=gpu_plan.replicas)
        gpus[index] = math.inf if search.replicas is None else search.replicas * gpu_plan.scenario.tp_size
        advance(1)
    return gpus
