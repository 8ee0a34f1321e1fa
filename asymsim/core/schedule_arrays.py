"""Arrays of a pruning schedule: steps, cache rules and selection operators, with their codes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from asymsim.core.arrays import Array, codes


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


# Where a rule or a selection operator stands.
ENCODER, ENCODER_MLP, ENCODER_END, LM, KV, DECODING = codes(6)


STAGE_NAMES = ("encoder", "encoder_mlp", "encoder_end", "lm", "kv", "decode")


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
