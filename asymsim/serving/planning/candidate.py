"""Candidate deployment of a plan: a scenario and its requests, simulated on fleets of any size and held to the SLO."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from asymsim.core.serving.layout import DONE, STATUS, UNFINISHED
from asymsim.estimator.resolve import ResolvedScenario
from asymsim.serving.capacity import capacity_of
from asymsim.serving.config import ClusterConfig, EngineConfig
from asymsim.serving.request_classes import RequestClasses, request_classes
from asymsim.serving.results import SimulationResult
from asymsim.serving.saturation import backlog_of
from asymsim.serving.simulate import simulate_classes
from asymsim.serving.slo import SloTarget
from asymsim.serving.workload.requests import Requests
from asymsim.util.errors import InputError

Router = Literal["round_robin", "least_loaded"]
# Requests that estimate the rate of a full batch: they fill the largest default batch of a small GPU twice.
FULL_BATCH_REQUESTS = 512


@dataclass(frozen=True)
class Outcome:
    """A simulation judged by an `SloTarget`.

    Attributes
    ----------
    result : SimulationResult
    percentiles_s : mapping of str to float
        ``ttft_s``, ``tpot_s``, ``e2e_s`` at the percentile of all requests; infinite for a refused request.
    missed_limits : tuple of str
        The latency limits that are not met.
    saturated : bool, optional
        Whether the backlog keeps growing; None where the run is too short to tell.
    refused : mapping of str to int
        Requests that a server would refuse, by the reason.
    """

    result: SimulationResult
    percentiles_s: Mapping[str, float]
    missed_limits: tuple[str, ...]
    saturated: bool | None
    refused: Mapping[str, int]

    @property
    def meets_target(self) -> bool:
        """Whether all limits are met and the fleet is seen to keep up."""
        return not self.missed_limits and self.saturated is False


def outcome_of(result: SimulationResult, target: SloTarget) -> Outcome:
    """Outcome of a simulation under a target; a request of one output token has no TPOT and meets any limit on it."""
    done, output = result.status == DONE, result.requests.output_tokens
    ttft = np.where(done, result.ttft_s, math.inf)
    e2e = np.where(done, result.e2e_s, math.inf)
    tpot = np.full(len(done), math.inf)
    tpot[done] = (e2e[done] - ttft[done]) / np.maximum(output[done] - 1, 1)
    latencies = {"ttft_s": ttft, "tpot_s": tpot, "e2e_s": e2e}
    percentiles_s = {name: target.percentile_of(values) for name, values in latencies.items()}
    return Outcome(
        result=result,
        percentiles_s=percentiles_s,
        missed_limits=tuple(name for name, limit in target.slo.limits_s.items() if not percentiles_s[name] <= limit),
        saturated=backlog_of(result).saturated,
        refused={
            reason: number
            for code, reason in enumerate(STATUS)
            if code not in (DONE, UNFINISHED) and (number := int((result.status == code).sum()))
        },
    )


@dataclass(frozen=True)
class Candidate:
    """A scenario, its requests and a target; runs of one candidate differ in the fleet alone."""

    resolved: ResolvedScenario
    requests: Requests
    classes: RequestClasses
    engine_config: EngineConfig
    router: Router
    target: SloTarget

    @classmethod
    def create(
        cls,
        resolved: ResolvedScenario,
        requests: Requests,
        engine_config: EngineConfig,
        router: Router,
        target: SloTarget,
    ) -> Candidate:
        """A candidate with the classes of its requests, which no fleet changes."""
        classes = request_classes(resolved, requests, engine_config)
        return cls(resolved, requests, classes, engine_config, router, target)

    def with_scenario(self, resolved: ResolvedScenario) -> Candidate:
        """The same requests under another scenario."""
        return Candidate.create(resolved, self.requests, self.engine_config, self.router, self.target)

    def sped_up(self, factor: float) -> Candidate:
        """The same requests at ``factor`` times their arrival rate."""
        return replace(self, requests=replace(self.requests, arrival_s=self.requests.arrival_s / factor))

    @property
    def fits_memory(self) -> bool:
        """Whether weights and activations leave memory for a cache."""
        try:
            capacity_of(self.resolved, self.engine_config, ClusterConfig(), self.classes.activation_bytes)
        except InputError as error:
            if error.field != "gpu":
                raise
            return False
        return True

    def run(self, replicas: int) -> Outcome:
        """Outcome on a fleet of so many replicas."""
        return self._outcome(ClusterConfig(replicas=replicas, router=self.router))

    def one_at_a_time(self) -> Outcome:
        """Outcome of one request in flight at a time: no fleet has lower latencies."""
        return self._outcome(ClusterConfig(concurrency=1))

    def _outcome(self, cluster_config: ClusterConfig) -> Outcome:
        result = simulate_classes(self.resolved, self.classes, self.requests, self.engine_config, cluster_config)
        return outcome_of(result, self.target)

    def full_batch_rate_per_s(self) -> float:
        """Requests a second that one replica completes of the first ones, all sent at once; where a search begins."""
        first = self.requests.take(slice(FULL_BATCH_REQUESTS))
        count = len(first)
        requests = replace(first, arrival_s=np.zeros(count))
        classes = self.classes._replace(
            class_of=self.classes.class_of[:count], visual_tokens=self.classes.visual_tokens[:count]
        )
        result = simulate_classes(self.resolved, classes, requests, self.engine_config, ClusterConfig())
        done = int((result.status == DONE).sum())
        return done / result.end_s if done and result.end_s > 0.0 else math.inf
