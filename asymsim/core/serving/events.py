"""Event heap of the planned events, and the statistics that events leave: log, token gaps, samples."""

from __future__ import annotations

import math

from asymsim.core.jit import inlined
from asymsim.core.serving.layout import GAP_FIRST_S, GAP_RATIO, NONE, State
from asymsim.core.times.device import TICK_S

LOG_RATIO = math.log(GAP_RATIO)


@inlined
def log_event(state: State, ticks: int, kind: int, request: int, replica: int, value: int, duration_ticks: int) -> None:
    """Write an event to the log, as long as it has room, and count it."""
    fleet = state.fleet[0]
    at = fleet["events"]
    fleet["events"] += 1
    if at < len(state.log):
        event = state.log[at]
        event["ticks"], event["kind"], event["request"] = ticks, kind, request
        event["replica"], event["value"], event["duration_ticks"] = replica, value, duration_ticks


@inlined
def count_token_gaps(state: State, ticks: int, number: int) -> None:
    """Count ``number`` gaps of ``ticks`` between two tokens."""
    bin_index = 0
    if ticks * TICK_S > GAP_FIRST_S:
        bin_index = min(len(state.token_gaps) - 1, int(math.log(ticks * TICK_S / GAP_FIRST_S) / LOG_RATIO))
    state.token_gaps[bin_index] += number


@inlined
def sample_cluster(state: State, now: int) -> None:
    """Add the fleet's state since the last event to the windows up to ``now``."""
    fleet, samples = state.fleet[0], state.samples
    while fleet["sampled_until"] < now:
        at = fleet["sampled_until"] // fleet["window_ticks"]
        if at >= len(samples):
            join_windows(state)
            continue
        until = min(now, (at + 1) * fleet["window_ticks"])
        window, span = samples[at], float(until - fleet["sampled_until"])
        window["waiting"] += fleet["waiting"] * span
        window["running"] += fleet["running"] * span
        window["kv_bytes"] += fleet["kv_bytes"] * span
        window["busy"] += fleet["busy"] * span
        window["kv_peak"] = max(window["kv_peak"], fleet["kv_bytes"])
        fleet["sampled_until"] = until


@inlined
def join_windows(state: State) -> None:
    """Join every two windows into one."""
    samples = state.samples
    state.fleet[0]["window_ticks"] *= 2
    for at in range(len(samples)):
        window, joined = samples[at], samples[at // 2]
        if at % 2 == 1:
            joined["waiting"] += window["waiting"]
            joined["running"] += window["running"]
            joined["kv_bytes"] += window["kv_bytes"]
            joined["busy"] += window["busy"]
            joined["kv_peak"] = max(joined["kv_peak"], window["kv_peak"])
        elif at > 0:
            joined["waiting"], joined["running"] = window["waiting"], window["running"]
            joined["kv_bytes"], joined["busy"] = window["kv_bytes"], window["busy"]
            joined["kv_peak"] = window["kv_peak"]
    for at in range(len(samples) // 2, len(samples)):
        window = samples[at]
        window["waiting"], window["running"], window["kv_bytes"], window["busy"] = 0.0, 0.0, 0.0, 0.0
        window["kv_peak"] = 0


@inlined
def comes_before(state: State, one: int, other: int) -> bool:
    """Whether an entry of the heap comes before another, at the same tick by rank."""
    a, b = state.heap[one], state.heap[other]
    return a["ticks"] < b["ticks"] or (a["ticks"] == b["ticks"] and a["rank"] < b["rank"])


@inlined
def put_at(state: State, at: int, ticks: int, rank: int, request: int, replica: int) -> None:
    """Fill an entry of the heap."""
    planned = state.heap[at]
    planned["ticks"], planned["rank"], planned["request"], planned["replica"] = ticks, rank, request, replica
    if request == NONE:
        state.replicas[replica]["heap_index"] = at


@inlined
def swap(state: State, one: int, other: int) -> None:
    """Exchange two entries of the heap."""
    a, b = state.heap[one], state.heap[other]
    ticks, rank, request, replica = a["ticks"], a["rank"], a["request"], a["replica"]
    put_at(state, one, b["ticks"], b["rank"], b["request"], b["replica"])
    put_at(state, other, ticks, rank, request, replica)


@inlined
def rise(state: State, at: int) -> None:
    """Move an event up the heap, past all that it comes before."""
    while at > 0 and comes_before(state, at, (at - 1) // 2):
        swap(state, at, (at - 1) // 2)
        at = (at - 1) // 2


@inlined
def schedule_transfer_arrival(state: State, ticks: int, request: int, source: int) -> None:
    """Plan a request's arrival from a replica of another pool."""
    fleet = state.fleet[0]
    put_at(state, fleet["heap_size"], ticks, request, request, source)
    fleet["heap_size"] += 1
    rise(state, fleet["heap_size"] - 1)


@inlined
def schedule_burst_end(state: State, ticks: int, replica: int) -> None:
    """Plan the end of a replica's burst, or bring it forward."""
    fleet, at = state.fleet[0], state.replicas[replica]["heap_index"]
    if at == NONE:
        at = fleet["heap_size"]
        fleet["heap_size"] += 1
    put_at(state, at, ticks, len(state.requests) + replica, NONE, replica)
    rise(state, at)


@inlined
def pop_event(state: State) -> None:
    """Remove the first event from the heap."""
    fleet = state.fleet[0]
    fleet["heap_size"] -= 1
    number, at = fleet["heap_size"], 0
    swap(state, 0, number)
    if state.heap[number]["request"] == NONE:
        state.replicas[state.heap[number]["replica"]]["heap_index"] = NONE
    while 2 * at + 1 < number:
        least = 2 * at + 1
        if least + 1 < number and comes_before(state, least + 1, least):
            least += 1
        if not comes_before(state, least, at):
            break
        swap(state, least, at)
        at = least
