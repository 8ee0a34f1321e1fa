"""One replica: which requests its next step works on, and what that step leaves behind.

The order is that of vLLM's scheduler (``vllm/v1/core/sched/scheduler.py``): what runs goes first, each decoding request
with one token, then prompts that were begun, then those that wait, first come first served, as long as tokens,
sequences, cache and encoder allow. Where the cache cannot take the next tokens, the last to be scheduled gives its
cache back and computes it anew later. Steps that would all be alike are taken as one stretch.
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
def preempt_last(state: State, limits: Capacity, replica: int, now: int) -> None:
    """Take the cache of the request that was scheduled last, and put it first in the queue."""
    place, fleet = state.replicas[replica], state.fleet[0]
    place["running"] -= 1
    fleet["running"] -= 1
    index = state.running_requests[replica, place["running"]]
    request = state.requests[index]
    allocate(state, replica, index, 0)
    if request["computed"] < request["prefill_tokens"]:
        release_images(state, limits, replica, index)
    elif request["gap_start"] == NONE:
        request["gap_start"] = now
    request["prefill_tokens"] = state.request_classes[request["request_class"]]["prompt_tokens"] + request["generated"]
    request["computed"] = 0
    request["preemptions"] += 1
    request["queue_next"] = place["queue_head"]
    place["queue_head"] = index
    if place["queue_tail"] == NONE:
        place["queue_tail"] = index
    place["waiting"] += 1
    fleet["waiting"] += 1
    log_event(state, now, PREEMPT, index, replica, request["generated"], 0)


@kernel
def schedule_step(state: State, limits: Capacity, replica: int, now: int) -> int:
    """Choose what a replica works on next: the steps of its stretch; 0 where there is nothing to do."""
    place = state.replicas[replica]
    decoding, preempted = 0, False
    for at in range(place["running"]):
        request = state.requests[state.running_requests[replica, at]]
        request["chunk"] = 0 if request["computed"] == request["prefill_tokens"] else NONE
    allocate_for_steps(state, replica, 1)
    while place["running"] > 0 and place["kv_bytes"] > limits.kv_bytes:
        preempt_last(state, limits, replica, now)
        preempted = True
    for at in range(place["running"]):
        decoding += 1 if state.requests[state.running_requests[replica, at]]["chunk"] == 0 else 0
    room, prompts = max(0, limits.max_tokens - decoding), 0
    place["extra_ticks"], place["encoder_budget_left"] = 0, limits.encoder_budget_tokens
    for at in range(place["running"]):
        request = state.requests[state.running_requests[replica, at]]
        if request["chunk"] == NONE and room > 0:
            request["chunk"] = min(request["prefill_tokens"] - request["computed"], room)
            room -= request["chunk"]
            prompts += 1
    while not preempted and place["queue_head"] != NONE and place["running"] < limits.max_seqs and room > 0:
        index = place["queue_head"]
        taken = admit(state, limits, replica, now, room, prompts)
        if taken == 0:
            break
        room -= taken
        prompts += 1 if state.requests[index]["chunk"] > 0 else 0
    fleet = state.fleet[0]
    if place["running"] == 0:
        fleet["busy"] -= place["busy"]
        place["busy"] = 0
        return 0
    steps = 1
    if prompts == 0 and place["role"] != ENCODER_ONLY and not (preempted and place["queue_head"] != NONE):
        steps = steps_alike(state, limits, replica)
    place["extra_ticks"] += selection_ticks(state, replica)
    fleet["busy"] += 1 - place["busy"]
    place["busy"] = 1
    return steps


@inlined
def selection_ticks(state: State, replica: int) -> int:
    """The method's own work on the prompts that a step completes, as far as a replica of this role does it."""
    place, role, prompts, ticks = state.replicas[replica], state.replicas[replica]["role"], 0, 0
    # With a pool of encoders, what ends with the encoder is done there, unless a decoder makes a lost cache anew.
    pooled = role != DECODE_ONLY and state.fleet[0]["replicas"][ENCODER_ONLY] > 0
    for turn in range(2):
        for at in range(place["running"]):
            request = state.requests[state.running_requests[replica, at]]
            kind = state.request_classes[request["request_class"]]
            early = kind["selects_with_encoder"] == 1 and pooled
            ends = request["chunk"] > 0 and request["computed"] + request["chunk"] == request["prefill_tokens"]
            if early == (role == ENCODER_ONLY) and (ends or role == ENCODER_ONLY):
                if turn == 0:
                    prompts += 1
                else:
                    ticks += scaled_ticks(
                        kind["selection_ticks"], interpolated_share(state.batch_scaling[kind["schedule"], 0], prompts)
                    )
    return ticks


