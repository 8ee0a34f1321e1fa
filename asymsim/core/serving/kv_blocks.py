"""The paged cache: what a request's blocks take, and who holds how much."""

from __future__ import annotations

from asymsim.core.jit import inlined, kernel
from asymsim.core.kv_cache import KV_BLOCK_TOKENS, cached_entries
from asymsim.core.serving.layout import State
from asymsim.core.serving.step_time import cache_from


@kernel
def cache_bytes(state: State, kind: int, generated: int, block: int) -> int:
    """Cache of a request with ``generated`` tokens of its own in it, each head's in whole blocks."""
    total = 0
    for index in range(len(state.groups)):
        entries = cached_entries(cache_from(state.caches[kind, index]), generated, block)
        total += entries * state.groups[index]["entry_bytes"]
    return total


@kernel
def prompt_bytes(state: State, kind: int, generated: int) -> int:
    """Blocks of a whole prompt and ``generated`` tokens, before a method drops any of them."""
    total = 0
    for index in range(len(state.groups)):
        cache = state.caches[kind, index]
        tokens = min(cache["prompt_tokens"] + generated * cache["self_token"], cache["window_cap"])
        blocks = -(-tokens // KV_BLOCK_TOKENS) * KV_BLOCK_TOKENS
        total += cache["kv_heads"] * blocks * state.groups[index]["entry_bytes"]
    return total


@inlined
def allocate(state: State, replica: int, index: int, kv_bytes: int) -> None:
    """Let a request hold ``kv_bytes`` of its replica's cache."""
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
    """Let every decoding request hold what it will have after ``steps``."""
    place, fleet, allocated, freed = state.replicas[replica], state.fleet[0], 0, 0
    for at in range(place["running"]):
        request = state.requests[state.running_requests[replica, at]]
        if request["chunk"] == 0:
            kv_bytes = cache_bytes(state, request["request_class"], request["generated"] - 1 + steps, KV_BLOCK_TOKENS)
            allocated += max(0, kv_bytes - request["kv_bytes"])
            freed += max(0, request["kv_bytes"] - kv_bytes)
            request["kv_bytes"] = kv_bytes
    place["kv_bytes"] += allocated - freed
    fleet["kv_bytes"] += allocated - freed
    fleet["allocated_bytes"] += allocated
    fleet["freed_bytes"] += freed
