"""A fleet over time: arrivals, the router, and the replicas' stretches in order of their ends."""

from __future__ import annotations

from asymsim.core.borrow import borrow, borrow_gpu, borrow_model
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
def route(state: State, limits: Capacity, role: int) -> int:
    """The replica of a role that gets the next request."""
    fleet = state.fleet[0]
    first, number = fleet["first_replica"][role], fleet["replicas"][role]
    if limits.router == ROUND_ROBIN:
        chosen = first + fleet["next_turn"][role]
        fleet["next_turn"][role] = (fleet["next_turn"][role] + 1) % number
        return chosen
    chosen, least = first, NEVER
    for replica in range(first, first + number):
        # Who waits weighs four times as much as who runs: vLLM, DPLBAsyncMPClient (vllm/v1/engine/core_client.py).
        load = 4 * state.replicas[replica]["waiting"] + state.replicas[replica]["running"]
        if load < least:
            chosen, least = replica, load
    return chosen


@inlined
def wake(state: State, replica: int, now: int) -> None:
    """Let a resting replica begin once all that comes at this tick is there."""
    place = state.replicas[replica]
    if place["busy"] == 0:
        place["busy"], place["burst_start"], place["burst_ticks"], place["burst_steps"] = 1, now, 0, 0
        state.fleet[0]["busy"] += 1
        schedule_burst_end(state, now, replica)


@kernel
def enqueue(state: State, limits: Capacity, role: int, index: int, now: int) -> None:
    """Give a request to a replica of a role."""
    replica = route(state, limits, role)
    place, fleet = state.replicas[replica], state.fleet[0]
    log_event(state, now, ARRIVE, index, replica, role, 0)
    first = place["queue_head"] == NONE
    state.requests[index]["queue_next"] = NONE
    if first:
        place["queue_head"] = index
    else:
        state.requests[place["queue_tail"]]["queue_next"] = index
    place["queue_tail"] = index
    place["waiting"] += 1
    fleet["waiting"] += 1
    if place["busy"] == 0:
        wake(state, replica, now)
    elif first and place["burst_steps"] > 1 and place["running"] < limits.max_seqs:
        fleet["burst_to_shorten"] = replica


@kernel
def submit(state: State, limits: Capacity, index: int, now: int) -> None:
    """A client's request comes: it is refused, or goes to the first pool that has work for it."""
    request, fleet = state.requests[index], state.fleet[0]
    kind = state.request_classes[request["request_class"]]
    request["sent"] = now
    whole = cache_bytes(state, request["request_class"], kind["output_tokens"] - 1, KV_BLOCK_TOKENS)
    if kind["chunkable"] == 1:
        whole = max(whole, prompt_bytes(state, request["request_class"], kind["output_tokens"] - 1))
    if kind["context_tokens"] > limits.context_tokens or whole > limits.kv_bytes or kind["activations_fit"] == 0:
        request["status"] = TOO_LONG if kind["context_tokens"] > limits.context_tokens else TOO_LARGE
        log_event(state, now, REJECT, index, NONE, request["status"], 0)
        return
    fleet["in_flight"] += 1
    request["prefill_tokens"] = kind["prompt_tokens"]
    role = AGGREGATED
    if fleet["replicas"][AGGREGATED] == 0:
        role = ENCODER_ONLY if fleet["replicas"][ENCODER_ONLY] > 0 and kind["encoder_tokens"] > 0 else PREFILL_ONLY
    enqueue(state, limits, role, index, now)


@kernel
def receive(state: State, limits: Capacity, index: int, source: int, now: int) -> None:
    """A request comes from another pool, which is then rid of its cache."""
    if state.replicas[source]["role"] == ENCODER_ONLY:
        enqueue(state, limits, PREFILL_ONLY, index, now)
        return
    allocate(state, source, index, 0)
    if state.replicas[source]["queue_head"] != NONE:
        wake(state, source, now)
    enqueue(state, limits, DECODE_ONLY, index, now)


@kernel
def advance(owned_state: State, owned_pace: StepTimeModel, limits: Capacity, most: int) -> bool:
    """Go on with a simulation for at most ``most`` events; whether there is more to do."""
    state = State(
        borrow(owned_state.requests),
        borrow(owned_state.request_classes),
        borrow(owned_state.groups),
        borrow(owned_state.caches),
        borrow(owned_state.encoder_ticks),
        borrow(owned_state.batch_scaling),
        borrow(owned_state.replicas),
        borrow(owned_state.running_requests),
        borrow(owned_state.image_last_request),
        borrow(owned_state.image_references),
        borrow(owned_state.fleet),
        borrow(owned_state.heap),
        borrow(owned_state.token_gaps),
        borrow(owned_state.samples),
        borrow(owned_state.log),
    )
    pace = StepTimeModel(
        borrow_model(owned_pace.model),
        borrow_gpu(owned_pace.gpu),
        owned_pace.precision,
        borrow(owned_pace.dense_memo),
        borrow(owned_pace.lm_head_memo),
        borrow(owned_pace.embedding_memo),
        borrow(owned_pace.scratch_rows),
        borrow(owned_pace.product_memo),
        owned_pace.host_ticks,
    )
    fleet, requests = state.fleet[0], state.requests
    for _ in range(most):
        arrival = NEVER
        if fleet["arrived"] < len(requests) and (limits.concurrency == 0 or fleet["in_flight"] < limits.concurrency):
            arrival = max(requests[fleet["arrived"]]["arrival"], fleet["last_event"])
        if min(arrival, state.heap[0]["ticks"] if fleet["heap_size"] > 0 else NEVER) > LAST_TICK:
            return False
        if fleet["heap_size"] > 0 and state.heap[0]["ticks"] < arrival:
            planned = state.heap[0]
            now, index, replica = planned["ticks"], planned["request"], planned["replica"]
            pop_event(state)
            sample_cluster(state, now)
            if index != NONE:
                receive(state, limits, index, replica, now)
            else:
                if state.replicas[replica]["burst_steps"] > 0:
                    end_burst(state, limits, replica)
                steps = schedule_step(state, limits, replica, now)
                if steps > 0:
                    plan_burst(state, pace, replica, now, steps)
        elif arrival != NEVER:
            now = arrival
            sample_cluster(state, now)
            fleet["arrived"] += 1
            submit(state, limits, fleet["arrived"] - 1, now)
        else:
            return False
        if fleet["burst_to_shorten"] != NONE:
            shorten_burst(state, pace, fleet["burst_to_shorten"], now)
            fleet["burst_to_shorten"] = NONE
        fleet["last_event"] = now
    return True
