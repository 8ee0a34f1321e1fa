"""Query-key pairs that an attention mask allows, in closed form."""

from __future__ import annotations

from asymsim.core.jit import kernel
from asymsim.core.layout import BIDIRECTIONAL, IMAGE_BIDIRECTIONAL, PREFIX


@kernel
def causal_pairs(tokens: int, window: int, chunk: int) -> int:
    """Pairs of a causal mask, limited to a sliding ``window`` or to chunks where those are not 0.

    A token sees itself and the ``window - 1`` before it, or those of its own chunk before it.
    """
    if chunk > 0:
        rest = tokens % chunk
        return tokens // chunk * (chunk * (chunk + 1) // 2) + rest * (rest + 1) // 2
    if window <= 0 or tokens <= window:
        return tokens * (tokens + 1) // 2
    return window * (window + 1) // 2 + (tokens - window) * window


@kernel
def prefill_pairs(mask: int, tokens: int, visual: int, images: int, window: int, chunk: int) -> int:
    """Pairs of one sequence in prefill.

    Where images see themselves in both directions, each image of q tokens adds the q (q - 1) / 2
    pairs above the diagonal; the visual tokens are spread over the images as evenly as they go.
    """
    if mask == BIDIRECTIONAL or mask == PREFIX:
        return tokens * tokens
    pairs = causal_pairs(tokens, window, chunk)
    if mask == IMAGE_BIDIRECTIONAL and images > 0:
        each, rest = visual // images, visual % images
        pairs += (images - rest) * (each * (each - 1) // 2) + rest * ((each + 1) * each // 2)
    return pairs


@kernel
def chunk_position_sum(position: int, chunk: int) -> int:
    """sum over p in [0, position) of p mod chunk + 1: keys seen in decode under chunked attention."""
    rest = position % chunk
    return position // chunk * (chunk * (chunk + 1) // 2) + rest * (rest + 1) // 2
