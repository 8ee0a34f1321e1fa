"""Peak bytes of the activations that are alive at once."""

from __future__ import annotations

from asymsim.core.arrays import Record
from asymsim.core.jit import inlined, kernel
from asymsim.core.model_arrays import ModelArrays, Precision
from asymsim.core.schedule_arrays import ScheduleArrays
from asymsim.core.token_counts import TokenCounts
from asymsim.core.workspace import Workspace


@kernel
def layer_peak(kind: Record, tokens: int, mlp_tokens: int, pairs: int, unfused: int, tp_size: int) -> int:
    """Elements alive at the widest point of a layer: stream and its normed copy, beside q, k, v and the
    attention output (and the stored weights, once before and once after the softmax), or beside the
    FFN's intermediate."""
    query_width = kind["heads"] * kind["head_size"]
    width = kind["intermediate_size"] * max(1, kind["experts_per_token"]) + kind["shared_intermediate_size"]
    attention = tokens * (2 * query_width + 2 * kind["kv_heads"] * kind["head_size"])
    if unfused:
        attention += 2 * pairs * kind["heads"]
    ffn = mlp_tokens * (kind["ups"] + 1) * width
    return 2 * tokens * kind["hidden_size"] - (-max(attention, ffn) // tp_size)


@inlined
def activation_bytes(
    model: ModelArrays, schedule: ScheduleArrays, token_counts: TokenCounts, precision: Precision, work: Workspace
) -> int:
    """The largest of encoder, language-model prefill and logits (float32), for the whole batch on one GPU.

    The projected visual tokens wait beside the encoder's peak. The peak is one request's, times the
    batch, so that the largest batch that fits follows from any other.
    """
    peak = model.vocab_size * 32 // precision.activation_bits
    sequences = token_counts.images * token_counts.sequences
    waiting = token_counts.visual_tokens * model.hidden_size
    if sequences > 0:
        for segment in range(len(schedule.tower_starts) - 1):
            tokens = model.extra_tokens + work.tower_counts[segment, 1]
            mlp_tokens = model.extra_tokens + work.tower_counts[segment, 2]
            for index in range(len(model.tower_kinds)):
                if (
                    model.tower_prefix[schedule.tower_starts[segment + 1], index]
                    > model.tower_prefix[schedule.tower_starts[segment], index]
                ):
                    alive = layer_peak(
                        model.tower_kinds[index],
                        sequences * tokens,
                        sequences * mlp_tokens,
                        sequences * tokens * tokens,
                        schedule.tower_unfused[segment],
                        precision.tp_size,
                    )
                    peak = max(peak, alive + waiting)
    for segment in range(len(schedule.lm_starts) - 1):
        tokens = work.lm_counts[segment, 2] + work.lm_counts[segment, 1] * model.visual_in_sequence
        for index in range(len(model.lm_kinds)):
            if (
                model.lm_prefix[schedule.lm_starts[segment + 1], index]
                > model.lm_prefix[schedule.lm_starts[segment], index]
            ):
                alive = layer_peak(
                    model.lm_kinds[index],
                    tokens,
                    tokens,
                    tokens * tokens,
                    schedule.lm_unfused[segment],
                    precision.tp_size,
                )
                peak = max(peak, alive)
    return token_counts.batch_size * (peak * precision.activation_bits // 8)
