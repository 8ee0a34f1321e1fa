"""Fills the operator table of one scenario: encoder, projector, selection, prefill, all decode steps."""

from __future__ import annotations

from asymsim.core.arrays import Array, Record
from asymsim.core.jit import inlined, kernel
from asymsim.core.kv_cache import KV_BLOCK_TOKENS, attended_entries, cache_of, cached_entries, framework_entries
from asymsim.core.model_arrays import ModelArrays, Precision
from asymsim.core.operators.layout import (
    ATTEND,
    ATTENTION,
    BY_COLUMNS,
    BY_HEADS,
    DECODE,
    EMBED,
    HEAD,
    PATCH_EMBEDDING,
    PREFILL,
    PROJECT,
    PROJECTOR,
    REPLICATED,
    RESAMPLE,
    VISION,
)
from asymsim.core.operators.mask_pairs import prefill_pairs
from asymsim.core.operators.rows import (
    SOFTMAX_FLOPS,
    begin_row,
    put_attention,
    put_dense,
    put_elementwise,
    put_linear,
    repeat,
)
from asymsim.core.operators.selection import put_selection
from asymsim.core.schedule import run_language_model, run_tower
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


@inlined
def build_operator_table(
    model: ModelArrays, schedule: ScheduleArrays, token_counts: TokenCounts, precision: Precision, work: Workspace
) -> int:
    """Fill ``work`` for one scenario and return the number of operator rows."""
    work.totals[:] = 0
    left = run_tower(schedule, token_counts, model.extra_tokens, work.tower_counts)
    run_language_model(schedule, model, token_counts, left, work.lm_counts, work.end)
    at = put_tower(model, schedule, token_counts, precision, work, 0)
    at = put_projector(model, token_counts, left, precision, work, at)
    at = put_prefill(model, schedule, token_counts, precision, work, at)
    at = put_decode(model, schedule, token_counts, precision, work, at)
    return put_selection(model, schedule, token_counts, precision, work, at)


@inlined
def put_tower(
    model: ModelArrays,
    schedule: ScheduleArrays,
    token_counts: TokenCounts,
    precision: Precision,
    work: Workspace,
    at: int,
) -> int:
    """Patch embedding and encoder layers."""
    sequences = token_counts.images * token_counts.sequences * token_counts.batch_size
    if sequences == 0:
        return at
    rows = work.operators
    at = put_linear(
        rows,
        at,
        PATCH_EMBEDDING,
        VISION,
        0,
        1,
        1,
        token_counts.images * token_counts.patches * token_counts.batch_size,
        model.tower_hidden_size,
        model.patch_inputs,
        REPLICATED,
        precision,
    )
    rows[at - 1]["torch_flops"] += model.tower_framework_flops * sequences
    for segment in range(len(schedule.tower_starts) - 1):
        start, stop = schedule.tower_starts[segment], schedule.tower_starts[segment + 1]
        tokens = model.extra_tokens + work.tower_counts[segment, 1]
        mlp_tokens = model.extra_tokens + work.tower_counts[segment, 2]
        for index in range(len(model.tower_kinds)):
            layers = model.tower_prefix[stop, index] - model.tower_prefix[start, index]
            if layers == 0:
                continue
            kind = model.tower_kinds[index]
            if kind["window_tokens"] > 0:
                pairs = token_counts.images * token_counts.batch_size * token_counts.window_pairs
                if tokens < token_counts.sequence_tokens:
                    pairs = pairs * tokens // token_counts.sequence_tokens * tokens // token_counts.sequence_tokens
            else:
                pairs = sequences * tokens * tokens
            at = put_dense(
                rows,
                at,
                kind,
                VISION,
                start,
                layers,
                layers,
                sequences * tokens,
                sequences * tokens,
                sequences * mlp_tokens,
                precision,
            )
            at = put_attention(
                rows,
                at,
                kind,
                VISION,
                start,
                layers,
                sequences,
                tokens,
                tokens,
                pairs,
                pairs,
                schedule.tower_unfused[segment],
                precision,
            )
    return at


