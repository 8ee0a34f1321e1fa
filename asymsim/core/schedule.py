"""Token counts of each segment of layers, from a schedule's pruning steps."""

from __future__ import annotations

from asymsim.core.arrays import Array, Record
from asymsim.core.jit import inlined, kernel
from asymsim.core.model_arrays import ModelArrays
from asymsim.core.schedule_arrays import (
    CEIL,
    ENCODER,
    ENCODER_END,
    ENCODER_MLP,
    LM,
    NEAREST,
    PRESENT,
    TEXT,
    ScheduleArrays,
)
from asymsim.core.token_counts import TokenCounts


@kernel
def round_share(num: int, den: int, reference: int, rounding: int) -> int:
    """``num / den * reference`` as an integer; nearest rounds halves to even, as Python and torch do."""
    product = num * reference
    if den == 1:
        return product
    whole = product // den
    rest = product - whole * den
    if (rounding == CEIL and rest > 0) or (
        rounding == NEAREST and (2 * rest > den or (2 * rest == den and whole % 2 == 1))
    ):
        whole += 1
    return whole


@kernel
def apply_pruning_step(step: Record, original: int, present: int) -> tuple[int, int, int]:
    """Tokens kept of ``present``, tokens merged from dropped ones, and the pool of dropped tokens they come from."""
    reference = present if step["share_of"] == PRESENT else original
    kept = round_share(step["num"], step["den"], reference, step["rounding"]) + step["plus"]
    lowest = 0
    if step["at_least_num"] > 0:
        lowest = -((-step["at_least_num"] * present) // step["at_least_den"])
    kept = min(max(kept, lowest), present)
    dropped = present - kept
    merged, pool = 0, 0
    if step["recycle_den"] > 0 and dropped > 0:
        pool = step["recycle_num"] * dropped // step["recycle_den"] + step["recycle_plus"]
        merged = min(max(0, pool // step["recycle_divisor"] + step["recycle_extra"]), dropped)
        pool = min(max(0, pool), dropped)
    return kept, merged, pool


@inlined
def run_tower(schedule: ScheduleArrays, token_counts: TokenCounts, extra: int, counts: Array) -> int:
    """Fill tokens per encoder segment and return what is left per sequence at the encoder's end.

    ``counts`` (segments, 5): patches before the segment's first step, then those that enter its
    attention and its MLP, then the tokens merged and their pool. Extra tokens are not counted.
    """
    original = token_counts.sequence_tokens - extra if token_counts.sequences > 0 else 0
    present = original
    for segment in range(len(schedule.tower_starts) - 1):
        counts[segment, 0] = present
        counts[segment, 3], counts[segment, 4] = 0, 0
        for index in range(len(schedule.pruning_steps)):
            step = schedule.pruning_steps[index]
            if step["stage"] == ENCODER and step["segment"] == segment:
                kept, merged, pool = apply_pruning_step(step, original, present)
                present = kept + merged
                counts[segment, 3] += merged
                counts[segment, 4] += pool
        counts[segment, 1] = present
        for index in range(len(schedule.pruning_steps)):
            step = schedule.pruning_steps[index]
            if step["stage"] == ENCODER_MLP and step["segment"] == segment:
                kept, merged, pool = apply_pruning_step(step, original, present)
                present = kept + merged
                counts[segment, 3] += merged
                counts[segment, 4] += pool
        counts[segment, 2] = present
    return present


@inlined
def run_language_model(
    schedule: ScheduleArrays, model: ModelArrays, token_counts: TokenCounts, tower_left: int, counts: Array, end: Array
) -> None:
    """Fill visual and text tokens per language-model segment.

    ``counts`` (segments, 5): visual tokens before the segment's steps, visual and text tokens that
    enter it, tokens merged and their pool. ``end`` (4): visual tokens at the encoder's end before and
    after its steps, tokens merged there and their pool.
    """
    original = token_counts.visual_tokens
    present = original
    per_sequence = token_counts.sequence_tokens - model.extra_tokens
    if token_counts.sequences > 0 and tower_left < per_sequence:
        present = original * tower_left // per_sequence
    end[0] = present
    end[2], end[3] = 0, 0
    for index in range(len(schedule.pruning_steps)):
        step = schedule.pruning_steps[index]
        if step["stage"] == ENCODER_END:
            kept, merged, pool = apply_pruning_step(step, original, present)
            present = kept + merged
            end[2] += merged
            end[3] += pool
    end[1] = present
    text = token_counts.text_tokens
    for segment in range(len(schedule.lm_starts) - 1):
        counts[segment, 0] = present
        counts[segment, 3], counts[segment, 4] = 0, 0
        for index in range(len(schedule.pruning_steps)):
            step = schedule.pruning_steps[index]
            if step["stage"] == LM and step["segment"] == segment:
                if step["target"] == TEXT:
                    kept, merged, _ = apply_pruning_step(step, token_counts.text_tokens, text)
                    text = kept + merged
                else:
                    kept, merged, pool = apply_pruning_step(step, original, present)
                    present = kept + merged
                    counts[segment, 3] += merged
                    counts[segment, 4] += pool
        counts[segment, 1] = present
        counts[segment, 2] = text


@kernel
def floor_sum(count: int, divisor: int, factor: int) -> int:
    """sum over i in [0, count) of floor(factor * i / divisor), by Euclid's descent."""
    total, offset = 0, 0
    while count > 0:
        if factor >= divisor:
            total += (count - 1) * count // 2 * (factor // divisor)
            factor %= divisor
        if offset >= divisor:
            total += count * (offset // divisor)
            offset %= divisor
        highest = factor * count + offset
        if highest < divisor:
            break
        count = highest // divisor
        offset = highest % divisor
        divisor, factor = factor, divisor
    return total


@kernel
def growth(step: int, eviction_start: int, retain_num: int, retain_den: int) -> int:
    """Generated tokens in the cache after ``step`` of them: all up to ``eviction_start``, beyond it a share."""
    if step <= eviction_start:
        return step
    return eviction_start + retain_num * (step - eviction_start) // retain_den


@kernel
def growth_sum(steps: int, eviction_start: int, retain_num: int, retain_den: int) -> int:
    """sum over t in [0, steps) of ``growth``."""
    if steps <= eviction_start + 1:
        return steps * (steps - 1) // 2
    beyond = steps - eviction_start
    return (
        eviction_start * (eviction_start - 1) // 2 + eviction_start * beyond + floor_sum(beyond, retain_den, retain_num)
    )


@kernel
def capped_growth_sum(base: int, cap: int, steps: int, eviction_start: int, retain_num: int, retain_den: int) -> int:
    """sum over t in [0, steps) of min(base + growth(t), cap): a cache that a sliding window limits."""
    if base + steps <= cap:
        return base * steps + growth_sum(steps, eviction_start, retain_num, retain_den)
    if base >= cap:
        return cap * steps
    low, high = 0, steps
    while low < high:
        middle = (low + high) // 2
        if base + growth(middle, eviction_start, retain_num, retain_den) >= cap:
            high = middle
        else:
            low = middle + 1
    return base * low + growth_sum(low, eviction_start, retain_num, retain_den) + (steps - low) * cap
