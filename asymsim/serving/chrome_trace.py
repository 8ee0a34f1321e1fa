"""The event log as a Chrome trace, for Perfetto (https://ui.perfetto.dev) or chrome://tracing.

Form: Google, "Trace Event Format". A replica is a process: its steps are complete events ("X"), the phases of its
requests asynchronous spans ("b", "e") that share the request's number; the fleet is process 0, with counters ("C").
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from asymsim.core.arrays import Array
from asymsim.core.serving.layout import EVENTS, STATUS
from asymsim.core.times.device import TICK_S
from asymsim.serving.results import SimulationResult
from asymsim.util.units import GIB, MICRO

US_PER_TICK = TICK_S / MICRO
FLEET_PID = 0

TraceEvent = dict[str, Any]


def trace_text(served: SimulationResult) -> str:
    """The log of a simulation as the text of a trace; samples beyond the log's end are left out."""
    log = served.event_log[np.argsort(served.event_log["ticks"], kind="stable")]
    steps = log["kind"] == EVENTS.index("step")
    last = int((log["ticks"] + log["duration_ticks"]).max(initial=0))
    events = [*_spans(log[~steps], last), *_steps(log[steps]), *_counters(served, last)]
    # Stable: where one phase of a request ends as the next begins, the end stays before the beginning.
    events.sort(key=lambda event: event["ts"])
    replicas = sorted({event["pid"] for event in events} - {FLEET_PID})
    about = [_name(FLEET_PID, "fleet"), *(_name(pid, f"replica {pid - 1}") for pid in replicas)]
    return json.dumps({"traceEvents": about + events, "displayTimeUnit": "ms"}, allow_nan=False) + "\n"


def _name(pid: int, name: str) -> TraceEvent:
    return {"name": "process_name", "ph": "M", "pid": pid, "tid": 0, "ts": 0, "args": {"name": name}}


def _steps(rows: Array) -> Iterator[TraceEvent]:
    for row in rows.tolist():
        ticks, _, _, replica, value, duration = row
        yield {
            "name": "step" if value == 1 else f"{value} steps",
            "cat": "step",
            "ph": "X",
            "pid": replica + 1,
            "tid": 0,
            "ts": ticks * US_PER_TICK,
            "dur": duration * US_PER_TICK,
            "args": {"steps": value, "mean_step_us": duration * US_PER_TICK / max(value, 1)},
        }


def _spans(rows: Array, last: int) -> Iterator[TraceEvent]:
    """Each request's phases, one after the other; those that the log's end cuts off end there."""
    now_in: dict[int, tuple[int, TraceEvent]] = {}
    started: set[int] = set()
    encoded: dict[int, TraceEvent] = {}
    for ticks, kind, request, replica, value, duration in rows.tolist():
        name = EVENTS[kind]
        if name == "encode":
            # Part of the step that is scheduled at the same moment.
            encoded[request] = {"encoder_tokens": value, "encoder_us": duration * US_PER_TICK}
            continue
        yield from _closed(now_in.pop(request, None), ticks)
        if name == "first_token":
            started.add(request)
        if name == "reject":
            about = {"name": STATUS[value], "cat": "reject", "ph": "i", "s": "p", "pid": FLEET_PID, "tid": 0}
            yield {**about, "ts": ticks * US_PER_TICK, "args": {"request": request}}
        elif name != "finish":
            args = {"request": request, **(encoded.pop(request, {}) if name == "schedule" else {})}
            begun = {
                "name": _phase(name, value, request in started),
                "cat": "request",
                "id": request,
                "pid": replica + 1,
                "tid": 0,
                "args": args,
            }
            now_in[request] = ticks, begun
    for phase in now_in.values():
        yield from _closed(phase, last)


def _phase(name: str, tokens: int, started: bool) -> str:
    """What a request is in after an event; what is scheduled after its first token is decoding, whatever it redoes."""
    if name in ("arrive", "preempt"):
        return "queue"
    if name == "schedule" and not started:
        return "prefill" if tokens else "encode"
    return "transfer" if name == "transfer" else "decode"


def _closed(phase: tuple[int, TraceEvent] | None, ticks: int) -> Iterator[TraceEvent]:
    """The two ends of a phase, unless it took no time."""
    if phase is not None and ticks > phase[0]:
        yield {**phase[1], "ph": "b", "ts": phase[0] * US_PER_TICK}
        yield {**phase[1], "ph": "e", "ts": ticks * US_PER_TICK}


def _counters(served: SimulationResult, last: int) -> Iterator[TraceEvent]:
    for start_s, waiting, running, kv_bytes, *_ in served.timeline.tolist():
        if start_s > last * TICK_S:
            return
        common = {"ph": "C", "pid": FLEET_PID, "tid": 0, "ts": start_s / MICRO}
        yield {**common, "name": "requests", "args": {"running": running, "waiting": waiting}}
        yield {**common, "name": "KV cache (GiB)", "args": {"used": kv_bytes / GIB}}
