"""Scheduling of one replica: the requests of its next engine step, and the step's results.

The order is the one of vLLM's scheduler (``vllm/v1/core/sched/scheduler.py``). Running requests come first, each
decoding request with one token, then prompts that were begun. Waiting requests follow, first come first served, as long
as tokens, sequences, cache and encoder allow. Where the cache cannot take the next tokens, the request that was
scheduled last releases its cache and computes it anew later. Engine steps that are all alike form one burst.
"""

from __future__ import annotations

from asymsim.core.jit import inlined, kernel
from asymsim.core.kv_cache import KV_BLOCK_TOKENS
from asymsim.core.serving.admission import admit, uses_encoder_cache
from asymsim.core.serving.batch_scaling import interpolated_share, scaled_ticks
from asymsim.core.serving.encoder_cache import release
from asymsim.core.serving.events import count_token_gaps, log_event, schedule_burst_end, schedule_transfer_arrival
from asymsim.core.serving.kv_blocks import allocate, allocate_for_steps, cache_bytes
from asymsim.core.serving.layout import (
    DECODE_ONLY,
    DONE,
    ENCODER_ONLY,
    FINISH,
    FIRST_TOKEN,
    NEVER,
    NONE,
    PREEMPT,
    PREFILL_ONLY,
    STEP,
    TRANSFER,
    Capacity,
    State,
    StepTimeModel,
)
from asymsim.core.serving.step_time import burst_ticks


@inlined
def preempt_last(state: State, capacity: Capacity, replica: int, now: int) -> None:
    """Release the cache of the request that was scheduled last, and put it at the head of the queue."""
    engine, fleet = state.replicas[replica], state.fleet[0]
    engine["running"] -= 1
    fleet["running"] -= 1
    index = state.running_requests[replica, engine["running"]]
    request = state.requests[index]
    allocate(state, replica, index, 0)
    if request["computed"] < request["prefill_tokens"]:
        release_images(state, capacity, replica, index)
    elif request["gap_start"] == NONE:
        request["gap_start"] = now
    request["prefill_tokens"] = state.request_classes[request["request_class"]]["prompt_tokens"] + request["generated"]
    request["computed"] = 0
    request["preemptions"] += 1
    request["queue_next"] = engine["queue_head"]
    engine["queue_head"] = index
    if engine["queue_tail"] == NONE:
        engine["queue_tail"] = index
    engine["waiting"] += 1
    fleet["waiting"] += 1
    log_event(state, now, PREEMPT, index, replica, request["generated"], 0)


@kernel
def schedule_step(state: State, capacity: Capacity, replica: int, now: int) -> int:
    """Choose the requests of a replica's next engine step: the steps of its burst; 0 where it has no request to run."""
    engine = state.replicas[replica]
    decoding, preempted = 0, False
    for at in range(engine["running"]):
        request = state.requests[state.running_requests[replica, at]]
        request["chunk"] = 0 if request["computed"] == request["prefill_tokens"] else NONE
    allocate_for_steps(state, replica, 1)
    while engine["running"] > 0 and engine["kv_bytes"] > capacity.kv_bytes:
        preempt_last(state, capacity, replica, now)
        preempted = True
    for at in range(engine["running"]):
        decoding += 1 if state.requests[state.running_requests[replica, at]]["chunk"] == 0 else 0
    room, prompts = max(0, capacity.max_tokens - decoding), 0
    engine["extra_ticks"], engine["encoder_budget_left"] = 0, capacity.encoder_budget_tokens
    for at in range(engine["running"]):
        request = state.requests[state.running_requests[replica, at]]
        if request["chunk"] == NONE and room > 0:
            request["chunk"] = min(request["prefill_tokens"] - request["computed"], room)
            room -= request["chunk"]
            prompts += 1
    while not preempted and engine["queue_head"] != NONE and engine["running"] < capacity.max_seqs and room > 0:
        index = engine["queue_head"]
        taken = admit(state, capacity, replica, now, room, prompts)
        if taken == 0:
            break
        room -= taken
        prompts += 1 if state.requests[index]["chunk"] > 0 else 0
    fleet = state.fleet[0]
    if engine["running"] == 0:
        fleet["busy"] -= engine["busy"]
        engine["busy"] = 0
        return 0
    steps = 1
    if prompts == 0 and engine["role"] != ENCODER_ONLY and not (preempted and engine["queue_head"] != NONE):
        steps = steps_alike(state, capacity, replica)
    engine["extra_ticks"] += selection_ticks(state, replica)
    fleet["busy"] += 1 - engine["busy"]
    engine["busy"] = 1
    return steps


@inlined
def selection_ticks(state: State, replica: int) -> int:
    """Ticks of the method's selection for the prompts that an engine step completes, where this role runs it."""
    engine, role, prompts, ticks = state.replicas[replica], state.replicas[replica]["role"], 0, 0
    # An encoder pool runs a selection that ends with the encoder, unless a decode pool computes a lost cache anew.
    pooled = role != DECODE_ONLY and state.fleet[0]["replicas"][ENCODER_ONLY] > 0
    for counted in range(2):
        for at in range(engine["running"]):
            request = state.requests[state.running_requests[replica, at]]
            request_class = state.request_classes[request["request_class"]]
            early = request_class["selects_with_encoder"] == 1 and pooled
            ends = request["chunk"] > 0 and request["computed"] + request["chunk"] == request["prefill_tokens"]
            if early == (role == ENCODER_ONLY) and (ends or role == ENCODER_ONLY):
                if counted == 0:
                    prompts += 1
                else:
                    scaling = state.batch_scaling[request_class["schedule"], 0]
                    ticks += scaled_ticks(request_class["selection_ticks"], interpolated_share(scaling, prompts))
    return ticks


