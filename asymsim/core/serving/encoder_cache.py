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
        return state.requests[index]["resident"] == 1
    return state.uses[replica, image] > 0 or state.holder[replica, image] != NONE


@inlined
def has_room(state: State, limits: Capacity, replica: int, tokens: int) -> bool:
    """Whether ``tokens`` more may be in use; more than the whole cache may alone."""
    used = state.replicas[replica]["referenced"]
    return used == 0 or used + tokens <= limits.encoder_cache


@inlined
def acquire(state: State, limits: Capacity, replica: int, index: int) -> None:
    """Begin to use a request's embeddings, evicting others if these are new."""
    request, place = state.requests[index], state.replicas[replica]
    image, tokens = request["image"], state.kinds[request["kind"]]["encoder_tokens"]
    if image == NONE:
        if request["resident"] == 1:
            request["resident"] = 0
            place["unreferenced"] -= tokens
    else:
        state.uses[replica, image] += 1
        if state.uses[replica, image] > 1:
            return
        holder = state.holder[replica, image]
        if holder != NONE:
            state.requests[holder]["resident"] = 0
            state.holder[replica, image] = NONE
            place["unreferenced"] -= tokens
    place["referenced"] += tokens
    evict(state, limits, replica)


@inlined
def release(state: State, limits: Capacity, replica: int, index: int) -> None:
    """End a request's use of its embeddings; they stay as long as there is room."""
    request, place = state.requests[index], state.replicas[replica]
    image, tokens = request["image"], state.kinds[request["kind"]]["encoder_tokens"]
    if image != NONE:
        state.uses[replica, image] -= 1
        if state.uses[replica, image] > 0:
            return
        state.holder[replica, image] = index
    place["referenced"] -= tokens
    place["unreferenced"] += tokens
    request["resident"] = 1
    if request["in_freed"] == 0:
        request["in_freed"], request["freed_next"] = 1, NONE
        if place["freed_tail"] == NONE:
            place["freed_head"] = index
        else:
            state.requests[place["freed_tail"]]["freed_next"] = index
        place["freed_tail"] = index
    evict(state, limits, replica)


@inlined
def evict(state: State, limits: Capacity, replica: int) -> None:
    """Drop the oldest embeddings that nobody uses until the rest fits."""
    place = state.replicas[replica]
    while place["freed_head"] != NONE and place["referenced"] + place["unreferenced"] > limits.encoder_cache:
        oldest = state.requests[place["freed_head"]]
        if oldest["resident"] == 1:
            oldest["resident"] = 0
            place["unreferenced"] -= state.kinds[oldest["kind"]]["encoder_tokens"]
            if oldest["image"] != NONE:
                state.holder[replica, oldest["image"]] = NONE
        oldest["in_freed"] = 0
        place["freed_head"] = oldest["freed_next"]
        if place["freed_head"] == NONE:
            place["freed_tail"] = NONE
