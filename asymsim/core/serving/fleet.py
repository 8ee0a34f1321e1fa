"""A fleet over time: arrivals, the router, and the replicas' stretches in order of their ends."""

from __future__ import annotations

from asymsim.core.borrow import borrow, borrow_gpu, borrow_model
from asymsim.core.jit import inlined, kernel
from asymsim.core.kv_cache import KV_BLOCK_TOKENS
from asymsim.core.serving.events import log_event, pop_event, sample_cluster, schedule_burst_end
from asymsim.core.serving.kv_blocks import allocate, cache_bytes, prompt_bytes
from asymsim.core.serving.layout import (
    ARRIVE,
    DECODES,
    ENCODES,
    LAST_TICK,
    NEVER,
    NONE,
    PREFILLS,
    REJECT,
    ROUND_ROBIN,
    TOO_LARGE,
    TOO_LONG,
    WHOLE,
    Capacity,
    State,
    StepTimeModel,
)
from asymsim.core.serving.replica import end_burst, plan_burst, schedule_step, shorten_burst


@inlined
def route(state: State, limits: Capacity, role: int) -> int:
    """The replica of a role that gets the next request."""
    fleet = state.fleet[0]
    first, number = fleet["first"][role], fleet["number"][role]
    if limits.router == ROUND_ROBIN:
        chosen = first + fleet["turn"][role]
        fleet["turn"][role] = (fleet["turn"][role] + 1) % number
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
    if place["at_work"] == 0:
        place["at_work"], place["start"], place["ticks"], place["steps"] = 1, now, 0, 0
        state.fleet[0]["busy"] += 1
        schedule_burst_end(state, now, replica)


@kernel
def enqueue(state: State, limits: Capacity, role: int, index: int, now: int) -> None:
    """Give a request to a replica of a role."""
    replica = route(state, limits, role)
    place, fleet = state.replicas[replica], state.fleet[0]
    log_event(state, now, ARRIVE, index, replica, role, 0)
    first = place["head"] == NONE
    state.requests[index]["next"] = NONE
    if first:
        place["head"] = index
    else:
        state.requests[place["tail"]]["next"] = index
    place["tail"] = index
    place["waiting"] += 1
    fleet["waiting"] += 1
    if place["at_work"] == 0:
        wake(state, replica, now)
    elif first and place["steps"] > 1 and place["running"] < limits.max_seqs:
        fleet["to_cut"] = replica


@kernel
def submit(state: State, limits: Capacity, index: int, now: int) -> None:
    """A client's request comes: it is refused, or goes to the first pool that has work for it."""
    request, fleet = state.requests[index], state.fleet[0]
    kind = state.kinds[request["kind"]]
    request["sent"] = now
    whole = cache_bytes(state, request["kind"], kind["output"] - 1, KV_BLOCK_TOKENS)
    if kind["splits"] == 1:
        whole = max(whole, prompt_bytes(state, request["kind"], kind["output"] - 1))
    if kind["context"] > limits.context or whole > limits.kv_capacity or kind["fits"] == 0:
        request["status"] = TOO_LONG if kind["context"] > limits.context else TOO_LARGE
        log_event(state, now, REJECT, index, NONE, request["status"], 0)
        return
    fleet["in_flight"] += 1
    request["goal"] = kind["prompt"]
    role = WHOLE
    if fleet["number"][WHOLE] == 0:
        role = ENCODES if fleet["number"][ENCODES] > 0 and kind["encoder_tokens"] > 0 else PREFILLS
    enqueue(state, limits, role, index, now)


@kernel
def receive(state: State, limits: Capacity, index: int, source: int, now: int) -> None:
    """A request comes from another pool, which is then rid of its cache."""
    if state.replicas[source]["role"] == ENCODES:
        enqueue(state, limits, PREFILLS, index, now)
        return
    allocate(state, source, index, 0)
    if state.replicas[source]["head"] != NONE:
        wake(state, source, now)
    enqueue(state, limits, DECODES, index, now)


@kernel
def advance(owned_state: State, owned_pace: StepTimeModel, limits: Capacity, most: int) -> bool:
    """Go on with a simulation for at most ``most`` events; whether there is more to do."""
    state = State(
        borrow(owned_state.requests),
        borrow(owned_state.kinds),
        borrow(owned_state.groups),
        borrow(owned_state.caches),
        borrow(owned_state.encoder),
        borrow(owned_state.sharing),
        borrow(owned_state.replicas),
        borrow(owned_state.runs),
        borrow(owned_state.holder),
        borrow(owned_state.uses),
        borrow(owned_state.fleet),
        borrow(owned_state.heap),
        borrow(owned_state.gaps),
        borrow(owned_state.samples),
        borrow(owned_state.log),
    )
    pace = StepTimeModel(
        borrow_model(owned_pace.model),
        borrow_gpu(owned_pace.gpu),
        owned_pace.precision,
        borrow(owned_pace.dense),
        borrow(owned_pace.head),
        borrow(owned_pace.embed),
        borrow(owned_pace.rows),
        borrow(owned_pace.memo),
        owned_pace.host_ticks,
    )
    fleet, requests = state.fleet[0], state.requests
    for _ in range(most):
        arrival = NEVER
        if fleet["arrived"] < len(requests) and (limits.concurrency == 0 or fleet["in_flight"] < limits.concurrency):
            arrival = max(requests[fleet["arrived"]]["arrival"], fleet["end"])
        if min(arrival, state.heap[0]["ticks"] if fleet["heap"] > 0 else NEVER) > LAST_TICK:
            return False
        if fleet["heap"] > 0 and state.heap[0]["ticks"] < arrival:
            planned = state.heap[0]
            now, index, replica = planned["ticks"], planned["request"], planned["replica"]
            pop_event(state)
            sample_cluster(state, now)
            if index != NONE:
                receive(state, limits, index, replica, now)
            else:
                if state.replicas[replica]["steps"] > 0:
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
        if fleet["to_cut"] != NONE:
            shorten_burst(state, pace, fleet["to_cut"], now)
            fleet["to_cut"] = NONE
        fleet["end"] = now
    return True
