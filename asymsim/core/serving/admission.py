"""Whether the first request that waits may begin, and what its beginning takes."""

from __future__ import annotations

from asymsim.core.jit import inlined
from asymsim.core.kv_cache import KV_BLOCK_TOKENS
from asymsim.core.serving.batch_scaling import interpolated_ticks
from asymsim.core.serving.encoder_cache import acquire, has_room, is_cached
from asymsim.core.serving.events import log_event
from asymsim.core.serving.kv_blocks import allocate, cache_bytes, prompt_bytes
from asymsim.core.serving.layout import (
    AGGREGATED,
    DECODE_ONLY,
    ENCODE,
    ENCODER_ONLY,
    NEVER,
    NONE,
    PREFILL_ONLY,
    SCHEDULE,
    Capacity,
    State,
)


@inlined
def uses_encoder_cache(state: State, index: int, replica: int) -> bool:
    """Whether a request's embeddings lie in the replica's encoder cache until its prompt is through.

    Not where another pool encodes: a cache that is lost in decoding is made anew without one.
    """
    if state.request_classes[state.requests[index]["request_class"]]["encoder_tokens"] == 0:
        return False
    role = state.replicas[replica]["role"]
    return role in (AGGREGATED, ENCODER_ONLY) or (
        role == PREFILL_ONLY and state.fleet[0]["replicas"][ENCODER_ONLY] == 0
    )


@inlined
def admit(state: State, limits: Capacity, replica: int, now: int, room: int, prompts: int) -> int:
    """Begin the first request that waits, if it may: the tokens that it takes of the step; 0 if it may not."""
    place = state.replicas[replica]
    index = place["queue_head"]
    request = state.requests[index]
    kind, role = state.request_classes[request["request_class"]], place["role"]
    # A pool of decoders gets requests with their cache.
    prefilled = request["computed"] == request["prefill_tokens"]
    cached = uses_encoder_cache(state, index, replica) and not prefilled
    encodes = cached or (role == DECODE_ONLY and kind["encoder_tokens"] > 0 and not prefilled)
    fresh = encodes and not (cached and is_cached(state, replica, index))
    if fresh:
        left = place["encoder_budget_left"]
        if kind["encoder_tokens"] > left and left < limits.encoder_budget_tokens:
            return 0
        if cached and not has_room(state, limits, replica, kind["encoder_tokens"]):
            return 0
    chunk, shared, kv_bytes = 0, 0, 0
    if role != ENCODER_ONLY:
        if not prefilled:
            shared = int(limits.prefix_share * request["prefill_tokens"]) // KV_BLOCK_TOKENS * KV_BLOCK_TOKENS
            shared = min(shared, request["prefill_tokens"] - 1)
            chunk = request["prefill_tokens"] - shared
            if chunk > room and kind["chunkable"] == 1:
                chunk = room
            elif chunk > room and prompts > 0:
                return 0
        kv_bytes = cache_bytes(state, request["request_class"], request["generated"], KV_BLOCK_TOKENS)
        if not prefilled and shared + chunk < request["prefill_tokens"]:
            # What a method drops of the cache goes with the prompt's last chunk.
            kv_bytes = max(kv_bytes, prompt_bytes(state, request["request_class"], request["generated"]))
        if place["kv_bytes"] + kv_bytes > limits.kv_bytes:
            return 0
        if not prefilled:
            request["prefix_tokens"], request["computed"] = shared, shared
    dequeue_head(state, replica, index)
    request["chunk"] = chunk
    allocate(state, replica, index, kv_bytes)
    if cached:
        acquire(state, limits, replica, index)
    if fresh:
        place["encoder_budget_left"] = max(0, place["encoder_budget_left"] - kind["encoder_tokens"])
        ticks = encoding_ticks(state, replica, index, now)
        place["extra_ticks"] += ticks
        log_event(state, now, ENCODE, index, replica, kind["encoder_tokens"], ticks)
    if request["scheduled"] == NEVER:
        request["scheduled"] = now
    log_event(state, now, SCHEDULE, index, replica, chunk, 0)
    return max(1, chunk)


@inlined
def encoding_ticks(state: State, replica: int, index: int, now: int) -> int:
    """What encoding one more request's images adds to a step: like ones share the encoder's kernels."""
    request = state.requests[index]
    images, before = state.request_classes[request["request_class"]]["encoder_row"], 0
    request["encoding_start"] = now
    for at in range(state.replicas[replica]["running"]):
        other = state.requests[state.running_requests[replica, at]]
        if other["encoding_start"] == now and state.request_classes[other["request_class"]]["encoder_row"] == images:
            before += 1
    powers = state.encoder_ticks[images]
    # The request itself runs already.
    return interpolated_ticks(powers, before) - (interpolated_ticks(powers, before - 1) if before > 1 else 0)


@inlined
def dequeue_head(state: State, replica: int, index: int) -> None:
    """Move the first request of the queue to those that run."""
    place, fleet = state.replicas[replica], state.fleet[0]
    place["queue_head"] = state.requests[index]["queue_next"]
    if place["queue_head"] == NONE:
        place["queue_tail"] = NONE
    place["waiting"] -= 1
    fleet["waiting"] -= 1
    state.running_requests[replica, place["running"]] = index
    place["running"] += 1
    fleet["running"] += 1
