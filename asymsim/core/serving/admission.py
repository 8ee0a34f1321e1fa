"""Admission of the head-of-line request, and the KV blocks and encoder work that it takes."""

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
    """Whether a request's embeddings stay in the replica's encoder cache until its prompt is computed.

    They do not where another pool encodes: a decode pool computes a lost KV cache anew without an encoder cache.
    """
    if state.request_classes[state.requests[index]["request_class"]]["encoder_tokens"] == 0:
        return False
    role, encoders = state.replicas[replica]["role"], state.fleet[0]["replicas"][ENCODER_ONLY]
    return role in (AGGREGATED, ENCODER_ONLY) or (role == PREFILL_ONLY and encoders == 0)


@inlined
def admit(state: State, capacity: Capacity, replica: int, now: int, room: int, prompts: int) -> int:
    """Admit the head of the queue if it may run: the tokens that it takes of the engine step; 0 if it may not.

    ``room`` is the number of tokens left in the engine step, ``prompts`` the number of prompts that it has already.
    """
    engine = state.replicas[replica]
    index = engine["queue_head"]
    request = state.requests[index]
    request_class, role = state.request_classes[request["request_class"]], engine["role"]
    # A decode pool receives requests with their KV cache.
    prefilled = request["computed"] == request["prefill_tokens"]
    cached = uses_encoder_cache(state, index, replica) and not prefilled
    encodes = cached or (role == DECODE_ONLY and request_class["encoder_tokens"] > 0 and not prefilled)
    encodes_now = encodes and not (cached and is_cached(state, replica, index))
    if encodes_now:
        budget_left = engine["encoder_budget_left"]
        if request_class["encoder_tokens"] > budget_left and budget_left < capacity.encoder_budget_tokens:
            return 0
        if cached and not has_room(state, capacity, replica, request_class["encoder_tokens"]):
            return 0
    chunk, prefix_tokens, kv_bytes = 0, 0, 0
    if role != ENCODER_ONLY:
        if not prefilled:
            prefix_tokens = int(capacity.prefix_share * request["prefill_tokens"]) // KV_BLOCK_TOKENS * KV_BLOCK_TOKENS
            prefix_tokens = min(prefix_tokens, request["prefill_tokens"] - 1)
            chunk = request["prefill_tokens"] - prefix_tokens
            if chunk > room and request_class["chunkable"] == 1:
                chunk = room
            elif chunk > room and prompts > 0:
                return 0
        kv_bytes = cache_bytes(state, request["request_class"], request["generated"], KV_BLOCK_TOKENS)
        if not prefilled and prefix_tokens + chunk < request["prefill_tokens"]:
            # The method drops entries of the cache with the prompt's last chunk.
            kv_bytes = max(kv_bytes, prompt_bytes(state, request["request_class"], request["generated"]))
        if engine["kv_bytes"] + kv_bytes > capacity.kv_bytes:
            return 0
        if not prefilled:
            request["prefix_tokens"], request["computed"] = prefix_tokens, prefix_tokens
    dequeue_head(state, replica, index)
    request["chunk"] = chunk
    allocate(state, replica, index, kv_bytes)
    if cached:
        acquire(state, capacity, replica, index)
    if encodes_now:
        engine["encoder_budget_left"] = max(0, engine["encoder_budget_left"] - request_class["encoder_tokens"])
        ticks = encoding_ticks(state, replica, index, now)
        engine["extra_ticks"] += ticks
        log_event(state, now, ENCODE, index, replica, request_class["encoder_tokens"], ticks)
    if request["scheduled"] == NEVER:
        request["scheduled"] = now
    log_event(state, now, SCHEDULE, index, replica, chunk, 0)
    return max(1, chunk)


@inlined
def encoding_ticks(state: State, replica: int, index: int, now: int) -> int:
    """Ticks that encoding one more request's images adds to an engine step: like images share the encoder's kernels."""
    request = state.requests[index]
    row, alike = state.request_classes[request["request_class"]]["encoder_row"], 0
    request["encoding_start"] = now
    for at in range(state.replicas[replica]["running"]):
        other = state.requests[state.running_requests[replica, at]]
        if other["encoding_start"] == now and state.request_classes[other["request_class"]]["encoder_row"] == row:
            alike += 1
    powers = state.encoder_ticks[row]
    # The request itself runs already.
    return interpolated_ticks(powers, alike) - (interpolated_ticks(powers, alike - 1) if alike > 1 else 0)


@inlined
def dequeue_head(state: State, replica: int, index: int) -> None:
    """Move the head of the queue to the running requests."""
    engine, fleet = state.replicas[replica], state.fleet[0]
    engine["queue_head"] = state.requests[index]["queue_next"]
    if engine["queue_head"] == NONE:
        engine["queue_tail"] = NONE
    engine["waiting"] -= 1
    fleet["waiting"] -= 1
    state.running_requests[replica, engine["running"]] = index
    engine["running"] += 1
    fleet["running"] += 1