@inlined
def steps_alike(state: State, capacity: Capacity, replica: int) -> int:
    """Engine steps until a request is done or the cache is full; allocates the blocks that they need."""
    engine, low, high = state.replicas[replica], 1, NEVER
    for at in range(engine["running"]):
        request = state.requests[state.running_requests[replica, at]]
        high = min(high, state.request_classes[request["request_class"]]["output_tokens"] - request["generated"])
    if high > 1:
        allocate_for_steps(state, replica, high)
    if engine["kv_bytes"] <= capacity.kv_bytes:
        return high
    while high - low > 1:
        middle = (low + high) // 2
        allocate_for_steps(state, replica, middle)
        if engine["kv_bytes"] <= capacity.kv_bytes:
            low = middle
        else:
            high = middle
    allocate_for_steps(state, replica, low)
    return low


@kernel
def plan_burst(state: State, step_time_model: StepTimeModel, replica: int, start: int, steps: int) -> None:
    """Plan a burst of ``steps`` from ``start``, whose blocks are allocated."""
    engine = state.replicas[replica]
    ticks = engine["extra_ticks"]
    if engine["role"] == ENCODER_ONLY:
        ticks += step_time_model.host_ticks
    else:
        ticks += burst_ticks(state, step_time_model, replica, steps)
    engine["burst_start"], engine["burst_steps"], engine["burst_ticks"] = start, steps, ticks
    schedule_burst_end(state, start + ticks, replica)


@kernel
def shorten_burst(state: State, step_time_model: StepTimeModel, replica: int, now: int) -> None:
    """End a burst with the first engine step that is over at ``now``, so that a new request is scheduled then."""
    engine = state.replicas[replica]
    steps = max(1, -(-(now - engine["burst_start"]) // max(1, engine["burst_ticks"] // engine["burst_steps"])))
    start = engine["burst_start"]
    while steps < engine["burst_steps"] and start + burst_ticks(state, step_time_model, replica, steps) < now:
        steps += 1
    if steps < engine["burst_steps"]:
        allocate_for_steps(state, replica, steps)
        plan_burst(state, step_time_model, replica, engine["burst_start"], steps)


@kernel
def end_burst(state: State, capacity: Capacity, replica: int) -> None:
    """End a burst: its requests have their tokens, and some are finished or sent to the next pool."""
    engine, fleet = state.replicas[replica], state.fleet[0]
    steps, role = engine["burst_steps"], engine["role"]
    now = engine["burst_start"] + engine["burst_ticks"]
    engine["busy_ticks"] += engine["burst_ticks"]
    fleet["steps"] += steps
    log_event(state, engine["burst_start"], STEP, NONE, replica, steps, engine["burst_ticks"])
    step_ticks, gaps, kept = engine["burst_ticks"] // steps, 0, 0
    for at in range(engine["running"]):
        index = state.running_requests[replica, at]
        request = state.requests[index]
        request_class = state.request_classes[request["request_class"]]
        chunk, stays = request["chunk"], True
        if role == ENCODER_ONLY:
            release_images(state, capacity, replica, index)
            hand_over(state, capacity, replica, index, now, request_class["embedding_bytes"])
            stays = False
        elif chunk == 0:
            gaps += steps
            if request["gap_start"] != NONE:
                count_token_gaps(state, engine["burst_start"] + step_ticks - request["gap_start"], 1)
                request["gap_start"], gaps = NONE, gaps - 1
            request["generated"] += steps
        elif chunk > 0:
            request["computed"] += chunk
            if request["computed"] == request["prefill_tokens"]:
                kv_bytes = cache_bytes(state, request["request_class"], request["generated"], KV_BLOCK_TOKENS)
                allocate(state, replica, index, kv_bytes)
                release_images(state, capacity, replica, index)
                request["generated"] += 1
                if request["first_token"] == NEVER:
                    request["first_token"], request["replica"] = now, replica
                    log_event(state, now, FIRST_TOKEN, index, replica, 0, 0)
                elif request["gap_start"] != NONE:
                    count_token_gaps(state, now - request["gap_start"], 1)
                request["gap_start"] = NONE
        if stays and request["generated"] == request_class["output_tokens"]:
            allocate(state, replica, index, 0)
            request["finished"], request["status"] = now, DONE
            fleet["in_flight"] -= 1
            log_event(state, now, FINISH, index, replica, 0, 0)
            stays = False
        elif role == PREFILL_ONLY and stays and request["computed"] == request["prefill_tokens"]:
            request["gap_start"] = now
            hand_over(state, capacity, replica, index, now, cache_bytes(state, request["request_class"], 0, 1))
            stays = False
        if stays:
            state.running_requests[replica, kept] = index
            kept += 1
    fleet["running"] -= engine["running"] - kept
    engine["running"] = kept
    if gaps > 0:
        count_token_gaps(state, step_ticks, gaps)


@inlined
def release_images(state: State, capacity: Capacity, replica: int, index: int) -> None:
    """End the use of a request's embeddings if they are in this replica's encoder cache."""
    if uses_encoder_cache(state, index, replica):
        release(state, capacity, replica, index)


@inlined
def hand_over(state: State, capacity: Capacity, replica: int, index: int, now: int, moved_bytes: int) -> None:
    """Send a request to the next pool, behind the transfers that its replica has begun."""
    engine = state.replicas[replica]
    engine["link_free"] = max(now, engine["link_free"]) + int(moved_bytes * capacity.transfer_ticks_per_byte)
    arrival = engine["link_free"] + capacity.transfer_ticks
    log_event(state, now, TRANSFER, index, replica, moved_bytes, arrival - now)
    schedule_transfer_arrival(state, arrival, index, replica)
