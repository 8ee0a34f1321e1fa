"""Event loop of a fleet: arrivals, the router, and the replicas' bursts in order of their ends."""

from __future__ import annotations

from asymsim.core.borrow import borrow
from asymsim.core.jit import inlined, kernel
from asymsim.core.kv_cache import KV_BLOCK_TOKENS
from asymsim.core.serving.events import log_event, pop_event, sample_cluster, schedule_burst_end
from asymsim.core.serving.kv_blocks import allocate, cache_bytes, prompt_bytes
from asymsim.core.serving.layout import (
    AGGREGATED,
    ARRIVE,
    DECODE_ONLY,
    ENCODER_ONLY,
    LAST_TICK,
    NEVER,
    NONE,
    PREFILL_ONLY,
    REJECT,
    ROUND_ROBIN,
    TOO_LARGE,
    TOO_LONG,
    Capacity,
    State,
    StepTimeModel,
)
from asymsim.core.serving.replica import end_burst, plan_burst, schedule_step, shorten_burst


@inlined
def route(state: State, capacity: Capacity, role: int) -> int:
    """The replica of a role that receives the next request."""
    fleet = state.fleet[0]
    first, number = fleet["first_replica"][role], fleet["replicas"][role]
    if capacity.router == ROUND_ROBIN:
        chosen = first + fleet["next_turn"][role]
        fleet["next_turn"][role] = (fleet["next_turn"][role] + 1) % number
        return chosen
    chosen, least = first, NEVER
    for replica in range(first, first + number):
        # A waiting request weighs four times as much as a running one, as in vLLM's DPLBAsyncMPClient
        # (vllm/v1/engine/core_client.py).
        load = 4 * state.replicas[replica]["waiting"] + state.replicas[replica]["running"]
        if load < least:
            chosen, least = replica, load
    return chosen


@inlined
def wake(state: State, replica: int, now: int) -> None:
    """Let an idle replica begin, after all other events of this tick."""
    engine = state.replicas[replica]
    if engine["busy"] == 0:
        engine["busy"], engine["burst_start"], engine["burst_ticks"], engine["burst_steps"] = 1, now, 0, 0
        state.fleet[0]["busy"] += 1
        schedule_burst_end(state, now, replica)


@kernel
def enqueue(state: State, capacity: Capacity, role: int, index: int, now: int) -> None:
    """Put a request into the queue of a replica of a role."""
    replica = route(state, capacity, role)
    engine, fleet = state.replicas[replica], state.fleet[0]
    log_event(state, now, ARRIVE, index, replica, role, 0)
    queue_was_empty = engine["queue_head"] == NONE
    state.requests[index]["queue_next"] = NONE
    if queue_was_empty:
        engine["queue_head"] = index
    else:
        state.requests[engine["queue_tail"]]["queue_next"] = index
    engine["queue_tail"] = index
    engine["waiting"] += 1
    fleet["waiting"] += 1
    if engine["busy"] == 0:
        wake(state, replica, now)
    elif queue_was_empty and engine["burst_steps"] > 1 and engine["running"] < capacity.max_seqs:
        fleet["burst_to_shorten"] = replica


@kernel
def submit(state: State, capacity: Capacity, index: int, now: int) -> None:
    """A client sends a request: it is refused, or goes to the first pool that has work for it."""
    request, fleet = state.requests[index], state.fleet[0]
    request_class = state.request_classes[request["request_class"]]
    request["sent"] = now
    peak_bytes = cache_bytes(state, request["request_class"], request_class["output_tokens"] - 1, KV_BLOCK_TOKENS)
    if request_class["chunkable"] == 1:
        peak_bytes = max(peak_bytes, prompt_bytes(state, request["request_class"], request_class["output_tokens"] - 1))
    if (
        request_class["context_tokens"] > capacity.context_tokens
        or peak_bytes > capacity.kv_bytes
        or request_class["activations_fit"] == 0
    ):
        request["status"] = TOO_LONG if request_class["context_tokens"] > capacity.context_tokens else TOO_LARGE
        log_event(state, now, REJECT, index, NONE, request["status"], 0)
        return
    fleet["in_flight"] += 1
    request["prefill_tokens"] = request_class["prompt_tokens"]
    role = AGGREGATED
    if fleet["replicas"][AGGREGATED] == 0:
        role = (
            ENCODER_ONLY
            if fleet["replicas"][ENCODER_ONLY] > 0 and request_class["encoder_tokens"] > 0
            else PREFILL_ONLY
        )
    enqueue(state, capacity, role, index, now)


@kernel
def receive(state: State, capacity: Capacity, index: int, source: int, now: int) -> None:
    """A request arrives from another pool, which then releases its cache."""
    if state.replicas[source]["role"] == ENCODER_ONLY:
        enqueue(state, capacity, PREFILL_ONLY, index, now)
        return
    allocate(state, source, index, 0)
    if state.replicas[source]["queue_head"] != NONE:
        wake(state, source, now)
    enqueue(state, capacity, DECODE_ONLY, index, now)


@kernel
def advance(owned_state: State, owned_step_time_model: StepTimeModel, capacity: Capacity, max_events: int) -> bool:
    """Go on with a simulation for at most ``max_events``; whether there are more."""
    state, step_time_model = borrow(owned_state), borrow(owned_step_time_model)
    fleet, requests = state.fleet[0], state.requests
    for _ in range(max_events):
        arrival = NEVER
        if fleet["arrived"] < len(requests) and (
            capacity.concurrency == 0 or fleet["in_flight"] < capacity.concurrency
        ):
            arrival = max(requests[fleet["arrived"]]["arrival"], fleet["last_event"])
        if min(arrival, state.heap[0]["ticks"] if fleet["heap_size"] > 0 else NEVER) > LAST_TICK:
            return False
        if fleet["heap_size"] > 0 and state.heap[0]["ticks"] < arrival:
            planned = state.heap[0]
            now, index, replica = planned["ticks"], planned["request"], planned["replica"]
            pop_event(state)
            sample_cluster(state, now)
            if index != NONE:
                receive(state, capacity, index, replica, now)
            else:
                if state.replicas[replica]["burst_steps"] > 0:
                    end_burst(state, capacity, replica)
                steps = schedule_step(state, capacity, replica, now)
                if steps > 0:
                    plan_burst(state, step_time_model, replica, now, steps)
        elif arrival != NEVER:
            now = arrival
            sample_cluster(state, now)
            fleet["arrived"] += 1
            submit(state, capacity, fleet["arrived"] - 1, now)
        else:
            return False
        if fleet["burst_to_shorten"] != NONE:
            shorten_burst(state, step_time_model, fleet["burst_to_shorten"], now)
            fleet["burst_to_shorten"] = NONE
        fleet["last_event"] = now
    return True
