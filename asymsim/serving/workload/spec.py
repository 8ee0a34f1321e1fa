"""Specification of a workload: its fields are flags of the command line and arguments of a Python call."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from asymsim.estimator.scenario import Scenario
from asymsim.util.errors import InputError
from asymsim.util.strict import strict_dataclass

if TYPE_CHECKING:
    from asymsim.core.arrays import Array
    from asymsim.serving.workload.arrivals import Arrivals
    from asymsim.serving.workload.requests import Requests

# Enough to detect an offered load of 1.1 times the capacity in 9 of 10 runs (`saturation.backlog`).
NUM_REQUESTS = 4000
MAX_REQUESTS = 10**8


@strict_dataclass
class WorkloadSpec:
    """Requests of a mix, all alike, or of a trace, at a rate or at the trace's times.

    Attributes
    ----------
    target_request_rate : float, optional
        Requests a second. Without a rate and a trace all requests arrive at once, up to the concurrency limit.
    arrival : {"poisson", "gamma", "constant"}
        Gaps between requests: exponential; gamma, by the burstiness; all equal.
    burstiness : float
        Shape of the gamma gaps, as in vllm bench serve: 1 is Poisson, below 1 burstier, above 1 more even.
    num_requests : int, optional
        Requests to send; 4000 by default, or the whole trace.
    seed : int
        Seed of the arrivals and of the mix.
    workload : str, optional
        Name of a mix, or a TOML file. By default all requests are alike, as in the scenario.
    trace : str, optional
        File of requests in place of a mix. A rate replaces its times; where it says nothing of images, the scenario's
        are used, none by default.
    rate_scale : float
        Speed-up of a trace's times over the recorded ones.
    """

    target_request_rate: float | None = None
    arrival: Literal["poisson", "gamma", "constant"] = "poisson"
    burstiness: float = 1.0
    num_requests: int | None = None
    seed: int = 0
    workload: str | None = None
    trace: str | None = None
    rate_scale: float = 1.0

    def __post_init__(self) -> None:
        if self.target_request_rate is not None and not 0.0 < self.target_request_rate < math.inf:
            raise InputError("target_request_rate", self.target_request_rate, "give requests a second above 0")
        if self.num_requests is not None and not 1 <= self.num_requests <= MAX_REQUESTS:
            raise InputError("num_requests", self.num_requests, f"give a whole number from 1 to {MAX_REQUESTS}")
        if self.rate_scale != 1.0 and (self.trace is None or self.target_request_rate is not None):
            remedy = "belongs to a trace at its recorded times; give a rate or this"
            raise InputError("rate_scale", self.rate_scale, remedy)
        if self.trace is not None and self.workload is not None:
            raise InputError("workload", self.workload, "the trace has token counts already; give one of the two")


def requests_for(
    workload: WorkloadSpec, scenario: Scenario, notify: Callable[[str], None] = lambda line: None
) -> Requests:
    """Requests of a workload; requests that are all alike have the scenario's images, text and output.

    Parameters
    ----------
    workload : WorkloadSpec
    scenario : Scenario
    notify : callable
        Called with a line of text about each loss: rows of a trace that are skipped, or images that the model lacks.

    Raises
    ------
    InputError
        If a file cannot be read, or a value is out of range.
    """
    if workload.trace is not None:
        return _supported(_trace_requests(workload, scenario, notify), scenario, notify)
    arrival_s = _arrivals(workload).times(workload.num_requests or NUM_REQUESTS)
    if workload.workload is None:
        return _fixed_requests(arrival_s, scenario)
    from asymsim.serving.workload.mix_file import load_mix

    return _supported(load_mix(workload.workload).sample(arrival_s, workload.seed), scenario, notify)


def _supported(requests: Requests, scenario: Scenario, notify: Callable[[str], None]) -> Requests:
    """Requests without their images, where the model takes none."""
    from asymsim.catalogue.load import load_model
    from asymsim.serving.workload.requests import make_requests

    if load_model(scenario.model).image_rule is not None or not requests.num_images.any():
        return requests
    with_images = int((requests.num_images > 0).sum())
    notify(f"{scenario.model} takes no images: left out those of {_counted(with_images, 'request')}")
    return make_requests(
        requests.arrival_s, text_tokens=requests.text_tokens, output_tokens=requests.output_tokens, num_images=0
    )


def _arrivals(workload: WorkloadSpec) -> Arrivals:
    from asymsim.serving.workload.arrivals import Arrivals

    if workload.target_request_rate is None:
        return Arrivals(rate=math.inf, process="constant")
    return Arrivals(
        rate=workload.target_request_rate, process=workload.arrival, burstiness=workload.burstiness, seed=workload.seed
    )


def _trace_requests(workload: WorkloadSpec, scenario: Scenario, notify: Callable[[str], None]) -> Requests:
    from asymsim.serving.workload.requests import TYPICAL
    from asymsim.serving.workload.traces.reader import read_trace

    assert workload.trace is not None
    trace = read_trace(
        workload.trace,
        arrivals=None if workload.target_request_rate is None else _arrivals(workload),
        rate_scale=workload.rate_scale,
        limit=workload.num_requests,
        num_images=scenario.num_images or 0,
        image_height=scenario.image_height or TYPICAL,
        image_width=scenario.image_width or TYPICAL,
    )
    notify(f"{_counted(len(trace.requests), 'request')} in {trace.format_name}'s format")
    if trace.skipped_rows:
        notify(f"left out {_counted(trace.skipped_rows, 'row')} without a prompt or without output")
    if trace.resized_requests:
        notify(f"images of several sizes in {_counted(trace.resized_requests, 'request')}: all count as the largest")
    return trace.requests


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _fixed_requests(arrival_s: Array, scenario: Scenario) -> Requests:
    from asymsim.catalogue.load import load_model
    from asymsim.estimator.token_counts import scenario_tokens
    from asymsim.serving.workload.requests import BY_SIZE, TYPICAL, make_requests

    model = load_model(scenario.model)
    tokens = scenario_tokens(scenario, model)
    height, width = scenario.image_height, scenario.image_width
    if model.image_rule is not None and (height is None) != (width is None):
        typical_height, typical_width = model.image_rule.default_size()
        height, width = height or typical_height, width or typical_width
    return make_requests(
        arrival_s,
        text_tokens=tokens.text_tokens,
        output_tokens=tokens.output_tokens,
        num_images=tokens.num_images,
        image_height=height or TYPICAL,
        image_width=width or TYPICAL,
        visual_tokens=BY_SIZE if scenario.visual_tokens is None else scenario.visual_tokens,
    )
