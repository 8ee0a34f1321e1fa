"""Array layouts and integer codes that the kernels and their facades agree on."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]
# One element of a structured array; NumPy's types know nothing of its fields.
Record = Any


def _codes(count: int) -> tuple[int, ...]:
    """0, 1, ... as NumPy integers: numba would compile a function anew for each Python integer it is called with."""
    return tuple(np.int64(code) for code in range(count))  # type: ignore[misc]


# What an operator is; decides how its time is computed.
GEMM, ATTENTION, UNFUSED_ATTENTION, ELEMENTWISE, ALL_REDUCE = _codes(5)
KINDS = ("gemm", "attention", "unfused_attention", "elementwise", "all_reduce")

# When it runs; SELECTION is part of time to first token, DECODE_SELECTION recurs with each token.
VISION, PROJECTOR, SELECTION, PREFILL, DECODE, DECODE_SELECTION = _codes(6)
PHASES = ("vision_tower", "projector", "selection", "prefill", "decode", "decode_selection")

# Operator names.
(
    PATCH_EMBEDDING,
    QKV,
    QUERY,
    KEY_VALUE,
    ATTEND,
    OUTPUT,
    ROUTER,
    UP,
    DOWN,
    SHARED_UP,
    SHARED_DOWN,
    ELEMENTWISE_LAYER,
    REDUCE,
    PROJECT,
    RESAMPLE,
    EMBED,
    HEAD,
    SELECT,
) = _codes(18)
NAMES = (
    "patch_embedding",
    "qkv_projection",
    "query_projection",
    "key_value_projection",
    "attention",
    "output_projection",
    "router",
    "ffn_up",
    "ffn_down",
    "shared_expert_up",
    "shared_expert_down",
    "elementwise",
    "all_reduce",
    "projector_linear",
    "resampler_attention",
    "embedding",
    "lm_head",
    "select",
)

# How tensor parallelism divides an operator: not at all, by output columns, by inner dimension or heads.
REPLICATED, BY_COLUMNS, BY_INNER, BY_HEADS = _codes(4)

CAUSAL, PREFIX, IMAGE_BIDIRECTIONAL, BIDIRECTIONAL = _codes(4)
MASKS = ("causal", "prefix", "image_bidirectional", "bidirectional")

LAYER = np.dtype(
    [
        (name, np.int64)
        for name in (
            "hidden_size",
            "heads",
            "kv_heads",
            "queries_per_kv_head",
            "head_size",
            "intermediate_size",
            "ups",
            "cross",
            "window_tokens",
            "chunk_tokens",
            "experts",
            "experts_per_token",
            "framework_experts_per_token",
            "shared_intermediate_size",
            "norms",
        )
    ],
    align=True,
)

# One executed operator. FLOPs and bytes are totals over `count` executions, the whole batch and all GPUs;
# m x n x k is the shape of one execution (`groups` of them side by side), undivided by tensor parallelism.
OPERATOR = np.dtype(
    [
        (name, np.int64)
        for name in (
            "name",
            "kind",
            "phase",
            "layer",
            "layers",
            "count",
            "m",
            "n",
            "k",
            "groups",
            "kv_heads",
            "split",
            "flops",
            "torch_flops",
            "elementwise_flops",
            "weight_bytes",
            "read_bytes",
            "write_bytes",
            "kv_read_bytes",
            "kv_write_bytes",
        )
    ],
    align=True,
)


class ModelArrays(NamedTuple):
    """A ``VlmModel`` as the kernels see it; prefix sums count the layers of each kind before a layer."""

    tower_kinds: Array
    tower_prefix: Array
    patch_inputs: int
    tower_hidden_size: int
    tower_framework_flops: int
    extra_tokens: int
    linears: Array
    resampler_heads: int
    resampler_head_size: int
    lm_kinds: Array
    lm_prefix: Array
    hidden_size: int
    vocab_size: int
    mask: int
    visual_in_sequence: int


class Precision(NamedTuple):
    """Bits per element of weights, activations and KV cache, and the tensor-parallel size."""

    weight_bits: int
    activation_bits: int
    kv_bits: int
    tp_size: int


class GpuArrays(NamedTuple):
    """A ``Gpu`` at one number format: rates of one device and its link."""

    flops_per_s: float
    vector_flops_per_s: float
    bandwidth_bytes_per_s: float
    link_bytes_per_s: float
    sm_count: int


class ScheduleArrays(NamedTuple):
    """A ``Schedule`` bound to a model: segments of layers with equal counts, rules and operators.

    ``*_starts`` hold the first layer of each segment and the number of layers at the end.
    """

    tower_starts: Array
    tower_unfused: Array
    lm_starts: Array
    lm_unfused: Array
    kv_rule: Array
    steps: Array
    operations: Array
    full_head_num: int
    full_head_den: int
    hold: int
    threshold: int
    retain_num: int
    retain_den: int
    literals: Array


class Load(NamedTuple):
    """One scenario's token counts; encoder counts are per image, ``visual`` over all images."""

    images: int
    sequences: int
    sequence_tokens: int
    patches: int
    window_pairs: int
    projector_tokens: int
    visual_tokens: int
    text_tokens: int
    output_tokens: int
    batch_size: int


