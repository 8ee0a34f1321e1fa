"""The fewest replicas that meet the limits, or why no number of them does."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from asymsim.serving.planning.bisection import fewest
from asymsim.serving.planning.candidate import Candidate, Outcome
from asymsim.serving.saturation import FEWEST, FIRST, LONGEST_SHARE
from asymsim.serving.slo import SloTarget
from asymsim.util.units import MILLI

# A fleet of more replicas is not looked for.
MOST_REPLICAS = 4096


@dataclass(frozen=True)
class ReplicaSearch:
    """The fewest replicas of a trial and what they did, or why no number is enough."""

    replicas: int | None
    outcome: Outcome | None
    why: str | None


def fewest_replicas(
    trial: Candidate, rate_per_s: float, most: int = MOST_REPLICAS, *, start: int | None = None, explain: bool = True
) -> ReplicaSearch:
    """The fewest replicas that meet the limits.

    Parameters
    ----------
    trial : Trial
    rate_per_s : float
        At which its requests come.
    most : int
        Replicas at most, from 1.
    start : int, optional
        Where to begin; by default what serves the rate if all batches were full.
    explain : bool
        Whether to ask first if any number can do.
    """
    if start is None:
        start = math.floor(rate_per_s / trial.capacity_per_s())
    start = max(1, min(start, most))
    first = trial.run(start)
    if explain and not first.meets and (why := never(trial.alone(), trial.aim)) is not None:
        return ReplicaSearch(None, None, why)
    met = first if first.meets else None

    def enough(replicas: int) -> bool:
        nonlocal met
        outcome = first if replicas == start else trial.run(replicas)
        if outcome.meets:
            met = outcome
        return outcome.meets

    replicas = fewest(enough, start, most)
    if replicas is None:
        return ReplicaSearch(
            None, None, f"{most} replicas are not enough" if most == MOST_REPLICAS else "no fewer GPUs"
        )
    return ReplicaSearch(replicas, met, None)


def never(alone: Outcome, aim: SloTarget) -> str | None:
    """Why no fleet can meet the limits, from what requests take one at a time; None where one may."""
    served = alone.served
    if not alone.missed:
        span_s = float(np.ptp(served.requests.arrival_s))
        taken = np.isfinite(served.e2e_s)
        first_s = float(np.median(served.e2e_s[taken][:FIRST]))
        if taken.sum() >= FEWEST and first_s <= LONGEST_SHARE * span_s:
            return None
        return (
            f"{len(served.status)} requests in {span_s:.3g} s, of which one takes {first_s:.3g} s alone, do not show "
            "whether a fleet keeps up; send more"
        )
    refused = sum(alone.refused.values())
    if refused > (1.0 - aim.percentile / 100) * len(served.status):
        reasons = ", ".join(f"{number} {reason.replace('_', ' ')}" for reason, number in alone.refused.items())
        return f"{refused} of {len(served.status)} requests are refused, and count as missed: {reasons}"
    missed = alone.missed[0]
    value, limit = alone.values_s[missed] / MILLI, aim.slo.given[missed] / MILLI
    name = missed.removesuffix("_s")
    return f"{name}: p{aim.percentile:g} is {value:.4g} ms even one request at a time, the limit {limit:g} ms"
