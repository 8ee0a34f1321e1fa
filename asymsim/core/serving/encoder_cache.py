"""The encoder cache of a replica: embeddings in use, and those that nobody uses but that may be asked for again.

As vLLM's EncoderCacheManager: what is not in use stays until its room is needed, oldest first.
"""

from __future__ import annotations

from asymsim.core.jit import inlined
from asymsim.core.serving.layout import NONE, Capacity, State


@inlined
def is_cached(state: State, replica: int, index: int) -> bool:
    """Whether a request's embeddings are there, in use or not."""
    image = state.requests[index]["image"]
    if image == NONE:
        return state.requests[index]["cached_unused"] == 1
    return state.image_references[replica, image] > 0 or state.image_last_request[replica, image] != NONE


@inlined
def has_room(state: State, limits: Capacity, replica: int, tokens: int) -> bool:
    """Whether ``tokens`` more may be in use; more than the whole cache may alone."""
    used = state.replicas[replica]["referenced_tokens"]
    return used == 0 or used + tokens <= limits.encoder_cache_tokens


@inlined
def acquire(state: State, limits: Capacity, replica: int, index: int) -> None:
    """Begin to use a request's embeddings, evicting others if these are new."""
    request, place = state.requests[index], state.replicas[replica]
    image, tokens = request["image"], state.request_classes[request["request_class"]]["encoder_tokens"]
    if image == NONE:
        if request["cached_unused"] == 1:
            request["cached_unused"] = 0
            place["unreferenced_tokens"] -= tokens
    else:
        state.image_references[replica, image] += 1
        if state.image_references[replica, image] > 1:
            return
        holder = state.image_last_request[replica, image]
        if holder != NONE:
            state.requests[holder]["cached_unused"] = 0
            state.image_last_request[replica, image] = NONE
            place["unreferenced_tokens"] -= tokens
    place["referenced_tokens"] += tokens
    evict(state, limits, replica)


@inlined
def release(state: State, limits: Capacity, replica: int, index: int) -> None:
    """End a request's use of its embeddings; they stay as long as there is room."""
    request, place = state.requests[index], state.replicas[replica]
    image, tokens = request["image"], state.request_classes[request["request_class"]]["encoder_tokens"]
    if image != NONE:
        state.image_references[replica, image] -= 1
        if state.image_references[replica, image] > 0:
            return
        state.image_last_request[replica, image] = index
    place["referenced_tokens"] -= tokens
    place["unreferenced_tokens"] += tokens
    request["cached_unused"] = 1
    if request["in_eviction_queue"] == 0:
        request["in_eviction_queue"], request["eviction_next"] = 1, NONE
        if place["eviction_tail"] == NONE:
            place["eviction_head"] = index
        else:
            state.requests[place["eviction_tail"]]["eviction_next"] = index
        place["eviction_tail"] = index
    evict(state, limits, replica)


@inlined
def evict(state: State, limits: Capacity, replica: int) -> None:
    """Drop the oldest embeddings that nobody uses until the rest fits."""
    place = state.replicas[replica]
    while (
        place["eviction_head"] != NONE
        and place["referenced_tokens"] + place["unreferenced_tokens"] > limits.encoder_cache_tokens
    ):
        oldest = state.requests[place["eviction_head"]]
        if oldest["cached_unused"] == 1:
            oldest["cached_unused"] = 0
            place["unreferenced_tokens"] -= state.request_classes[oldest["request_class"]]["encoder_tokens"]
            if oldest["image"] != NONE:
                state.image_last_request[replica, oldest["image"]] = NONE
        oldest["in_eviction_queue"] = 0
        place["eviction_head"] = oldest["eviction_next"]
        if place["eviction_head"] == NONE:
            place["eviction_tail"] = NONE
