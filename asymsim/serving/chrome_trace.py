"""Chrome trace of an event log, for Perfetto (https://ui.perfetto.dev) or chrome://tracing.

Format: Google, "Trace Event Format". A replica is a process: its engine steps and decode bursts are complete events
("X"), the phases of its requests are asynchronous spans ("b", "e") that share the request's number. The fleet is
process 0, with counters ("C").
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


def trace_text(result: SimulationResult) -> str:
    """Text of a trace of a simulation's event log; counters stop at the end of the log."""
    event_log = result.event_log[np.argsort(result.event_log["ticks"], kind="stable")]
    is_step = event_log["kind"] == EVENTS.index("step")
    end_ticks = int((event_log["ticks"] + event_log["duration_ticks"]).max(initial=0))
    events = [*_spans(event_log[~is_step], end_ticks), *_steps(event_log[is_step]), *_counters(result, end_ticks)]
    # Stable: where one phase of a request ends at the start of the next, the end stays before the start.
    events.sort(key=lambda event: event["ts"])
    replicas = sorted({event["pid"] for event in events} - {FLEET_PID})
    attributes = [_name(FLEET_PID, "fleet"), *(_name(pid, f"replica {pid - 1}") for pid in replicas)]
    return json.dumps({"traceEvents": attributes + events, "displayTimeUnit": "ms"}, allow_nan=False) + "\n"


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


def _spans(rows: Array, end_ticks: int) -> Iterator[TraceEvent]:
    """Phases of each request, one after the other; phases that are open at the end of the log end there."""
    open_phases: dict[int, tuple[int, TraceEvent]] = {}
    started: set[int] = set()
    encoded: dict[int, TraceEvent] = {}
    for ticks, kind, request, replica, value, duration in rows.tolist():
        name = EVENTS[kind]
        if name == "encode":
            # Part of the engine step that is scheduled at the same moment.
            encoded[request] = {"encoder_tokens": value, "encoder_us": duration * US_PER_TICK}
            continue
        yield from _phase_ends(open_phases.pop(request, None), ticks)
        if name == "first_token":
            started.add(request)
        if name == "reject":
            attributes = {"name": STATUS[value], "cat": "reject", "ph": "i", "s": "p", "pid": FLEET_PID, "tid": 0}
            yield {**attributes, "ts": ticks * US_PER_TICK, "args": {"request": request}}
        elif name != "finish":
            args = {"request": request, **(encoded.pop(request, {}) if name == "schedule" else {})}
            phase = {
                "name": _phase(name, value, request in started),
                "cat": "request",
                "id": request,
                "pid": replica + 1,
                "tid": 0,
                "args": args,
            }
            open_phases[request] = ticks, phase
    for open_phase in open_phases.values():
        yield from _phase_ends(open_phase, end_ticks)


def _phase(name: str, tokens: int, started: bool) -> str:
    """Phase of a request after an event; with its first token it is decoding, even while it recomputes its prompt."""
    if name in ("arrive", "preempt"):
        return "queue"
    if name == "schedule" and not started:
        return "prefill" if tokens else "encode"
    return "transfer" if name == "transfer" else "decode"


def _phase_ends(phase: tuple[int, TraceEvent] | None, ticks: int) -> Iterator[TraceEvent]:
    """Start and end of a phase, unless it took no time."""
    if phase is not None and ticks > phase[0]:
        yield {**phase[1], "ph": "b", "ts": phase[0] * US_PER_TICK}
        yield {**phase[1], "ph": "e", "ts": ticks * US_PER_TICK}


def _counters(result: SimulationResult, end_ticks: int) -> Iterator[TraceEvent]:
    for start_s, waiting, running, kv_bytes, *_ in result.timeline.tolist():
        if start_s > end_ticks * TICK_S:
            return
        common = {"ph": "C", "pid": FLEET_PID, "tid": 0, "ts": start_s / MICRO}
        yield {**common, "name": "requests", "args": {"running": running, "waiting": waiting}}
        yield {**common, "name": "KV cache (GiB)", "args": {"used": kv_bytes / GIB}}
