"""Array layouts and integer codes that the kernels and their facades agree on."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]
# One element of a structured array; NumPy's types know nothing of its fields.
Record = Any


def codes(count: int) -> tuple[int, ...]:
    """0, 1, ... as NumPy integers: numba would compile a function anew for each Python integer it is called with."""
    return tuple(np.int64(code) for code in range(count))  # type: ignore[misc]


# What an operator is; decides how its time is computed.
GEMM, ATTENTION, UNFUSED_ATTENTION, ELEMENTWISE, ALL_REDUCE = codes(5)
KINDS = ("gemm", "attention", "unfused_attention", "elementwise", "all_reduce")

# When it runs; SELECTION is part of time to first token, DECODE_SELECTION recurs with each token.
VISION, PROJECTOR, SELECTION, PREFILL, DECODE, DECODE_SELECTION = codes(6)
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
) = codes(18)
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
REPLICATED, BY_COLUMNS, BY_INNER, BY_HEADS = codes(4)

CAUSAL, PREFIX, IMAGE_BIDIRECTIONAL, BIDIRECTIONAL = codes(4)
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
# Attention has a group a sequence and head; element-wise work one a kernel that is launched.
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
            "heads",
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
    """A ``Gpu`` at one number format: rates of one device and its link, and what its times are fitted with.

    Attributes
    ----------
    flops_per_s : peak of products with a weight.
    activation_flops_per_s : peak of products of activations, attention among them.
    input_bytes, weight_bytes : one element of either operand of a product with a weight, as it is multiplied.
    host_s, host_p05, host_p95 : what the host adds to a step, and its interval.
    gemm : two records: products with a weight, products of activations.
    intervals : a record for each operator class, and again for what the class's own numbers were not fitted on.
    sources : by operator class, codes of ``efficiency.SOURCES``.
    stamp : tells two sets of these apart.
    """

    flops_per_s: float
    activation_flops_per_s: float
    vector_flops_per_s: float
    bandwidth_bytes_per_s: float
    link_bytes_per_s: float
    l2_bytes: float
    sm_count: float
    input_bytes: float
    weight_bytes: float
    host_s: float
    host_p05: float
    host_p95: float
    gemm: Array
    context: Array
    generation: Array
    encoder: Array
    memory: Array
    all_reduce: Array
    intervals: Array
    sources: Array
    stamp: int


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
ENCODER, ENCODER_MLP, ENCODER_END, LM, KV, DECODING = codes(6)
STAGES = ("encoder", "encoder_mlp", "encoder_end", "lm", "kv", "decode")
VISUAL, TEXT = codes(2)
ORIGINAL, PRESENT = codes(2)
FLOOR, NEAREST, CEIL = codes(3)

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
) = codes(len(SYMBOLS))
FACTORS = 4
# How a factor joins those before it.
MULTIPLY, DIVIDE_UP, DIVIDE_DOWN = codes(3)
SIGNS = ("*", "/", "//")

# A selection operator: rows x columns x inner, `times` of them; each a product of up to FACTORS factors,
# which are a symbol or literal and a sign.
OPERATION = np.dtype(
    [("kind", np.int64), ("stage", np.int64), ("segment", np.int64)]
    + [(name, np.int64, (FACTORS, 2)) for name in ("rows", "columns", "inner", "times")]
    + [("reads", np.int64), ("writes", np.int64), ("flops_per_element", np.int64)],
    align=True,
)


# Kinds of selection operators; a projection multiplies by a weight that the whole batch shares.
PROJECTION_RULE, GEMM_RULE, ATTENTION_RULE, ELEMENTWISE_RULE = codes(4)
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
) = codes(6)
TOTALS = 6


class Workspace(NamedTuple):
    """Arrays that one evaluation fills; allocated once and used for every row of a sweep.

    ``kv`` (segments, kinds, 4): mean entries a KV head holds after prefill and at the end; entries of all KV heads
    after prefill, and those that the decode steps find, added up over the steps. ``seconds``
    (phases, classes, 3): 5 %, median and 95 % of the time; ``sources`` (phases): the least certain one.
    ``memo``: matrix times already worked out, and ``last``, ``last_s``, ``last_codes``: the words of each row of the
    scenario before, its time and its class and source; all for the GPU and tensor parallelism of ``stamp``. ``words``
    are those of ``operators``.
    """

    operators: Array
    tower_counts: Array
    lm_counts: Array
    end: Array
    kv: Array
    totals: Array
    symbols: Array
    seconds: Array
    sources: Array
    phase_flops: Array
    memo: Array
    words: Array
    last: Array
    last_s: Array
    last_codes: Array
    stamp: Array
