"""Operator rows of prefill: embedding, language-model layers over the prompt, head."""

from __future__ import annotations

from asymsim.core.jit import inlined
from asymsim.core.model_arrays import ModelArrays, Precision
from asymsim.core.operators.attention_rows import AttentionShape, put_attention
from asymsim.core.operators.layer_rows import put_dense
from asymsim.core.operators.layout import BY_COLUMNS, EMBED, HEAD, PREFILL
from asymsim.core.operators.mask_pairs import prefill_pairs
from asymsim.core.operators.rows import Placement, ProductShape, put_elementwise, put_linear
from asymsim.core.schedule_arrays import ScheduleArrays
from asymsim.core.token_counts import TokenCounts
from asymsim.core.workspace import Workspace


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
    at = put_elementwise(rows, at, EMBED, Placement(PREFILL, 0, 1, 1), width_bytes, width_bytes, 0)
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
            place, unfused = Placement(PREFILL, start, layers, layers), schedule.lm_unfused[segment]
            at = put_dense(rows, at, kind, place, tokens * batch, keys * batch, tokens * batch, precision)
            shape = AttentionShape(batch, tokens, keys, pairs * batch, tokens * keys * batch)
            at = put_attention(rows, at, kind, place, shape, unfused, precision)
    place = Placement(PREFILL, len(model.lm_prefix) - 1, 1, 1)
    head = ProductShape(batch, model.vocab_size, model.hidden_size)
    return put_linear(rows, at, HEAD, place, head, BY_COLUMNS, precision)
