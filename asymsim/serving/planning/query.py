"""Query of a plan: scenarios, GPUs, a workload and its latency target."""

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
from asymsim.serving.saturation import MIN_REQUESTS
from asymsim.serving.slo import SloTarget
from asymsim.serving.workload.requests import Requests
from asymsim.serving.workload.spec import MAX_REQUESTS, NUM_REQUESTS, WorkloadSpec, requests_for
from asymsim.util.errors import InputError
from asymsim.util.strict import strict_dataclass

# Degrees of tensor parallelism that are tried where none is given.
TP_SIZES = (1, 2, 4, 8)
MAX_SAMPLES = 1000
# A run must have this many requests beyond the percentile, and last this many times the latency of a lone request.
REQUESTS_BEYOND_PERCENTILE, LIFETIMES = 40, 20


@strict_dataclass
class PlanQuery:
    """A workload, its latency target, and the scenarios and GPUs that may serve it.

    Attributes
    ----------
    scenarios : tuple of Scenario
        Scenarios of one model, one for each pruning method. Their GPU and ``tp_size`` are not used. The dense
        baseline is put first where it is missing.
    gpus : tuple of str
        Catalogue names, each once.
    workload : WorkloadSpec
        A workload with a rate or a trace. Where it has no number of requests, the number follows from the percentile,
        the rate and the latency of a lone request (`number_of_requests`).
    slo_target : SloTarget
    tp_sizes : tuple of int, optional
        GPUs that share the model. By default the smallest of 1, 2, 4 and 8 that leaves memory for a cache, and those
        above that divide the attention heads.
    engine_config : EngineConfig
    router : {"least_loaded", "round_robin"}
    tariff : Tariff
    samples : int
        Samples of the latency model's error for the intervals, 20 or more; 0 for none.
    notify : callable
        Called with a line of text about each loss in reading a trace.
    """

    scenarios: tuple[Scenario, ...]
    gpus: tuple[str, ...]
    workload: WorkloadSpec
    slo_target: SloTarget
    tp_sizes: tuple[int, ...] | None = None
    engine_config: EngineConfig = field(default_factory=EngineConfig)
    router: Router = "least_loaded"
    tariff: Tariff = field(default_factory=Tariff)
    samples: int = 20
    notify: Callable[[str], None] = lambda line: None

    def __post_init__(self) -> None:
        if not self.scenarios or len({scenario.model for scenario in self.scenarios}) > 1:
            raise InputError("model", [scenario.model for scenario in self.scenarios], "give scenarios of one model")
        if not any(map(is_unpruned, self.scenarios)):
            object.__setattr__(self, "scenarios", (unpruned(self.scenarios[0]), *self.scenarios))
        if not self.gpus:
            raise InputError("gpu", [], "name one or more")
        if self.workload.target_request_rate is None and self.workload.trace is None:
            raise InputError("target_request_rate", None, "give requests a second, or a trace")
        if self.workload.num_requests is not None and self.workload.num_requests < MIN_REQUESTS:
            remedy = f"give {MIN_REQUESTS} or more: fewer do not show whether a fleet keeps up"
            raise InputError("num_requests", self.workload.num_requests, remedy)
        if self.tp_sizes == ():
            raise InputError("tp_size", [], "give one or more, or leave it out")
        for tp_size in self.tp_sizes or ():
            replace(self.scenarios[0], tp_size=tp_size)
        if self.samples and not 20 <= self.samples <= MAX_SAMPLES:
            raise InputError("samples", self.samples, f"give 20 to {MAX_SAMPLES}, or 0 for no intervals")
        names = [load_gpu(name).name for name in self.gpus]
        for name in names:
            if names.count(name) > 1:
                raise InputError("gpu", name, "name each once")
        load_model(self.scenarios[0].model)

    @cached_property
    def trace_requests(self) -> Requests | None:
        """Requests of the trace, read once; None without a trace."""
        return None if self.workload.trace is None else requests_for(self.workload, self.scenarios[0], self.notify)

    def requests(self, number: int) -> Requests:
        """The first ``number`` requests, or all of a trace; a larger number adds requests at the end."""
        if self.trace_requests is not None:
            return self.trace_requests
        return requests_for(replace(self.workload, num_requests=number), self.scenarios[0])

    def number_of_requests(self, lone_s: float) -> int:
        """Number of requests to simulate where a lone request has the end-to-end latency ``lone_s``.

        It has 40 requests beyond the percentile, and arrivals for 20 times ``lone_s``: a shorter run would be mostly
        its warm-up. At least 4,000, or the workload's own number.
        """
        if self.workload.num_requests is not None or self.workload.target_request_rate is None:
            return self.workload.num_requests or NUM_REQUESTS
        beyond = REQUESTS_BEYOND_PERCENTILE / (1.0 - self.slo_target.percentile / 100)
        needed = max(NUM_REQUESTS, beyond, LIFETIMES * self.workload.target_request_rate * lone_s)
        if needed > MAX_REQUESTS:
            remedy = f"would need {needed:.3g} simulated requests; give a lower rate, or num_requests"
            raise InputError("target_request_rate", self.workload.target_request_rate, remedy)
        # 40 requests beyond the 99th percentile are 4000 in all, also in floating point.
        return math.ceil(needed - 1e-6)

    @cached_property
    def rate_per_s(self) -> float:
        """Arrival rate in requests a second.

        Raises
        ------
        InputError
            If a trace's requests all arrive at once.
        """
        if self.workload.target_request_rate is not None:
            return self.workload.target_request_rate
        assert self.trace_requests is not None
        span_s = float(self.trace_requests.arrival_s[-1] - self.trace_requests.arrival_s[0])
        if span_s <= 0.0:
            raise InputError("trace", self.workload.trace, "sends all at once; give a target_request_rate")
        return (len(self.trace_requests) - 1) / span_s
