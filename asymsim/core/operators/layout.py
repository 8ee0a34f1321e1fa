"""Codes of operators, phases and splits, and the record of one operator row."""

from __future__ import annotations

from asymsim.core.arrays import codes, integers

# Kind of an operator, which decides how its time is computed.
GEMM, ATTENTION, UNFUSED_ATTENTION, ELEMENTWISE, ALL_REDUCE = codes(5)
KIND_NAMES = ("gemm", "attention", "unfused_attention", "elementwise", "all_reduce")

# Phase of an operator. SELECTION is part of time to first token, DECODE_SELECTION recurs with each token.
VISION, PROJECTOR, SELECTION, PREFILL, DECODE, DECODE_SELECTION = codes(6)
PHASE_NAMES = ("vision_tower", "projector", "selection", "prefill", "decode", "decode_selection")

_VISION_PHASES = (VISION, PROJECTOR)
_TTFT_PHASES = (*_VISION_PHASES, SELECTION, PREFILL)
_DECODE_PHASES = (DECODE, DECODE_SELECTION)
# Each reported time, and the phases that make it up.
SPAN_PHASES = {
    "vision_s": _VISION_PHASES,
    "selection_s": (SELECTION,),
    "prefill_s": (PREFILL,),
    "decode_s": _DECODE_PHASES,
    "ttft_s": _TTFT_PHASES,
    "e2e_s": (*_TTFT_PHASES, *_DECODE_PHASES),
}

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
OPERATOR_NAMES = (
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

# Split of an operator by tensor parallelism: none, by output columns, by inner dimension, by heads.
REPLICATED, BY_COLUMNS, BY_INNER, BY_HEADS = codes(4)

# One executed operator. FLOPs and bytes are totals over `count` executions, the whole batch and all GPUs.
OPERATOR = integers(
    "name",  # index of OPERATOR_NAMES
    "kind",  # index of KIND_NAMES
    "phase",  # index of PHASE_NAMES
    "layer",  # first of the equal layers that the row stands for
    "layers",  # how many
    "count",  # executions
    "m",  # of one execution, undivided by tensor parallelism: rows, or queries of attention
    "n",  # columns, or keys of attention
    "k",  # inner dimension, or the head size of attention
    "groups",  # products side by side; sequences x heads of attention; launches of element-wise work
    "heads",
    "kv_heads",
    "split",  # by tensor parallelism
    "flops",
    "torch_flops",  # as a counter of the framework's operators reports them
    "elementwise_flops",
    "weight_bytes",
    "read_bytes",
    "write_bytes",
    "kv_read_bytes",
    "kv_write_bytes",
)