# Where a rule or a selection operator stands.
ENCODER, ENCODER_MLP, ENCODER_END, LM, KV, DECODING = _codes(6)
STAGES = ("encoder", "encoder_mlp", "encoder_end", "lm", "kv", "decode")
VISUAL, TEXT = _codes(2)
ORIGINAL, PRESENT = _codes(2)
FLOOR, NEAREST, CEIL = _codes(3)

# One pruning step: kept = round(num / den * of) + plus, within [at_least, present]; see Schedule.Step.
STEP = np.dtype(
    [
        (name, np.int64)
        for name in (
            "stage",
            "segment",
            "target",
            "num",
            "den",
            "of",
            "rounding",
            "plus",
            "at_least_num",
            "at_least_den",
            "recycle_num",
            "recycle_den",
            "recycle_plus",
            "recycle_divisor",
            "recycle_extra",
        )
    ],
    align=True,
)

# KV entries kept in each language-model segment after prefill: floor(num / den * present) + plus.
KV_RULE = np.dtype([(name, np.int64) for name in ("num", "den", "plus")], align=True)

# Quantities that a selection operator's dimensions may name. The literals of a schedule's operators
# follow them in the workspace, so that every factor is an index.
SYMBOLS = (
    "original",
    "visual",
    "kept",
    "dropped",
    "merged",
    "pool",
    "text",
    "tokens",
    "remaining",
    "kv",
    "layers",
    "hidden",
    "heads",
    "kv_heads",
    "head_size",
    "query_width",
    "kv_width",
    "tower_hidden",
    "tower_heads",
    "tower_head_size",
    "tower_tokens",
    "sequences",
)
(
    S_ORIGINAL,
    S_VISUAL,
    S_KEPT,
    S_DROPPED,
    S_MERGED,
    S_POOL,
    S_TEXT,
    S_TOKENS,
    S_REMAINING,
    S_KV,
    S_LAYERS,
    S_HIDDEN,
    S_HEADS,
    S_KV_HEADS,
    S_HEAD_SIZE,
    S_QUERY_WIDTH,
    S_KV_WIDTH,
    S_TOWER_HIDDEN,
    S_TOWER_HEADS,
    S_TOWER_HEAD_SIZE,
    S_TOWER_TOKENS,
    S_SEQUENCES,
) = _codes(len(SYMBOLS))
FACTORS = 4

# A selection operator: rows x columns x inner, `times` of them; each a product of up to FACTORS factors.
OPERATION = np.dtype(
    [("kind", np.int64), ("stage", np.int64), ("segment", np.int64)]
    + [(name, np.int64, (FACTORS,)) for name in ("rows", "columns", "inner", "times")]
    + [("reads", np.int64), ("writes", np.int64), ("flops_per_element", np.int64)],
    align=True,
)


# Kinds of selection operators; a projection multiplies by a weight that the whole batch shares.
PROJECTION_RULE, GEMM_RULE, ATTENTION_RULE, ELEMENTWISE_RULE = _codes(4)
RULE_KINDS = ("projection", "gemm", "attention", "elementwise")

# No cache grows past this, so it stands for "unlimited".
UNLIMITED = 2**62

# Integer totals that do not follow from summing operator rows.
(
    KV_PREFILL_BYTES,
    KV_FINAL_BYTES,
    KV_PAGED_BYTES,
    FIRST_STEP_FLOPS,
    FIRST_STEP_TORCH_FLOPS,
    ACTIVATION_BYTES,
) = _codes(6)
TOTALS = 6


class Workspace(NamedTuple):
    """Arrays that one evaluation fills; allocated once and used for every row of a sweep.

    ``kv`` (segments, kinds, 4): mean entries a KV head holds after prefill and at the end; entries of all KV heads
    after prefill, and those that the decode steps find, added up over the steps.
    """

    operators: Array
    tower_counts: Array
    lm_counts: Array
    end: Array
    kv: Array
    totals: Array
    symbols: Array
    seconds: Array
    phase_flops: Array
