"""Operator rows of all decode steps: dense parts once, attention over the growing cache."""

from __future__ import annotations

from asymsim.core.arrays import Array
from asymsim.core.jit import inlined, kernel
from asymsim.core.kv_cache import KV_BLOCK_TOKENS, attended_entries, cache_of, cached_entries, framework_entries
from asymsim.core.model_arrays import ModelArrays, Precision
from asymsim.core.operators.attention_rows import kv_entry_bytes, put_decode_attention
from asymsim.core.operators.layer_rows import put_dense
from asymsim.core.operators.layout import BY_COLUMNS, DECODE, EMBED, HEAD
from asymsim.core.operators.rows import Placement, ProductShape, put_elementwise, put_linear, repeat
from asymsim.core.schedule_arrays import ScheduleArrays
from asymsim.core.token_counts import TokenCounts
from asymsim.core.workspace import (
    FIRST_STEP_FLOPS,
    FIRST_STEP_TORCH_FLOPS,
    KV_FINAL_BYTES,
    KV_PAGED_BYTES,
    KV_PREFILL_BYTES,
    Workspace,
)


@kernel
def layers_with_visual(prefix: Array, starts: Array, counts: Array, index: int) -> int:
    """Layers of a kind that still see visual tokens."""
    layers = 0
    for segment in range(len(starts) - 1):
        if counts[segment, 1] > 0:
            layers += prefix[starts[segment + 1], index] - prefix[starts[segment], index]
    return layers


@inlined
def put_decode(
    model: ModelArrays,
    schedule: ScheduleArrays,
    token_counts: TokenCounts,
    precision: Precision,
    work: Workspace,
    at: int,
) -> int:
    """All output tokens after the first: the dense part once a kind, attention once a segment and kind."""
    rows, batch, totals = work.operators, token_counts.batch_size, work.totals
    steps = token_counts.output_tokens - 1
    first = at
    all_layers = len(model.lm_prefix) - 1
    for index in range(len(model.lm_kinds)):
        layers = model.lm_prefix[all_layers, index]
        if model.lm_kinds[index]["cross"]:
            layers = layers_with_visual(model.lm_prefix, schedule.lm_starts, work.lm_counts, index)
        place = Placement(DECODE, 0, layers, layers)
        at = put_dense(rows, at, model.lm_kinds[index], place, batch, 0, batch, precision)
    head, place = ProductShape(batch, model.vocab_size, model.hidden_size), Placement(DECODE, all_layers, 1, 1)
    at = put_linear(rows, at, HEAD, place, head, BY_COLUMNS, precision)
    width_bytes = batch * model.hidden_size * precision.activation_bits // 8
    at = put_elementwise(rows, at, EMBED, Placement(DECODE, 0, 1, 1), width_bytes, width_bytes, 0)
    for index in range(first, at):
        totals[FIRST_STEP_FLOPS] += rows[index]["flops"]
        totals[FIRST_STEP_TORCH_FLOPS] += rows[index]["torch_flops"]
        repeat(rows, index, steps)
    if steps == 0:
        at = first
    for segment in range(len(schedule.lm_starts) - 1):
        for index in range(len(model.lm_kinds)):
            at = put_decode_segment(model, schedule, token_counts, precision, work, segment, index, at)
    return at


@inlined
def put_decode_segment(
    model: ModelArrays,
    schedule: ScheduleArrays,
    token_counts: TokenCounts,
    precision: Precision,
    work: Workspace,
    segment: int,
    index: int,
    at: int,
) -> int:
    """Attention of one segment and kind over its growing or evicted cache, summed over all steps.

    A step attends to the cache and its own token. Full heads keep every entry, the others the
    policy's budget; a window or chunk limits both.
    """
    start, stop = schedule.lm_starts[segment], schedule.lm_starts[segment + 1]
    layers = model.lm_prefix[stop, index] - model.lm_prefix[start, index]
    if layers == 0:
        return at
    kind, batch, totals = model.lm_kinds[index], token_counts.batch_size, work.totals
    steps = token_counts.output_tokens - 1
    cache = cache_of(model, schedule, kind, segment, work.lm_counts[segment, 1], work.lm_counts[segment, 2])
    kv_heads, size = kind["kv_heads"], kind["head_size"]
    attended, torch_attended = attended_entries(cache, steps), framework_entries(cache, steps)
    kept, final = cached_entries(cache, 0, 1), cached_entries(cache, steps, 1)
    entry_bytes = kv_entry_bytes(kind, layers, precision) * batch
    totals[KV_PREFILL_BYTES] += kept * entry_bytes
    totals[KV_FINAL_BYTES] += final * entry_bytes
    totals[KV_PAGED_BYTES] += cached_entries(cache, steps, KV_BLOCK_TOKENS) * entry_bytes
    work.kv[segment, index, 0] = kept // kv_heads
    work.kv[segment, index, 1] = final // kv_heads
    work.kv[segment, index, 2] = kept
    # The framework attends to all that is cached, and in self-attention to the step's own token.
    work.kv[segment, index, 3] = torch_attended - steps * cache.self_token * kv_heads
    flops = 4 * kind["queries_per_kv_head"] * size * layers * batch
    totals[FIRST_STEP_FLOPS] += attended_entries(cache, 1) * flops
    totals[FIRST_STEP_TORCH_FLOPS] += framework_entries(cache, 1) * flops
    place = Placement(DECODE, start, layers, layers * steps)
    attended_in_batch, torch_attended_in_batch = attended * batch, torch_attended * batch
    return put_decode_attention(
        work.operators, at, kind, place, batch, attended_in_batch, torch_attended_in_batch, precision
    )
