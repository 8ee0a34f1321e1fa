"""Blocks of the paged KV cache: their bytes, allocation and release."""

from __future__ import annotations

from asymsim.core.fields import read_fields
from asymsim.core.jit import inlined, kernel
from asymsim.core.kv_cache import KV_BLOCK_TOKENS, SequenceCache, cached_entries
from asymsim.core.serving.layout import State


@kernel
def cache_bytes(state: State, request_class: int, generated: int, block: int) -> int:
    """Cache of a request after ``generated`` tokens, each head's in whole blocks."""
    total = 0
    for index in range(len(state.groups)):
        entries = cached_entries(read_fields(SequenceCache, state.caches[request_class, index]), generated, block)
        total += entries * state.groups[index]["entry_bytes"]
    return total


@kernel
def prompt_bytes(state: State, request_class: int, generated: int) -> int:
    """Blocks of a whole prompt and ``generated`` tokens, before a method drops any entry."""
    total = 0
    for index in range(len(state.groups)):
        cache = state.caches[request_class, index]
        tokens = min(cache["prompt_tokens"] + generated * cache["self_token"], cache["window_cap"])
        blocks = -(-tokens // KV_BLOCK_TOKENS) * KV_BLOCK_TOKENS
        total += cache["kv_heads"] * blocks * state.groups[index]["entry_bytes"]
    return total


@inlined
def allocate(state: State, replica: int, index: int, kv_bytes: int) -> None:
    """Allocate ``kv_bytes`` of a replica's cache to a request in place of its present blocks; 0 releases them."""
    request, fleet = state.requests[index], state.fleet[0]
    more = kv_bytes - request["kv_bytes"]
    request["kv_bytes"] = kv_bytes
    state.replicas[replica]["kv_bytes"] += more
    fleet["kv_bytes"] += more
    if more > 0:
        fleet["allocated_bytes"] += more
    else:
        fleet["freed_bytes"] -= more


@kernel
def allocate_for_steps(state: State, replica: int, steps: int) -> None:
    """Allocate to every decoding request the blocks that it needs after ``steps``."""
    engine, fleet, allocated, freed = state.replicas[replica], state.fleet[0], 0, 0
    for at in range(engine["running"]):
        request = state.requests[state.running_requests[replica, at]]
        if request["chunk"] == 0:
            kv_bytes = cache_bytes(state, request["request_class"], request["generated"] - 1 + steps, KV_BLOCK_TOKENS)
            allocated += max(0, kv_bytes - request["kv_bytes"])
            freed += max(0, request["kv_bytes"] - kv_bytes)
            request["kv_bytes"] = kv_bytes
    engine["kv_bytes"] += allocated - freed
    fleet["kv_bytes"] += allocated - freed
    fleet["allocated_bytes"] += allocated
    fleet["freed_bytes"] += freed
