"""What a fleet is asked, in one object: the flags of the command line, the fields of a Python call."""

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

# Enough to find a load of 1.1 times what is served in 9 of 10 runs (`saturation.backlog`).
NUM_REQUESTS = 4000
MAX_REQUESTS = 10**8


@strict_dataclass
class WorkloadSpec:
    """Requests at a rate, or those of a trace; all alike, or of a mix.

    Attributes
    ----------
    target_request_rate : float, optional
        Requests a second. Without it, nor a trace, all are there at once, and concurrency decides.
    arrival : {"poisson", "gamma", "constant"}
        Gaps between requests: exponential; gamma, by the burstiness; all equal.
    burstiness : float
        Shape of the gamma gaps, as of vllm bench serve: 1 is Poisson, below is burstier, above more even.
    num_requests : int, optional
        Requests to send; 4000 by default, with a trace all of it.
    seed : int
        Of arrivals and of the mix.
    workload : str, optional
        What requests ask for: the name of a mix or a TOML file. All alike by default, as the scenario says.
    trace : str, optional
        File of requests in place of a workload. A rate replaces its times; images that it does not mention are the
        scenario's, none by default.
    rate_scale : float
        How many times faster than recorded a trace is played.
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
            raise InputError("rate_scale", self.rate_scale, "belongs to a trace's own times; give a rate or this")
        if self.trace is not None and self.workload is not None:
            raise InputError("workload", self.workload, "the trace says what requests ask for; give one of the two")


def requests_for(load: WorkloadSpec, scenario: Scenario, say: Callable[[str], None] = lambda line: None) -> Requests:
    """The requests of a load; those that are all alike have the scenario's images, text and output.

    Parameters
    ----------
    load : Load
    scenario : Scenario
    say : callable
        Takes a line on what could not be kept: of a trace's form, or images that the model does not take.

    Raises
    ------
    InputError
        If a file cannot be read, or a value is out of range.
    """
    if load.trace is not None:
        return _seen(_traced(load, scenario, say), scenario, say)
    arrival_s = _arrivals(load).times(load.num_requests or NUM_REQUESTS)
    if load.workload is None:
        return _alike(arrival_s, scenario)
    from asymsim.serving.workload.mix_file import load_mix

    return _seen(load_mix(load.workload).draw(arrival_s, load.seed), scenario, say)


def _seen(found: Requests, scenario: Scenario, say: Callable[[str], None]) -> Requests:
    """The requests as a model without images gets them."""
    from asymsim.catalogue.load import load_model
    from asymsim.serving.workload.requests import make_requests

    if load_model(scenario.model).image_rule is not None or not found.num_images.any():
        return found
    say(f"{scenario.model} takes no images: left out those of {_many(int((found.num_images > 0).sum()), 'request')}")
    return make_requests(
        found.arrival_s, text_tokens=found.text_tokens, output_tokens=found.output_tokens, num_images=0
    )


def _arrivals(load: WorkloadSpec) -> Arrivals:
    from asymsim.serving.workload.arrivals import Arrivals

    if load.target_request_rate is None:
        return Arrivals(rate=math.inf, process="constant")
    return Arrivals(rate=load.target_request_rate, process=load.arrival, burstiness=load.burstiness, seed=load.seed)


def _traced(load: WorkloadSpec, scenario: Scenario, say: Callable[[str], None]) -> Requests:
    from asymsim.serving.workload.requests import TYPICAL
    from asymsim.serving.workload.traces.reader import read_trace

    assert load.trace is not None
    found = read_trace(
        load.trace,
        arrivals=None if load.target_request_rate is None else _arrivals(load),
        rate_scale=load.rate_scale,
        limit=load.num_requests,
        num_images=scenario.num_images or 0,
        image_height=scenario.image_height or TYPICAL,
        image_width=scenario.image_width or TYPICAL,
    )
    say(f"{_many(len(found.requests), 'request')} in {found.form}'s form")
    if found.left_out:
        say(f"left out {_many(found.left_out, 'row')} without a prompt or without output")
    if found.resized:
        say(f"images of several sizes in {_many(found.resized, 'request')}: all count as the largest")
    return found.requests


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _alike(arrival_s: Array, scenario: Scenario) -> Requests:
    from asymsim.catalogue.load import load_model
    from asymsim.estimator.token_counts import scenario_tokens
    from asymsim.serving.workload.requests import BY_SIZE, TYPICAL, make_requests

    target = load_model(scenario.model)
    one = scenario_tokens(scenario, target)
    height, width = scenario.image_height, scenario.image_width
    if target.image_rule is not None and (height is None) != (width is None):
        typical_height, typical_width = target.image_rule.default_size()
        height, width = height or typical_height, width or typical_width
    return make_requests(
        arrival_s,
        text_tokens=one.text_tokens,
        output_tokens=one.output_tokens,
        num_images=one.num_images,
        image_height=height or TYPICAL,
        image_width=width or TYPICAL,
        visual_tokens=BY_SIZE if scenario.visual_tokens is None else scenario.visual_tokens,
    )
