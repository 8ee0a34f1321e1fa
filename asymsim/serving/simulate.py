"""Simulation of requests on a fleet, event by event."""

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
from asymsim.util.arguments import checked_arguments
from asymsim.util.errors import InputError

# Events between two calls of the progress function.
EVENTS_PER_CALL = 200_000
Progress = Callable[[int, int], None]


@checked_arguments
def simulate(
    scenario: Scenario,
    requests: Requests | WorkloadSpec,
    engine_config: EngineConfig | None = None,
    cluster_config: ClusterConfig | None = None,
    *,
    events: int = 0,
    progress: Progress | None = None,
) -> SimulationResult:
    """Simulate ``requests`` on a fleet with the scenario's model, GPU, parallelism, formats, engine and schedule.

    A lone request has the TTFT and TPOT of `asymsim.estimate` to the bit, if its prompt is prefilled in one step.

    Parameters
    ----------
    scenario : Scenario
        Its batch size is not used, and of its image, text and output counts only those that a workload takes from it.
    requests : Requests or WorkloadSpec
        A specification is sampled, or its trace read, as by `requests_for`.
    engine_config : EngineConfig, optional
        vLLM's defaults by default.
    cluster_config : ClusterConfig, optional
        One replica by default.
    events : int
        Number of first events to keep in the log.
    progress : callable, optional
        Called now and then with the number of requests sent so far and the total.

    Returns
    -------
    SimulationResult

    Raises
    ------
    AsymsimError
        If a name is unknown, a value out of range, or the weights leave no room for a cache.
    """
    engine_config, cluster_config = engine_config or EngineConfig(), cluster_config or ClusterConfig()
    if isinstance(requests, WorkloadSpec):
        requests = requests_for(requests, scenario)
    resolved = resolve(scenario)
    classes = request_classes(resolved, requests, engine_config)
    return simulate_classes(
        resolved, classes, requests, engine_config, cluster_config, events=events, progress=progress
    )


def simulate_classes(
    resolved: ResolvedScenario,
    classes: RequestClasses,
    requests: Requests,
    engine_config: EngineConfig,
    cluster_config: ClusterConfig,
    *,
    events: int = 0,
    progress: Progress | None = None,
) -> SimulationResult:
    """`simulate` with request classes made before: they are the same for fleets of any size."""
    state, step_times, capacity = initial_state(resolved, classes, requests, engine_config, cluster_config, events)
    while advance(state, step_times, capacity, EVENTS_PER_CALL):
        if progress is not None:
            progress(int(state.fleet[0]["arrived"]), len(requests))
    unfinished = int((state.requests["status"] == UNFINISHED).sum())
    if unfinished:
        days = layout.LAST_TICK * TICK_S / 86400
        remedy = (
            f"{unfinished} would not be done within {days:.0f} days of simulated time: give fewer, or a larger fleet"
        )
        raise InputError("requests", len(requests), remedy)
    return _result(requests, classes, state, capacity, resolved.precision.tp_size, cluster_config)


def _timeline(state: State) -> Array:
    """Timeline of the fleet: means over the windows up to the last event."""
    fleet = state.fleet[0]
    window, end = int(fleet["window_ticks"]), int(fleet["sampled_until"])
    windows = state.samples[: -(-end // window)]
    starts = np.arange(len(windows)) * window
    spans = np.minimum(starts + window, end) - starts
    timeline = np.zeros(len(windows), TIMELINE_WINDOW)
    timeline["start_s"], timeline["kv_peak_bytes"] = starts * TICK_S, windows["kv_peak"]
    for name in ("waiting", "running", "kv_bytes", "busy"):
        timeline[name] = windows[name] / spans
    return timeline


def _result(
    requests: Requests,
    classes: RequestClasses,
    state: State,
    capacity: Capacity,
    tp_size: int,
    cluster_config: ClusterConfig,
) -> SimulationResult:
    records, fleet = state.requests, state.fleet[0]

    def since(name: str) -> Array:
        spans: Array = (records[name] - records["sent"]) * TICK_S
        return np.where(records[name] == layout.NEVER, np.nan, spans)

    cache_replicas = cluster_config.replicas + cluster_config.prefill_replicas + cluster_config.decode_replicas
    return SimulationResult(
        requests=requests,
        status=records["status"].astype(np.int8),
        visual_tokens=classes.visual_tokens,
        prompt_tokens=classes.classes["prompt_tokens"][classes.class_of],
        replica=records["replica"].astype(np.int32),
        preemptions=records["preemptions"].astype(np.int32),
        sent_s=np.where(records["sent"] == layout.NEVER, np.nan, records["sent"] * TICK_S),
        queue_s=since("scheduled"),
        ttft_s=since("first_token"),
        e2e_s=since("finished"),
        gap_histogram=state.token_gaps,
        timeline=_timeline(state),
        event_log=state.log[: min(fleet["events"], len(state.log))],
        busy_s=state.replicas["busy_ticks"] * TICK_S,
        engine_steps=int(fleet["steps"]),
        end_s=float(records["finished"][records["status"] == DONE].max(initial=0) * TICK_S),
        kv_capacity_bytes=capacity.kv_bytes * cache_replicas,
        gpus=cluster_config.engines * tp_size,
    )