@inlined
def steps_alike(state: State, limits: Capacity, replica: int) -> int:
    """Steps until a request is done or the cache is full; what runs then holds the cache that these need."""
    place, low, high = state.replicas[replica], 1, NEVER
    for at in range(place["running"]):
        request = state.requests[state.running_requests[replica, at]]
        high = min(high, state.request_classes[request["request_class"]]["output_tokens"] - request["generated"])
    if high > 1:
        allocate_for_steps(state, replica, high)
    if place["kv_bytes"] <= limits.kv_bytes:
        return high
    while high - low > 1:
        middle = (low + high) // 2
        allocate_for_steps(state, replica, middle)
        if place["kv_bytes"] <= limits.kv_bytes:
            low = middle
        else:
            high = middle
    allocate_for_steps(state, replica, low)
    return low


@kernel
def plan_burst(state: State, pace: StepTimeModel, replica: int, start: int, steps: int) -> None:
    """Plan a stretch of ``steps`` from ``start``, whose cache is held."""
    place = state.replicas[replica]
    ticks = place["extra_ticks"]
    if place["role"] == ENCODER_ONLY:
        ticks += pace.host_ticks
    else:
        ticks += burst_ticks(state, pace, replica, steps)
    place["burst_start"], place["burst_steps"], place["burst_ticks"] = start, steps, ticks
    schedule_burst_end(state, start + ticks, replica)


@kernel
def shorten_burst(state: State, pace: StepTimeModel, replica: int, now: int) -> None:
    """End a stretch with the first step that is over at ``now``, so that who came can be scheduled then."""
    place = state.replicas[replica]
    steps = max(1, -(-(now - place["burst_start"]) // max(1, place["burst_ticks"] // place["burst_steps"])))
    while steps < place["burst_steps"] and place["burst_start"] + burst_ticks(state, pace, replica, steps) < now:
        steps += 1
    if steps < place["burst_steps"]:
        allocate_for_steps(state, replica, steps)
        plan_burst(state, pace, replica, place["burst_start"], steps)


@kernel
def end_burst(state: State, limits: Capacity, replica: int) -> None:
    """End a stretch: tokens are there, requests done or on their way to the next pool."""
    place, fleet = state.replicas[replica], state.fleet[0]
    steps, role = place["burst_steps"], place["role"]
    now = place["burst_start"] + place["burst_ticks"]
    place["busy_ticks"] += place["burst_ticks"]
    fleet["steps"] += steps
    log_event(state, place["burst_start"], STEP, NONE, replica, steps, place["burst_ticks"])
    step, gaps, kept = place["burst_ticks"] // steps, 0, 0
    for at in range(place["running"]):
        index = state.running_requests[replica, at]
        request = state.requests[index]
        kind = state.request_classes[request["request_class"]]
        chunk, stays = request["chunk"], True
        if role == ENCODER_ONLY:
            release_images(state, limits, replica, index)
            hand_over(state, limits, replica, index, now, kind["embedding_bytes"])
            stays = False
        elif chunk == 0:
            gaps += steps
            if request["gap_start"] != NONE:
                count_token_gaps(state, place["burst_start"] + step - request["gap_start"], 1)
                request["gap_start"], gaps = NONE, gaps - 1
            request["generated"] += steps
        elif chunk > 0:
            request["computed"] += chunk
            if request["computed"] == request["prefill_tokens"]:
                allocate(
                    state,
                    replica,
                    index,
                    cache_bytes(state, request["request_class"], request["generated"], KV_BLOCK_TOKENS),
                )
                release_images(state, limits, replica, index)
                request["generated"] += 1
                if request["first_token"] == NEVER:
                    request["first_token"], request["replica"] = now, replica
                    log_event(state, now, FIRST_TOKEN, index, replica, 0, 0)
                elif request["gap_start"] != NONE:
                    count_token_gaps(state, now - request["gap_start"], 1)
                request["gap_start"] = NONE
        if stays and request["generated"] == kind["output_tokens"]:
            allocate(state, replica, index, 0)
            request["finished"], request["status"] = now, DONE
            fleet["in_flight"] -= 1
            log_event(state, now, FINISH, index, replica, 0, 0)
            stays = False
        elif role == PREFILL_ONLY and stays and request["computed"] == request["prefill_tokens"]:
            request["gap_start"] = now
            hand_over(state, limits, replica, index, now, cache_bytes(state, request["request_class"], 0, 1))
            stays = False
        if stays:
            state.running_requests[replica, kept] = index
            kept += 1
    fleet["running"] -= place["running"] - kept
    place["running"] = kept
    if gaps > 0:
        count_token_gaps(state, step, gaps)


@inlined
def release_images(state: State, limits: Capacity, replica: int, index: int) -> None:
    """End the use of a request's embeddings where this replica has them."""
    if uses_encoder_cache(state, index, replica):
        release(state, limits, replica, index)


@inlined
def hand_over(state: State, limits: Capacity, replica: int, index: int, now: int, moved_bytes: int) -> None:
    """Send a request on its way to the next pool, behind what its replica sends already."""
    place = state.replicas[replica]
    place["link_free"] = max(now, place["link_free"]) + int(moved_bytes * limits.transfer_ticks_per_byte)
    arrival = place["link_free"] + limits.transfer_ticks
    log_event(state, now, TRANSFER, index, replica, moved_bytes, arrival - now)
    schedule_transfer_arrival(state, arrival, index, replica)
