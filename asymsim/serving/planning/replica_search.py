"""Search for the fewest replicas that meet a latency target, or for the reason why no number of them does."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from asymsim.serving.planning.bisection import fewest
from asymsim.serving.planning.candidate import Candidate, Outcome
from asymsim.serving.saturation import FIRST_REQUESTS, MAX_SERVICE_SHARE, MIN_REQUESTS
from asymsim.serving.slo import SloTarget
from asymsim.util.units import MILLI

# The search ends here.
MAX_REPLICAS = 4096


@dataclass(frozen=True)
class ReplicaSearch:
    """The fewest replicas of a candidate and their outcome, or the reason why no number meets the target."""

    replicas: int | None
    outcome: Outcome | None
    reason: str | None


def fewest_replicas(
    candidate: Candidate,
    rate_per_s: float,
    max_replicas: int = MAX_REPLICAS,
    *,
    start: int | None = None,
    explain: bool = True,
) -> ReplicaSearch:
    """The fewest replicas that meet the target of a candidate.

    Parameters
    ----------
    candidate : Candidate
    rate_per_s : float
        Arrival rate of its requests.
    max_replicas : int
        Upper end of the search, from 1.
    start : int, optional
        Number tried first; by default the replicas that would serve the rate with full batches.
    explain : bool
        Whether to serve the requests one at a time where the first number fails, to see whether any number can do.
    """
    if start is None:
        start = math.floor(rate_per_s / candidate.full_batch_rate_per_s())
    start = max(1, min(start, max_replicas))
    first_outcome = candidate.run(start)
    if explain and not first_outcome.meets_target:
        reason = infeasibility_reason(candidate.one_at_a_time(), candidate.target)
        if reason is not None:
            return ReplicaSearch(None, None, reason)
    last_met = first_outcome if first_outcome.meets_target else None

    def is_enough(replicas: int) -> bool:
        nonlocal last_met
        outcome = first_outcome if replicas == start else candidate.run(replicas)
        if outcome.meets_target:
            last_met = outcome
        return outcome.meets_target

    replicas = fewest(is_enough, start, max_replicas)
    if replicas is None:
        reason = f"{max_replicas} replicas are not enough" if max_replicas == MAX_REPLICAS else "no fewer GPUs"
        return ReplicaSearch(None, None, reason)
    return ReplicaSearch(replicas, last_met, None)


def infeasibility_reason(one_at_a_time: Outcome, target: SloTarget) -> str | None:
    """Why no fleet can meet the target, from the latencies of one request at a time; None where one may."""
    result = one_at_a_time.result
    if not one_at_a_time.missed_limits:
        span_s = float(np.ptp(result.requests.arrival_s))
        completed = np.isfinite(result.e2e_s)
        lone_s = float(np.median(result.e2e_s[completed][:FIRST_REQUESTS]))
        if completed.sum() >= MIN_REQUESTS and lone_s <= MAX_SERVICE_SHARE * span_s:
            return None
        return (
            f"{len(result.status)} requests in {span_s:.3g} s, each of {lone_s:.3g} s alone, do not show "
            "whether a fleet keeps up; send more"
        )
    num_refused = sum(one_at_a_time.refused.values())
    if num_refused > (1.0 - target.percentile / 100) * len(result.status):
        reasons = ", ".join(f"{number} {reason.replace('_', ' ')}" for reason, number in one_at_a_time.refused.items())
        return f"{num_refused} of {len(result.status)} requests are refused, and count as missed: {reasons}"
    missed_limit = one_at_a_time.missed_limits[0]
    value, limit = one_at_a_time.percentiles_s[missed_limit] / MILLI, target.slo.limits_s[missed_limit] / MILLI
    name = missed_limit.removesuffix("_s")
    return f"{name}: p{target.percentile:g} is {value:.4g} ms even one request at a time, the limit {limit:g} ms"
