"""KV cache of one sequence in one segment of layers: its growth, the entries that decode steps attend to, its size."""

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
    eviction_start, retain_num, retain_den = UNLIMITED, 1, 1
    if schedule.eviction_threshold_tokens >= 0:
        eviction_start = max(0, schedule.eviction_threshold_tokens - text)
        retain_num, retain_den = schedule.retain_num, schedule.retain_den
    full_heads = 0
    if schedule.full_head_num > 0:
        full_heads = round_share(schedule.full_head_num, schedule.full_head_den, kv_heads, NEAREST)
    chunk = kind["chunk_tokens"]
    window_cap = UNLIMITED
    if kind["window_tokens"] > 0:
        window_cap = kind["window_tokens"] - 1
    elif chunk > 0:
        # The framework slides a window of the chunk's length; the mask itself starts anew with each chunk.
        window_cap = chunk - 1
    budget_cap = min(window_cap, budget) if schedule.budget_in_decoding else window_cap
    kept = min(tokens, budget)
    return SequenceCache(
        tokens, kept, kv_heads, full_heads, window_cap, budget_cap, chunk, eviction_start, retain_num, retain_den, 1
    )


@kernel
def attended_entries(cache: SequenceCache, steps: int) -> int:
    """Entries that the first ``steps`` decode steps attend to, their own tokens included, all KV heads together."""
    if cache.chunk_tokens == 0:
        return framework_entries(cache, steps)
    position, chunk, start = cache.prompt_tokens, cache.chunk_tokens, cache.eviction_start
    num, den = cache.retain_num, cache.retain_den
    total = steps * cache.self_token * cache.kv_heads
    if cache.full_heads > 0:
        total += cache.full_heads * chunked_growth_sum(
            cache.prompt_tokens, cache.window_cap, position, chunk, steps, start, num, den
        )
    if cache.full_heads < cache.kv_heads:
        total += (cache.kv_heads - cache.full_heads) * chunked_growth_sum(
            cache.kept_tokens, cache.budget_cap, position, chunk, steps, start, num, den
        )
    return total


@kernel
def framework_entries(cache: SequenceCache, steps: int) -> int:
    """As `attended_entries`, where the framework attends to all that is cached."""
    start, num, den = cache.eviction_start, cache.retain_num, cache.retain_den
    total = steps * cache.self_token * cache.kv_heads
    if cache.full_heads > 0:
        total += cache.full_heads * capped_growth_sum(cache.prompt_tokens, cache.window_cap, steps, start, num, den)
    if cache.full_heads < cache.kv_heads:
        pruned_heads = cache.kv_heads - cache.full_heads
        total += pruned_heads * capped_growth_sum(cache.kept_tokens, cache.budget_cap, steps, start, num, den)
    return total


@kernel
def cached_entries(cache: SequenceCache, steps: int, block: int) -> int:
    """Entries of all KV heads after ``steps`` decode steps, each head's in whole blocks of ``block`` tokens."""
    grown = growth(steps, cache.eviction_start, cache.retain_num, cache.retain_den)
    of_full_head = -(-min(cache.prompt_tokens + grown, cache.window_cap) // block) * block
    of_pruned_head = -(-min(cache.kept_tokens + grown, cache.budget_cap) // block) * block
    return cache.full_heads * of_full_head + (cache.kv_heads - cache.full_heads) * of_pruned_head
