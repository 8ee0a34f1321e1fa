"""The event log as a Chrome trace, for Perfetto (https://ui.perfetto.dev) or chrome://tracing.

Form: Google, "Trace Event Format". A replica is a process: its steps are complete events ("X"), the phases of its
requests asynchronous spans ("b", "e") that share the request's number; the fleet is process 0, with counters ("C").
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from asymsim.core.layout import Array
from asymsim.serving.served import EVENTS, Served
from asymsim.units import GIB, MICRO

# Times are exact multiples of this; `Served` says so of seconds, and its logs count it.
TICK_S = 2.0**-42
US_PER_TICK = TICK_S / MICRO
FLEET = 0

# What a request is in after an event; None: it is gone. After its first token, whatever it is given is decoding.
_PHASE = {
    "arrive": "queue",
    "encode": "encode",
    "schedule": "prefill",
    "first_token": "decode",
    "preempt": "queue",
    "transfer": "transfer",
    "reject": None,
    "finish": None,
}

Event = dict[str, Any]


def trace_text(served: Served) -> str:
    """The log of a simulation as the text of a trace; samples beyond the log's end are left out."""
    log = served.log[np.argsort(served.log["ticks"], kind="stable")]
    steps = log["kind"] == EVENTS.index("step")
    last = int((log["ticks"] + log["duration_ticks"]).max(initial=0))
    events = [*_spans(log[~steps], last), *_steps(log[steps]), *_counters(served, last)]
    # Stable: where one phase of a request ends as the next begins, the end stays before the beginning.
    events.sort(key=lambda event: event["ts"])
    replicas = sorted({event["pid"] for event in events} - {FLEET})
    about = [_name(FLEET, "fleet"), *(_name(pid, f"replica {pid - 1}") for pid in replicas)]
    return json.dumps({"traceEvents": about + events, "displayTimeUnit": "ms"}, allow_nan=False) + "\n"


def _name(pid: int, name: str) -> Event:
    return {"name": "process_name", "ph": "M", "pid": pid, "tid": 0, "ts": 0, "args": {"name": name}}


def _steps(rows: Array) -> Iterator[Event]:
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


def _spans(rows: Array, last: int) -> Iterator[Event]:
    """Each request's phases, one after the other; those that the log's end cuts off end there."""
    open_spans: dict[int, Event] = {}
    started: set[int] = set()
    for ticks, kind, request, replica, value, _ in rows.tolist():
        name = EVENTS[kind]
        if request in open_spans:
            yield _end(open_spans.pop(request), ticks)
        phase = _PHASE[name]
        if name == "first_token":
            started.add(request)
        elif phase == "prefill" and request in started:
            phase = "decode"
        if phase is not None:
            open_spans[request] = {
                "name": phase,
                "cat": "request",
                "ph": "b",
                "id": request,
                # The router may not have chosen yet.
                "pid": replica + 1 if replica >= 0 else FLEET,
                "tid": 0,
                "ts": ticks * US_PER_TICK,
                "args": {"request": request, "after": name, "value": value},
            }
            yield open_spans[request]
    for span in open_spans.values():
        yield _end(span, last)


def _end(begin: Event, ticks: int) -> Event:
    return {**begin, "ph": "e", "ts": ticks * US_PER_TICK, "args": {}}


def _counters(served: Served, last: int) -> Iterator[Event]:
    for ticks, waiting, running, kv_bytes, _ in served.samples.tolist():
        if ticks > last:
            return
        common = {"ph": "C", "pid": FLEET, "tid": 0, "ts": ticks * US_PER_TICK}
        yield {**common, "name": "requests", "args": {"running": running, "waiting": waiting}}
        yield {**common, "name": "KV cache (GiB)", "args": {"used": kv_bytes / GIB}}
