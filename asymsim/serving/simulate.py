"""Requests and a fleet -> what became of each request."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from asymsim.core.arrays import Array
from asymsim.core.serving import layout
from asymsim.core.serving.fleet import advance
from asymsim.core.serving.layout import DONE, UNFINISHED, Capacity, State
from asymsim.core.times.device import TICK_S
from asymsim.estimator.resolve import ResolvedScenario, resolve
from asymsim.estimator.scenario import Scenario
from asymsim.serving.config import ClusterConfig, EngineConfig
from asymsim.serving.request_classes import RequestClasses, request_classes
from asymsim.serving.results import TIMELINE_WINDOW, SimulationResult
from asymsim.serving.state import initial_state
from asymsim.serving.workload.requests import Requests
from asymsim.serving.workload.spec import WorkloadSpec, requests_for
from asymsim.util.errors import InputError

# Events between two looks at progress.
SLICE = 200_000
Progress = Callable[[int, int], None]


def simulate(
    scenario: Scenario,
    requests: Requests | WorkloadSpec,
    server: EngineConfig | None = None,
    fleet: ClusterConfig | None = None,
    *,
    events: int = 0,
    progress: Progress | None = None,
) -> SimulationResult:
    """Serve ``requests`` by a fleet of the scenario's model, GPU, parallelism, formats, engine and schedule.

    A request alone has the TTFT and TPOT of `asymsim.estimate` to the bit, if its prompt is prefilled in one step.

    Parameters
    ----------
    scenario : Scenario
        Its image, text and output counts and its batch size are not used: each request brings its own.
    requests : Requests or WorkloadSpec
        Those of a specification are drawn, or read from its trace (`requests_for`).
    server : Server, optional
        vLLM's defaults.
    fleet : Fleet, optional
        One replica by default.
    events : int
        How many of the first events to keep in the log.
    progress : callable, optional
        Called now and then with the number of requests that were sent, and of all.

    Returns
    -------
    Served

    Raises
    ------
    AsymsimError
        If a name is unknown, a value out of range, or the weights leave no room for a cache.
    """
    server, fleet = server or EngineConfig(), fleet or ClusterConfig()
    if isinstance(requests, WorkloadSpec):
        requests = requests_for(requests, scenario)
    bound = resolve(scenario)
    classes = request_classes(bound, requests, server)
    return simulate_classes(bound, classes, requests, server, fleet, events=events, progress=progress)


def simulate_classes(
    bound: ResolvedScenario,
    classes: RequestClasses,
    requests: Requests,
    server: EngineConfig,
    fleet: ClusterConfig,
    *,
    events: int = 0,
    progress: Progress | None = None,
) -> SimulationResult:
    """`simulate` for a setting whose kinds of requests are known: they are the same for fleets of any size."""
    state, pace, limits = initial_state(bound, classes, requests, server, fleet, events)
    while advance(state, pace, limits, SLICE):
        if progress is not None:
            progress(int(state.fleet[0]["arrived"]), len(requests))
    unserved = int((state.requests["status"] == UNFINISHED).sum())
    if unserved:
        days = layout.LAST_TICK * TICK_S / 86400
        remedy = f"{unserved} would not be done within {days:.0f} days of simulated time: give fewer, or a larger fleet"
        raise InputError("requests", len(requests), remedy)
    return _served(requests, classes, state, limits, bound.precision.tp_size, fleet)


def _timeline(state: State) -> Array:
    """Means over the windows up to the last event."""
    whole = state.fleet[0]
    window, end = int(whole["window_ticks"]), int(whole["sampled_until"])
    found = state.samples[: -(-end // window)]
    starts = np.arange(len(found)) * window
    spans = np.minimum(starts + window, end) - starts
    made = np.zeros(len(found), TIMELINE_WINDOW)
    made["start_s"], made["kv_peak_bytes"] = starts * TICK_S, found["kv_peak"]
    for name in ("waiting", "running", "kv_bytes", "busy"):
        made[name] = found[name] / spans
    return made


def _served(
    requests: Requests, classes: RequestClasses, state: State, limits: Capacity, tp_size: int, fleet: ClusterConfig
) -> SimulationResult:
    asked, whole = state.requests, state.fleet[0]

    def since(name: str) -> Array:
        spans: Array = (asked[name] - asked["sent"]) * TICK_S
        return np.where(asked[name] == layout.NEVER, np.nan, spans)

    decoding = fleet.replicas + fleet.prefill_replicas + fleet.decode_replicas
    return SimulationResult(
        requests=requests,
        status=asked["status"].astype(np.int8),
        visual_tokens=classes.visual_tokens,
        prompt_tokens=classes.classes["prompt_tokens"][classes.class_of],
        replica=asked["replica"].astype(np.int32),
        preemptions=asked["preemptions"].astype(np.int32),
        sent_s=np.where(asked["sent"] == layout.NEVER, np.nan, asked["sent"] * TICK_S),
        queue_s=since("scheduled"),
        ttft_s=since("first_token"),
        e2e_s=since("finished"),
        gap_histogram=state.token_gaps,
        timeline=_timeline(state),
        event_log=state.log[: min(whole["events"], len(state.log))],
        busy_s=state.replicas["busy_ticks"] * TICK_S,
        engine_steps=int(whole["steps"]),
        end_s=float(asked["finished"][asked["status"] == DONE].max(initial=0) * TICK_S),
        kv_capacity_bytes=limits.kv_bytes * decoding,
        gpus=fleet.engines * tp_size,
    )
