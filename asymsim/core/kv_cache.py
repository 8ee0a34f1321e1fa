"""One sequence's cache in one segment of layers: how it grows, what a decode step attends to, what it takes."""

from __future__ import annotations

from typing import NamedTuple

from asymsim.core.arrays import Record
from asymsim.core.jit import inlined, kernel
from asymsim.core.model_arrays import ModelArrays
from asymsim.core.operators.mask_pairs import chunked_growth_sum
from asymsim.core.schedule import capped_growth_sum, growth, round_share
from asymsim.core.schedule_arrays import NEAREST, UNLIMITED, ScheduleArrays

# Tokens per KV block of a paged cache; the default of vLLM (CacheConfig.block_size).
KV_BLOCK_TOKENS = 16


class SequenceCache(NamedTuple):
    """What a sequence's cache follows from, after prefill and in decoding.

    Attributes
    ----------
    tokens : the prompt's tokens in the segment; of cross-attention, the visual ones.
    held : entries that the policy leaves of them.
    kv_heads, whole : all KV heads; those that keep every entry.
    window, limit : most entries of a whole head, and of the others.
    chunk : length of chunked attention; 0: none.
    free, retain_num, retain_den : generated tokens cached one by one, and the share of those beyond.
    own : 1 where a step attends to its own token beside the cache.
    """

    tokens: int
    held: int
    kv_heads: int
    whole: int
    window: int
    limit: int
    chunk: int
    free: int
    retain_num: int
    retain_den: int
    own: int


@inlined
def cache_of(
    model: ModelArrays, schedule: ScheduleArrays, kind: Record, segment: int, visual: int, text: int
) -> SequenceCache:
    """The cache of a layer kind in a segment that ``visual`` and ``text`` tokens entered."""
    kv_heads = kind["kv_heads"]
    if kind["cross"]:
        return SequenceCache(visual, visual, kv_heads, 0, UNLIMITED, UNLIMITED, 0, 0, 0, 1, 0)
    tokens = text + visual * model.visual_in_sequence
    rule = schedule.kv_rule[segment]
    budget = tokens
    if rule["num"] != rule["den"] or rule["plus"] != 0:
        budget = max(0, rule["num"] * tokens // rule["den"] + rule["plus"])
    free, retain_num, retain_den = UNLIMITED, 1, 1
    if schedule.threshold >= 0:
        free, retain_num, retain_den = max(0, schedule.threshold - text), schedule.retain_num, schedule.retain_den
    whole = 0
    if schedule.full_head_num > 0:
        whole = round_share(schedule.full_head_num, schedule.full_head_den, kv_heads, NEAREST)
    chunk = kind["chunk_tokens"]
    window = UNLIMITED
    if kind["window_tokens"] > 0:
        window = kind["window_tokens"] - 1
    elif chunk > 0:
        # The framework slides a window of the chunk's length; the mask itself starts anew with each chunk.
        window = chunk - 1
    limit = min(window, budget) if schedule.hold else window
    held = min(tokens, budget)
    return SequenceCache(tokens, held, kv_heads, whole, window, limit, chunk, free, retain_num, retain_den, 1)


@kernel
def attended_entries(cache: SequenceCache, steps: int) -> int:
    """Entries that the first ``steps`` decode steps attend to, own tokens included, all KV heads together."""
    if cache.chunk == 0:
        return framework_entries(cache, steps)
    free, num, den, total = cache.free, cache.retain_num, cache.retain_den, steps * cache.own * cache.kv_heads
    if cache.whole > 0:
        total += cache.whole * chunked_growth_sum(
            cache.tokens, cache.window, cache.tokens, cache.chunk, steps, free, num, den
        )
    if cache.whole < cache.kv_heads:
        total += (cache.kv_heads - cache.whole) * chunked_growth_sum(
            cache.held, cache.limit, cache.tokens, cache.chunk, steps, free, num, den
        )
    return total


@kernel
def framework_entries(cache: SequenceCache, steps: int) -> int:
    """As `attended_entries`, where the framework attends to all that is cached."""
    free, num, den, total = cache.free, cache.retain_num, cache.retain_den, steps * cache.own * cache.kv_heads
    if cache.whole > 0:
        total += cache.whole * capped_growth_sum(cache.tokens, cache.window, steps, free, num, den)
    if cache.whole < cache.kv_heads:
        total += (cache.kv_heads - cache.whole) * capped_growth_sum(cache.held, cache.limit, steps, free, num, den)
    return total


@kernel
def cached_entries(cache: SequenceCache, steps: int, block: int) -> int:
    """Entries of all KV heads after ``steps`` decode steps, each head's in whole blocks of ``block`` tokens."""
    grown = growth(steps, cache.free, cache.retain_num, cache.retain_den)
    whole = -(-min(cache.tokens + grown, cache.window) // block) * block
    rest = -(-min(cache.held + grown, cache.limit) // block) * block
    return cache.whole * whole + (cache.kv_heads - cache.whole) * rest