@inlined
def put_projector(
    model: ModelArrays, token_counts: TokenCounts, tower_left: int, precision: Precision, work: Workspace, at: int
) -> int:
    """Linear layers between encoder and language model, and a resampler's attention."""
    tokens = token_counts.images * token_counts.projector_tokens
    if work.end[1] < token_counts.visual_tokens:
        tokens = min(tokens, work.end[1])
    tokens *= token_counts.batch_size
    sequences = token_counts.images * token_counts.sequences * token_counts.batch_size
    keys = model.extra_tokens + tower_left
    rows = work.operators
    for index in range(len(model.linears)):
        linear = model.linears[index]
        passing = sequences * keys if linear[0] == 1 else tokens
        at = put_linear(rows, at, PROJECT, PROJECTOR, index, 1, 1, passing, linear[2], linear[1], REPLICATED, precision)
    if model.resampler_heads > 0 and tokens * keys > 0:
        heads, size, bits = model.resampler_heads, model.resampler_head_size, precision.activation_bits
        begin_row(rows, at, RESAMPLE, ATTENTION, PROJECTOR, 0, 1, 1, -(-tokens // max(1, sequences)), keys, size)
        row = rows[at]
        row["groups"] = sequences * heads
        row["heads"] = heads
        row["kv_heads"] = heads
        row["split"] = BY_HEADS
        row["flops"] = 4 * tokens * keys * heads * size
        row["torch_flops"] = row["flops"]
        row["elementwise_flops"] = SOFTMAX_FLOPS * tokens * keys * heads
        row["read_bytes"] = tokens * heads * size * bits // 8
        row["write_bytes"] = row["read_bytes"]
        row["kv_read_bytes"] = sequences * keys * 2 * heads * size * bits // 8
        at += 1
    return at


@inlined
def put_prefill(
    model: ModelArrays,
    schedule: ScheduleArrays,
    token_counts: TokenCounts,
    precision: Precision,
    work: Workspace,
    at: int,
) -> int:
    """Embedding, language-model layers over the prompt, and the head at the last position."""
    rows, batch = work.operators, token_counts.batch_size
    entering = work.lm_counts[0, 1] * model.visual_in_sequence + work.lm_counts[0, 2]
    width_bytes = entering * batch * model.hidden_size * precision.activation_bits // 8
    at = put_elementwise(rows, at, EMBED, PREFILL, 0, 1, 1, width_bytes, width_bytes, 0)
    for segment in range(len(schedule.lm_starts) - 1):
        start, stop = schedule.lm_starts[segment], schedule.lm_starts[segment + 1]
        visual, text = work.lm_counts[segment, 1], work.lm_counts[segment, 2]
        tokens = text + visual * model.visual_in_sequence
        for index in range(len(model.lm_kinds)):
            layers = model.lm_prefix[stop, index] - model.lm_prefix[start, index]
            if layers == 0:
                continue
            kind = model.lm_kinds[index]
            keys = visual if kind["cross"] else tokens
            if keys == 0:
                # Without visual tokens a cross-attention layer is skipped as a whole, its FFN included.
                continue
            if kind["cross"]:
                pairs = tokens * visual
            else:
                pairs = prefill_pairs(
                    model.mask, tokens, visual, token_counts.images, kind["window_tokens"], kind["chunk_tokens"]
                )
            at = put_dense(
                rows, at, kind, PREFILL, start, layers, layers, tokens * batch, keys * batch, tokens * batch, precision
            )
            at = put_attention(
                rows,
                at,
                kind,
                PREFILL,
                start,
                layers,
                batch,
                tokens,
                keys,
                pairs * batch,
                tokens * keys * batch,
                schedule.lm_unfused[segment],
                precision,
            )
    return put_linear(
        rows,
        at,
        HEAD,
        PREFILL,
        len(model.lm_prefix) - 1,
        1,
        1,
        batch,
        model.vocab_size,
        model.hidden_size,
        BY_COLUMNS,
        precision,
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
        at = put_dense(rows, at, model.lm_kinds[index], DECODE, 0, layers, layers, batch, 0, batch, precision)
    at = put_linear(
        rows, at, HEAD, DECODE, all_layers, 1, 1, batch, model.vocab_size, model.hidden_size, BY_COLUMNS, precision
    )
    width_bytes = batch * model.hidden_size * precision.activation_bits // 8
    at = put_elementwise(rows, at, EMBED, DECODE, 0, 1, 1, width_bytes, width_bytes, 0)
    for index in range(first, at):
        totals[FIRST_STEP_FLOPS] += rows[index]["flops"]
        totals[FIRST_STEP_TORCH_FLOPS] += rows[index]["torch_flops"]
        repeat(rows, index, steps)
    if steps == 0:
        at = first
    for segment in range(len(schedule.lm_starts) - 1):
        for index in range(len(model.lm_kinds)):
            at = put_decode_attention(model, schedule, token_counts, precision, work, segment, index, at)
    return at


@inlined
def put_decode_attention(
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

    A step attends to the cache and its own token. ``whole`` heads keep every entry, the others the
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
    return put_decode_step_attention(
        work.operators, at, kind, start, layers, batch, steps, attended * batch, torch_attended * batch, precision
    )


@kernel
def kv_entry_bytes(kind: Record, layers: int, precision: Precision) -> int:
    """Key and value of one token and KV head in ``layers``."""
    return 2 * kind["head_size"] * precision.kv_bits // 8 * layers


@kernel
def put_decode_step_attention(
    rows: Array,
    at: int,
    kind: Record,
    start: int,
    layers: int,
    sequences: int,
    steps: int,
    attended: int,
    torch_attended: int,
    precision: Precision,
) -> int:
    """Attention of ``steps`` decode steps of ``sequences``; ``attended`` entries are those of all of them together.

    The shape is that of a step with the mean number of entries.
    """
    if steps == 0 or attended == 0:
        return at
    kv_heads, size, count = kind["kv_heads"], kind["head_size"], layers * steps
    mean_keys = int(attended / (kv_heads * steps * sequences))
    begin_row(rows, at, ATTEND, ATTENTION, DECODE, start, layers, count, 1, mean_keys, size)
    row = rows[at]
    row["groups"] = sequences * kind["heads"]
    row["heads"] = kind["heads"]
    row["kv_heads"] = kv_heads
    row["split"] = BY_HEADS
    flops = 4 * kind["queries_per_kv_head"] * size * layers
    row["flops"] = attended * flops
    row["torch_flops"] = torch_attended * flops
    row["elementwise_flops"] = SOFTMAX_FLOPS * attended * kind["queries_per_kv_head"] * layers
    row["read_bytes"] = sequences * kind["heads"] * size * precision.activation_bits // 8 * count
    row["write_bytes"] = row["read_bytes"]
    entry_bytes = kv_entry_bytes(kind, layers, precision)
    row["kv_read_bytes"] = attended * entry_bytes
    if not kind["cross"]:
        row["kv_write_bytes"] = sequences * steps * kv_heads * entry_bytes
    return at + 1
