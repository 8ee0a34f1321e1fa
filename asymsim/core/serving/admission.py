"""Whether the first request that waits may begin, and what its beginning takes."""

from __future__ import annotations

from asymsim.core.jit import inlined
from asymsim.core.kv_cache import KV_BLOCK_TOKENS
from asymsim.core.serving.batch_scaling import interpolated_ticks
from asymsim.core.serving.encoder_cache import acquire, has_room, is_cached
from asymsim.core.serving.events import log_event
from asymsim.core.serving.kv_blocks import allocate, cache_bytes, prompt_bytes
from asymsim.core.serving.layout import (
    DECODES,
    ENCODE,
    ENCODES,
    NEVER,
    NONE,
    PREFILLS,
    SCHEDULE,
    WHOLE,
    Capacity,
    State,
)


@inlined
def uses_encoder_cache(state: State, index: int, replica: int) -> bool:
    """Whether a request's embeddings lie in the replica's encoder cache until its prompt is through.

    Not where another pool encodes: a cache that is lost in decoding is made anew without one.
    """
    if state.kinds[state.requests[index]["kind"]]["encoder_tokens"] == 0:
        return False
    role = state.replicas[replica]["role"]
    return role in (WHOLE, ENCODES) or (role == PREFILLS and state.fleet[0]["number"][ENCODES] == 0)


@inlined
def admit(state: State, limits: Capacity, replica: int, now: int, room: int, prompts: int) -> int:
    """Begin the first request that waits, if it may: the tokens that it takes of the step; 0 if it may not."""
    place = state.replicas[replica]
    index = place["head"]
    request = state.requests[index]
    kind, role = state.kinds[request["kind"]], place["role"]
    # A pool of decoders gets requests with their cache.
    prefilled = request["computed"] == request["goal"]
    cached = uses_encoder_cache(state, index, replica) and not prefilled
    encodes = cached or (role == DECODES and kind["encoder_tokens"] > 0 and not prefilled)
    fresh = encodes and not (cached and is_cached(state, replica, index))
    if fresh:
        left = place["encoder_left"]
        if kind["encoder_tokens"] > left and left < limits.encoder_budget:
            return 0
        if cached and not has_room(state, limits, replica, kind["encoder_tokens"]):
            return 0
    chunk, shared, kv_bytes = 0, 0, 0
    if role != ENCODES:
        if not prefilled:
            shared = int(limits.prefix_share * request["goal"]) // KV_BLOCK_TOKENS * KV_BLOCK_TOKENS
            shared = min(shared, request["goal"] - 1)
            chunk = request["goal"] - shared
            if chunk > room and kind["splits"] == 1:
                chunk = room
            elif chunk > room and prompts > 0:
                return 0
        kv_bytes = cache_bytes(state, request["kind"], request["generated"], KV_BLOCK_TOKENS)
        if not prefilled and shared + chunk < request["goal"]:
            # What a method drops of the cache goes with the prompt's last chunk.
            kv_bytes = max(kv_bytes, prompt_bytes(state, request["kind"], request["generated"]))
        if place["kv_bytes"] + kv_bytes > limits.kv_capacity:
            return 0
        if not prefilled:
            request["shared"], request["computed"] = shared, shared
    dequeue_head(state, replica, index)
    request["chunk"] = chunk
    allocate(state, replica, index, kv_bytes)
    if cached:
        acquire(state, limits, replica, index)
    if fresh:
        place["encoder_left"] = max(0, place["encoder_left"] - kind["encoder_tokens"])
        ticks = encoding_ticks(state, replica, index, now)
        place["other"] += ticks
        log_event(state, now, ENCODE, index, replica, kind["encoder_tokens"], ticks)
    if request["scheduled"] == NEVER:
        request["scheduled"] = now
    log_event(state, now, SCHEDULE, index, replica, chunk, 0)
    return max(1, chunk)


@inlined
def encoding_ticks(state: State, replica: int, index: int, now: int) -> int:
    """What encoding one more request's images adds to a step: like ones share the encoder's kernels."""
    request = state.requests[index]
    images, before = state.kinds[request["kind"]]["images"], 0
    request["encoded"] = now
    for at in range(state.replicas[replica]["running"]):
        other = state.requests[state.runs[replica, at]]
        if other["encoded"] == now and state.kinds[other["kind"]]["images"] == images:
            before += 1
    powers = state.encoder[images]
    # The request itself runs already.
    return interpolated_ticks(powers, before) - (interpolated_ticks(powers, before - 1) if before > 1 else 0)


@inlined
def dequeue_head(state: State, replica: int, index: int) -> None:
    """Move the first request of the queue to those that run."""
    place, fleet = state.replicas[replica], state.fleet[0]
    place["head"] = state.requests[index]["next"]
    if place["head"] == NONE:
        place["tail"] = NONE
    place["waiting"] -= 1
    fleet["waiting"] -= 1
    state.runs[replica, place["running"]] = index
    place["running"] += 1
    fleet["running"] += 1
