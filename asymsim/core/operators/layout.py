"""Codes of operators, phases and splits, and the record of one operator row."""

from __future__ import annotations

import numpy as np

from asymsim.core.arrays import codes

# What an operator is; decides how its time is computed.
GEMM, ATTENTION, UNFUSED_ATTENTION, ELEMENTWISE, ALL_REDUCE = codes(5)


KIND_NAMES = ("gemm", "attention", "unfused_attention", "elementwise", "all_reduce")


# When it runs; SELECTION is part of time to first token, DECODE_SELECTION recurs with each token.
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


# How tensor parallelism divides an operator: not at all, by output columns, by inner dimension or heads.
REPLICATED, BY_COLUMNS, BY_INNER, BY_HEADS = codes(4)


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
