"""Encoder cache of a replica: embeddings that requests use, and unused embeddings that may be needed again.

As in vLLM's EncoderCacheManager, unused embeddings stay until their room is needed and leave oldest first.
"""

from __future__ import annotations

from asymsim.core.jit import inlined
from asymsim.core.serving.layout import NONE, Capacity, State


@inlined
def is_cached(state: State, replica: int, index: int) -> bool:
    """Whether a request's embeddings are in the cache, used or unused."""
    image = state.requests[index]["image"]
    if image == NONE:
        return state.requests[index]["cached_unused"] == 1
    return state.image_references[replica, image] > 0 or state.image_last_request[replica, image] != NONE


@inlined
def has_room(state: State, capacity: Capacity, replica: int, tokens: int) -> bool:
    """Whether embeddings of ``tokens`` more may be used; those larger than the whole cache may be alone."""
    used_tokens = state.replicas[replica]["referenced_tokens"]
    return used_tokens == 0 or used_tokens + tokens <= capacity.encoder_cache_tokens


@inlined
def acquire(state: State, capacity: Capacity, replica: int, index: int) -> None:
    """Use a request's embeddings, and evict others if these are new."""
    request, engine = state.requests[index], state.replicas[replica]
    image, tokens = request["image"], state.request_classes[request["request_class"]]["encoder_tokens"]
    if image == NONE:
        if request["cached_unused"] == 1:
            request["cached_unused"] = 0
            engine["unreferenced_tokens"] -= tokens
    else:
        state.image_references[replica, image] += 1
        if state.image_references[replica, image] > 1:
            return
        last_request = state.image_last_request[replica, image]
        if last_request != NONE:
            state.requests[last_request]["cached_unused"] = 0
            state.image_last_request[replica, image] = NONE
            engine["unreferenced_tokens"] -= tokens
    engine["referenced_tokens"] += tokens
    evict(state, capacity, replica)


@inlined
def release(state: State, capacity: Capacity, replica: int, index: int) -> None:
    """End a request's use of its embeddings, which stay as long as there is room."""
    request, engine = state.requests[index], state.replicas[replica]
    image, tokens = request["image"], state.request_classes[request["request_class"]]["encoder_tokens"]
    if image != NONE:
        state.image_references[replica, image] -= 1
        if state.image_references[replica, image] > 0:
            return
        state.image_last_request[replica, image] = index
    engine["referenced_tokens"] -= tokens
    engine["unreferenced_tokens"] += tokens
    request["cached_unused"] = 1
    if request["in_eviction_queue"] == 0:
        request["in_eviction_queue"], request["eviction_next"] = 1, NONE
        if engine["eviction_tail"] == NONE:
            engine["eviction_head"] = index
        else:
            state.requests[engine["eviction_tail"]]["eviction_next"] = index
        engine["eviction_tail"] = index
    evict(state, capacity, replica)


@inlined
def evict(state: State, capacity: Capacity, replica: int) -> None:
    """Evict the oldest unused embeddings until the rest fits."""
    engine = state.replicas[replica]
    while (
        engine["eviction_head"] != NONE
        and engine["referenced_tokens"] + engine["unreferenced_tokens"] > capacity.encoder_cache_tokens
    ):
        oldest = state.requests[engine["eviction_head"]]
        if oldest["cached_unused"] == 1:
            oldest["cached_unused"] = 0
            engine["unreferenced_tokens"] -= state.request_classes[oldest["request_class"]]["encoder_tokens"]
            if oldest["image"] != NONE:
                state.image_last_request[replica, oldest["image"]] = NONE
        oldest["in_eviction_queue"] = 0
        engine["eviction_head"] = oldest["eviction_next"]
        if engine["eviction_head"] == NONE:
            engine["eviction_tail"] = NONE
