"""What a plan is asked."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import field, replace
from functools import cached_property

from asymsim.catalogue.gpu import load_gpu
from asymsim.catalogue.load import load_model
from asymsim.estimator.scenario import Scenario, is_unpruned, unpruned
from asymsim.serving.config import EngineConfig
from asymsim.serving.planning.candidate import Router
from asymsim.serving.power import Tariff
from asymsim.serving.saturation import FEWEST
from asymsim.serving.slo import SloTarget
from asymsim.serving.workload.requests import Requests
from asymsim.serving.workload.spec import LARGEST_NUMBER, NUM_REQUESTS, WorkloadSpec, requests_for
from asymsim.util.errors import InputError
from asymsim.util.strict import strict_dataclass

# Degrees of tensor parallelism that are tried where none is given.
TP_SIZES = (1, 2, 4, 8)
MOST_DRAWS = 1000
# A run must show this many requests beyond the percentile, and last this many times as long as a request takes alone.
BEYOND, LIFETIMES = 40, 20


@strict_dataclass
class PlanQuery:
    """A load, its limits, and what may serve it.

    Attributes
    ----------
    scenarios : tuple of Scenario
        Of one model; one for each way of pruning. Their GPU and ``tp_size`` are not used. Their unpruned twin is put
        first where it is missing.
    gpus : tuple of str
        Names, each once.
    load : Load
        With a rate or a trace. Where it has no number of requests, it follows from the percentile, the rate and how
        long a request takes alone (`number_of_requests`).
    aim : Aim
    tp_sizes : tuple of int, optional
        GPUs that share the model. By default the smallest of 1, 2, 4 and 8 that leaves memory for a cache, and those
        above that divide the attention heads.
    server : Server
    router : {"least_loaded", "round_robin"}
    tariff : Tariff
    draws : int
        Drawn errors of the latency model for the intervals, 20 or more; 0 for none.
    say : callable
        Takes a line on what a trace's form could not keep.
    """

    scenarios: tuple[Scenario, ...]
    gpus: tuple[str, ...]
    load: WorkloadSpec
    aim: SloTarget
    tp_sizes: tuple[int, ...] | None = None
    server: EngineConfig = field(default_factory=EngineConfig)
    router: Router = "least_loaded"
    tariff: Tariff = field(default_factory=Tariff)
    draws: int = 20
    say: Callable[[str], None] = lambda line: None

    def __post_init__(self) -> None:
        if not self.scenarios or len({scenario.model for scenario in self.scenarios}) > 1:
            raise InputError("model", [scenario.model for scenario in self.scenarios], "give scenarios of one model")
        if not any(map(is_unpruned, self.scenarios)):
            object.__setattr__(self, "scenarios", (unpruned(self.scenarios[0]), *self.scenarios))
        if not self.gpus:
            raise InputError("gpu", [], "name one or more")
        if self.load.target_request_rate is None and self.load.trace is None:
            raise InputError("target_request_rate", None, "give requests a second, or a trace")
        if self.load.num_requests is not None and self.load.num_requests < FEWEST:
            remedy = f"give {FEWEST} or more: fewer do not show whether a fleet keeps up"
            raise InputError("num_requests", self.load.num_requests, remedy)
        if self.tp_sizes == ():
            raise InputError("tp_size", [], "give one or more, or leave it out")
        for tp_size in self.tp_sizes or ():
            replace(self.scenarios[0], tp_size=tp_size)
        if self.draws and not 20 <= self.draws <= MOST_DRAWS:
            raise InputError("draws", self.draws, f"give 20 to {MOST_DRAWS}, or 0 for no intervals")
        names = [load_gpu(name).name for name in self.gpus]
        for name in names:
            if names.count(name) > 1:
                raise InputError("gpu", name, "name each once")
        load_model(self.scenarios[0].model)

    @cached_property
    def traced(self) -> Requests | None:
        """The requests of a trace, read once."""
        return None if self.load.trace is None else requests_for(self.load, self.scenarios[0], self.say)

    def requests(self, number: int) -> Requests:
        """The first so many requests; all of a trace. Those of a smaller number are the first of a larger one's."""
        if self.traced is not None:
            return self.traced
        return requests_for(replace(self.load, num_requests=number), self.scenarios[0])

    def number_of_requests(self, alone_s: float) -> int:
        """How many requests to simulate where each takes ``lone_request_s`` from arrival to the last token when alone.

        As many as show 40 beyond the percentile, and as arrive while 20 requests follow each other: most of a shorter
        run would be its beginning. At least 4,000, or what the load says.
        """
        if self.load.num_requests is not None or self.load.target_request_rate is None:
            return self.load.num_requests or NUM_REQUESTS
        beyond = BEYOND / (1.0 - self.aim.percentile / 100)
        needed = max(NUM_REQUESTS, beyond, LIFETIMES * self.load.target_request_rate * alone_s)
        if needed > LARGEST_NUMBER:
            remedy = f"would need {needed:.3g} simulated requests; give a lower rate, or num_requests"
            raise InputError("target_request_rate", self.load.target_request_rate, remedy)
        # 40 of 1 % are 4000, also in floating point.
        return math.ceil(needed - 1e-6)

    @cached_property
    def rate_per_s(self) -> float:
        """Requests that arrive a second.

        Raises
        ------
        InputError
            If a trace's requests all come at once.
        """
        if self.load.target_request_rate is not None:
            return self.load.target_request_rate
        assert self.traced is not None
        span_s = float(self.traced.arrival_s[-1] - self.traced.arrival_s[0])
        if span_s <= 0.0:
            raise InputError("trace", self.load.trace, "sends all at once; give a target_request_rate")
        return (len(self.traced) - 1) / span_s
