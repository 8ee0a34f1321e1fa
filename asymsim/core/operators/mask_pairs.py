"""Query-key pairs that an attention mask allows, in closed form."""

from __future__ import annotations

from asymsim.core.jit import kernel
from asymsim.core.model_arrays import BIDIRECTIONAL, IMAGE_BIDIRECTIONAL, PREFIX
from asymsim.core.schedule import capped_growth_sum, growth


@kernel
def causal_pairs(tokens: int, window: int, chunk: int) -> int:
    """Pairs of a causal mask, limited to a sliding ``window`` or to chunks where those are not 0.

    A token sees itself and the ``window - 1`` tokens before it, or the tokens of its chunk before it.
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
    if mask in (BIDIRECTIONAL, PREFIX):
        return tokens * tokens
    pairs = causal_pairs(tokens, window, chunk)
    if mask == IMAGE_BIDIRECTIONAL and images > 0:
        tokens_each, rest = visual // images, visual % images
        pairs += (images - rest) * (tokens_each * (tokens_each - 1) // 2) + rest * (
            (tokens_each + 1) * tokens_each // 2
        )
    return pairs


@kernel
def chunk_position_sum(position: int, chunk: int) -> int:
    """sum over p in [0, position) of p mod chunk: keys of its own chunk before each position."""
    rest = position % chunk
    return position // chunk * (chunk * (chunk - 1) // 2) + rest * (rest - 1) // 2


@kernel
def chunked_growth_sum(
    base: int, cap: int, position: int, chunk: int, steps: int, eviction_start: int, retain_num: int, retain_den: int
) -> int:
    """sum over t in [0, steps) of min(base + growth(t), cap, (position + t) mod chunk): keys that a decode step
    sees of its cache under chunked attention.

    Within a chunk its positions grow at least as fast as the cache, so the cache is the lesser from some
    step on, to the chunk's end.
    """
    total, begin = 0, 0
    while begin < steps:
        first = (position + begin) % chunk
        end = min(steps, begin + chunk - first)
        cached = min(base + growth(begin, eviction_start, retain_num, retain_den), cap)
        if cached >= chunk - 1:
            return total + chunk_position_sum(position + steps, chunk) - chunk_position_sum(position + begin, chunk)
        low, high = begin, end
        while low < high:
            middle = (low + high) // 2
            if first + middle - begin > min(base + growth(middle, eviction_start, retain_num, retain_den), cap):
                high = middle
            else:
                low = middle + 1
        total += chunk_position_sum(position + low, chunk) - chunk_position_sum(position + begin, chunk)
        total += capped_growth_sum(base, cap, end, eviction_start, retain_num, retain_den)
        total -= capped_growth_sum(base, cap, low, eviction_start, retain_num, retain_den)
        begin = end
    return total
