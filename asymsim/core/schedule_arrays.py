"""Arrays of a pruning schedule: pruning steps, cache rules and selection operators, with their codes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from asymsim.core.arrays import Array, codes, integers


class ScheduleArrays(NamedTuple):
    """A ``Schedule`` bound to a model: segments of layers with equal counts, rules and operators.

    Attributes
    ----------
    tower_starts, lm_starts : first layer of each segment, and the number of layers at the end.
    tower_unfused, lm_unfused : by segment, 1 where prefill stores the attention weights.
    kv_rule : records of ``KV_RULE``, one a language-model segment.
    pruning_steps, operations : records of ``PRUNING_STEP`` and ``OPERATION``.
    full_head_num, full_head_den : share of KV heads that keep every entry.
    budget_in_decoding : 1: the cache stays within its budget as decoding goes on.
    eviction_threshold_tokens : text tokens that are all cached, before generated ones are evicted; -1: no eviction.
    retain_num, retain_den : share of the generated tokens beyond that are cached.
    literals : numbers that the operations' dimensions name.
    """

    tower_starts: Array
    tower_unfused: Array
    lm_starts: Array
    lm_unfused: Array
    kv_rule: Array
    pruning_steps: Array
    operations: Array
    full_head_num: int
    full_head_den: int
    budget_in_decoding: int
    eviction_threshold_tokens: int
    retain_num: int
    retain_den: int
    literals: Array


# Places of a pruning step or a selection operator in the data flow.
ENCODER, ENCODER_MLP, ENCODER_END, LM, KV, DECODING = codes(6)
STAGE_NAMES = ("encoder", "encoder_mlp", "encoder_end", "lm", "kv", "decode")

VISUAL, TEXT = codes(2)
ORIGINAL, PRESENT = codes(2)
FLOOR, NEAREST, CEIL = codes(3)

# A pruning step: kept = round(num / den * share_of) + plus, within [at_least, present]; see Schedule.Step.
PRUNING_STEP = integers(
    "stage",  # index of STAGE_NAMES
    "segment",  # of the encoder's or the language model's layers
    "target",  # VISUAL or TEXT tokens
    "num",
    "den",
    "share_of",  # ORIGINAL or PRESENT tokens
    "rounding",  # FLOOR, NEAREST or CEIL
    "plus",  # tokens
    "at_least_num",  # share of the present tokens
    "at_least_den",
    "recycle_num",  # share of the dropped tokens that are pooled
    "recycle_den",  # 0: none are
    "recycle_plus",  # tokens in the pool beside that share
    "recycle_divisor",  # tokens of the pool that are merged into one
    "recycle_extra",  # merged tokens beside these
)

# KV entries kept in a language-model segment after prefill: floor(num / den * present) + plus.
KV_RULE = integers("num", "den", "plus")

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

# Operation that joins a factor to those before it.
MULTIPLY, DIVIDE_UP, DIVIDE_DOWN = codes(3)
SIGNS = ("*", "/", "//")

# A selection operator: `times` executions of rows x columns x inner. Each dimension is a product of up to FACTORS
# factors, and a factor is the index of a symbol or literal and a sign.
OPERATION = np.dtype(
    [
        ("kind", np.int64),  # index of RULE_KINDS
        ("stage", np.int64),  # index of STAGE_NAMES
        ("segment", np.int64),  # -1: every language-model segment
        ("rows", np.int64, (FACTORS, 2)),
        ("columns", np.int64, (FACTORS, 2)),
        ("inner", np.int64, (FACTORS, 2)),
        ("times", np.int64, (FACTORS, 2)),
        ("reads", np.int64),  # of element-wise work: operands read for each element
        ("writes", np.int64),  # of element-wise work: results written for each element
        ("flops_per_element", np.int64),
    ],
    align=True,
)

# Kinds of selection operators. A projection multiplies by a weight that the whole batch shares.
PROJECTION_RULE, GEMM_RULE, ATTENTION_RULE, ELEMENTWISE_RULE = codes(4)
RULE_KINDS = ("projection", "gemm", "attention", "elementwise")

# No cache grows past this, so it stands for "unlimited".
UNLIMITED = 2**62
