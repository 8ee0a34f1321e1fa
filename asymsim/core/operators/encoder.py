"""Operator rows of the vision encoder and the projector."""

from __future__ import annotations

from asymsim.core.jit import inlined
from asymsim.core.model_arrays import ModelArrays, Precision
from asymsim.core.operators.attention_rows import SOFTMAX_FLOPS, AttentionShape, put_attention
from asymsim.core.operators.layer_rows import put_dense
from asymsim.core.operators.layout import (
    ATTENTION,
    BY_HEADS,
    PATCH_EMBEDDING,
    PROJECT,
    PROJECTOR,
    REPLICATED,
    RESAMPLE,
    VISION,
)
from asymsim.core.operators.rows import Placement, ProductShape, begin_row, put_linear
from asymsim.core.schedule_arrays import ScheduleArrays
from asymsim.core.token_counts import TokenCounts
from asymsim.core.workspace import Workspace


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
    patches = token_counts.images * token_counts.patches * token_counts.batch_size
    embedding = ProductShape(patches, model.tower_hidden_size, model.patch_inputs)
    at = put_linear(rows, at, PATCH_EMBEDDING, Placement(VISION, 0, 1, 1), embedding, REPLICATED, precision)
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
            place, unfused = Placement(VISION, start, layers, layers), schedule.tower_unfused[segment]
            entering, entering_mlp = sequences * tokens, sequences * mlp_tokens
            at = put_dense(rows, at, kind, place, entering, entering, entering_mlp, precision)
            shape = AttentionShape(sequences, tokens, tokens, pairs, pairs)
            at = put_attention(rows, at, kind, place, shape, unfused, precision)
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
        shape = ProductShape(passing, linear[2], linear[1])
        at = put_linear(rows, at, PROJECT, Placement(PROJECTOR, index, 1, 1), shape, REPLICATED, precision)
    if model.resampler_heads > 0 and tokens * keys > 0:
        heads, size, bits = model.resampler_heads, model.resampler_head_size, precision.activation_bits
        queries = -(-tokens // max(1, sequences))
        begin_row(rows, at, RESAMPLE, ATTENTION, Placement(PROJECTOR, 0, 1, 1), ProductShape(queries, keys, size))
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
