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
    """The cache of one sequence in one segment of layers, after prefill and as decoding makes it grow.

    Attributes
    ----------
    prompt_tokens : the prompt's tokens in the segment; of cross-attention, the visual ones.
    kept_tokens : entries of them that the cache policy keeps.
    kv_heads, full_heads : all KV heads; the KV heads that keep every entry.
    window_cap, budget_cap : most entries of a full head, and of any other.
    chunk_tokens : length of chunked attention; 0: none.
    eviction_start : generated tokens that are all cached; eviction begins with the next.
    retain_num, retain_den : share of the generated tokens beyond that are cached.
    self_token : 1 where a decode step attends to its own token beside the cache.
    """

    prompt_tokens: int
    kept_tokens: int
    kv_heads: int
    full_heads: int
    window_cap: int
    budget_cap: int
    chunk_tokens: int
    eviction_start: int
    retain_num: int
    retain_den: int
    self_token: int


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
    if cache.chunk_tokens == 0:
        return framework_entries(cache, steps)
    free, num, den, total = (
        cache.eviction_start,
        cache.retain_num,
        cache.retain_den,
        steps * cache.self_token * cache.kv_heads,
    )
    if cache.full_heads > 0:
        total += cache.full_heads * chunked_growth_sum(
            cache.prompt_tokens, cache.window_cap, cache.prompt_tokens, cache.chunk_tokens, steps, free, num, den
        )
    if cache.full_heads < cache.kv_heads:
        total += (cache.kv_heads - cache.full_heads) * chunked_growth_sum(
            cache.kept_tokens, cache.budget_cap, cache.prompt_tokens, cache.chunk_tokens, steps, free, num, den
        )
    return total


@kernel
def framework_entries(cache: SequenceCache, steps: int) -> int:
    """As `attended_entries`, where the framework attends to all that is cached."""
    free, num, den, total = (
        cache.eviction_start,
        cache.retain_num,
        cache.retain_den,
        steps * cache.self_token * cache.kv_heads,
    )
    if cache.full_heads > 0:
        total += cache.full_heads * capped_growth_sum(cache.prompt_tokens, cache.window_cap, steps, free, num, den)
    if cache.full_heads < cache.kv_heads:
        total += (cache.kv_heads - cache.full_heads) * capped_growth_sum(
            cache.kept_tokens, cache.budget_cap, steps, free, num, den
        )
    return total


@kernel
def cached_entries(cache: SequenceCache, steps: int, block: int) -> int:
    """Entries of all KV heads after ``steps`` decode steps, each head's in whole blocks of ``block`` tokens."""
    grown = growth(steps, cache.eviction_start, cache.retain_num, cache.retain_den)
    whole = -(-min(cache.prompt_tokens + grown, cache.window_cap) // block) * block
    rest = -(-min(cache.kept_tokens + grown, cache.budget_cap) // block) * block
    return cache.full_heads * whole + (cache.kv_heads - cache.full_heads) * rest
