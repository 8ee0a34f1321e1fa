"""One setting and its requests, to be served by any number of replicas and judged by the limits of a plan."""

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
# Enough to fill the largest batch twice, for a first guess of what a replica serves.
FIRST = 512


@dataclass(frozen=True)
class Outcome:
    """A simulation against an `SloTarget`.

    Attributes
    ----------
    served : Served
    values_s : mapping of str to float
        ``ttft_s``, ``tpot_s``, ``e2e_s`` at the percentile of all requests; a refused one takes for ever.
    missed : tuple of str
        The limits that are not met.
    saturated : bool, optional
        None where the run is too short to tell.
    refused : mapping of str to int
        Requests that a server would not take, by the reason.
    """

    served: SimulationResult
    values_s: Mapping[str, float]
    missed: tuple[str, ...]
    saturated: bool | None
    refused: Mapping[str, int]

    @property
    def meets(self) -> bool:
        """Whether all limits are met by a fleet that is seen to keep up."""
        return not self.missed and self.saturated is False


def outcome_of(served: SimulationResult, aim: SloTarget) -> Outcome:
    """Hold a simulation against an aim; a request of one token has no TPOT and meets any limit of it."""
    done, output = served.status == DONE, served.requests.output_tokens
    ttft = np.where(done, served.ttft_s, math.inf)
    e2e = np.where(done, served.e2e_s, math.inf)
    tpot = np.full(len(done), math.inf)
    tpot[done] = (e2e[done] - ttft[done]) / np.maximum(output[done] - 1, 1)
    values_s = {"ttft_s": aim.at(ttft), "tpot_s": aim.at(tpot), "e2e_s": aim.at(e2e)}
    return Outcome(
        served=served,
        values_s=values_s,
        missed=tuple(name for name, limit in aim.slo.given.items() if not values_s[name] <= limit),
        saturated=backlog_of(served).saturated,
        refused={
            reason: number
            for code, reason in enumerate(STATUS)
            if code not in (DONE, UNFINISHED) and (number := int((served.status == code).sum()))
        },
    )


@dataclass(frozen=True)
class Candidate:
    """What is served by what; all its runs have the same requests, so they differ in nothing but the fleet."""

    bound: ResolvedScenario
    requests: Requests
    kinds: RequestClasses
    server: EngineConfig
    router: Router
    aim: SloTarget

    @classmethod
    def of(
        cls, bound: ResolvedScenario, requests: Requests, server: EngineConfig, router: Router, aim: SloTarget
    ) -> Candidate:
        """A trial with the kinds of its requests, which no fleet changes."""
        return cls(bound, requests, request_classes(bound, requests, server), server, router, aim)

    def on(self, bound: ResolvedScenario) -> Candidate:
        """The same requests under another setting."""
        return Candidate.of(bound, self.requests, self.server, self.router, self.aim)

    def faster(self, times: float) -> Candidate:
        """The same requests, which come so many times as fast."""
        return replace(self, requests=replace(self.requests, arrival_s=self.requests.arrival_s / times))

    @property
    def fits(self) -> bool:
        """Whether weights and activations leave memory for a cache."""
        try:
            capacity_of(self.bound, self.server, ClusterConfig(), self.kinds.activation_bytes)
        except InputError as error:
            if error.field != "gpu":
                raise
            return False
        return True

    def run(self, replicas: int) -> Outcome:
        """Serve the requests by a fleet."""
        return self._served(ClusterConfig(replicas=replicas, router=self.router))

    def alone(self) -> Outcome:
        """Serve them one at a time, each when the one before is done: no fleet is quicker."""
        return self._served(ClusterConfig(concurrency=1))

    def _served(self, fleet: ClusterConfig) -> Outcome:
        return outcome_of(simulate_classes(self.bound, self.kinds, self.requests, self.server, fleet), self.aim)

    def capacity_per_s(self) -> float:
        """Requests a second that one replica serves of the first ones if all are there at once; a first guess."""
        first = self.requests.take(slice(FIRST))
        first = replace(first, arrival_s=np.zeros(len(first)))
        kinds = self.kinds._replace(of=self.kinds.of[:FIRST], visual_tokens=self.kinds.visual_tokens[:FIRST])
        served = simulate_classes(self.bound, kinds, first, self.server, ClusterConfig())
        done = int((served.status == DONE).sum())
        return done / served.end_s if done and served.end_s > 0.0 else math.inf
