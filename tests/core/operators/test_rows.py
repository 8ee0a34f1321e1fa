"""One operator row at a time: products, experts, attention that is stored."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from asymsim.core.arrays import Array
from asymsim.core.model_arrays import LAYER, Precision
from asymsim.core.operators.attention_rows import AttentionShape, put_attention
from asymsim.core.operators.layer_rows import put_dense, put_experts
from asymsim.core.operators.layout import (
    ATTENTION,
    DECODE,
    OPERATOR,
    PREFILL,
    QKV,
    REDUCE,
    REPLICATED,
    UNFUSED_ATTENTION,
    UP,
)
from asymsim.core.operators.rows import Placement, ProductShape, put_elementwise, put_linear

BF16 = Precision(16, 16, 16, 1)


def rows() -> Array:
    # Filled with rubbish: a row must not depend on what stood there before.
    return np.full(16, -7, np.int64).astype(OPERATOR)


def kind(**values: int) -> np.void:
    record = np.zeros(1, LAYER)
    shape = {"hidden_size": 8, "heads": 4, "kv_heads": 2, "head_size": 3, "intermediate_size": 5, "ups": 2, "norms": 2}
    for name, value in {**shape, **values}.items():
        record[name] = value
    return record[0]


def test_a_product_reads_its_weight_once_and_counts_two_flops_a_multiply_add() -> None:
    table = rows()
    place, shape = Placement(PREFILL, 3, 2, 2), ProductShape(7, 11, 13)
    assert put_linear(table, 0, UP, place, shape, REPLICATED, Precision(4, 16, 8, 1)) == 1
    row = table[0]
    assert row["flops"] == row["torch_flops"] == 2 * (2 * 7 * 11 * 13)
    # 143 weights of half a byte, rounded down to whole bytes, for each of two layers.
    assert row["weight_bytes"] == 2 * (143 // 2)
    assert row["read_bytes"] == 2 * 7 * 13 * 2
    assert row["write_bytes"] == 2 * 7 * 11 * 2
    assert row["kv_read_bytes"] == row["kv_write_bytes"] == row["elementwise_flops"] == 0


@pytest.mark.parametrize(("m", "count"), [(0, 1), (1, 0), (0, 0)])
def test_nothing_to_multiply_makes_no_row(m: int, count: int) -> None:
    place = Placement(PREFILL, 0, 1, count)
    assert put_linear(rows(), 5, UP, place, ProductShape(m, 2, 2), REPLICATED, BF16) == 5
    assert put_elementwise(rows(), 5, UP, place, m, 0, 9) == 5
    assert put_attention(rows(), 5, kind(), place, AttentionShape(m, 1, 1, 1, 1), 0, BF16) == 5
    assert put_dense(rows(), 5, kind(), place, m, m, m, BF16._replace(tp_size=2)) == 5


@pytest.mark.parametrize("experts", [2, 3, 5, 8, 10, 60, 64, 128])
@pytest.mark.parametrize("active", [1, 2, 4, 8])
@pytest.mark.parametrize("tokens", [1, 2, 3, 7, 50, 1000, 10**6])
def test_experts_touched_are_the_expected_number_rounded_up(experts: int, active: int, tokens: int) -> None:
    active = min(active, experts)
    table = rows()
    at = put_experts(
        table, 0, kind(experts=experts, experts_per_token=active, framework_experts_per_token=experts),
        Placement(PREFILL, 0, 1, 1), tokens, BF16,
    )  # fmt: skip
    assert at == 3
    up, down = table[1], table[2]
    touched = up["groups"]
    assert touched == down["groups"]
    assert active <= touched <= min(experts, tokens * active)
    if tokens <= 50:
        untouched = experts * Fraction(experts - active, experts) ** tokens
        # The kernel calls a product that is a billionth off a whole number whole.
        assert touched in {math.ceil(experts - untouched), math.ceil(experts - untouched - Fraction(1, 10**9))}
    assert touched * up["m"] >= tokens * active > touched * (up["m"] - 1)
    assert up["weight_bytes"] == touched * 2 * 5 * 8 * 2
    assert up["flops"] == 2 * tokens * active * 2 * 5 * 8
    assert up["torch_flops"] * active == up["flops"] * experts


def test_one_token_touches_no_more_experts_than_it_chose() -> None:
    # In binary, 5 (1 - 4/5) is just below 1.
    table = rows()
    put_experts(table, 0, kind(experts=5, experts_per_token=4), Placement(DECODE, 0, 1, 1), 1, BF16)
    assert table[1]["groups"] == 4


def test_a_layer_multiplies_by_each_of_its_parameters_once() -> None:
    table = rows()
    at = put_dense(table, 0, kind(), Placement(PREFILL, 0, 1, 1), 10, 10, 10, BF16)
    attention = 8 * 3 * (2 * 4 + 2 * 2)
    assert table["flops"][:at].sum() == 2 * 10 * (attention + 3 * 8 * 5)
    assert table["weight_bytes"][:at].sum() == 2 * (attention + 3 * 8 * 5)
    assert table["name"][0] == QKV


def test_cached_keys_and_values_are_not_projected_again() -> None:
    table = rows()
    at = put_dense(table, 0, kind(cross=1), Placement(DECODE, 0, 1, 1), 1, 0, 1, BF16)
    assert table["flops"][:at].sum() == 2 * (2 * 8 * 12 + 3 * 8 * 5)


def test_several_gpus_add_two_all_reduces_a_layer() -> None:
    table = rows()
    at = put_dense(table, 0, kind(), Placement(PREFILL, 0, 6, 6), 10, 10, 10, BF16._replace(tp_size=4))
    reduce = table[at - 1]
    assert (reduce["name"], reduce["count"], reduce["flops"]) == (REDUCE, 12, 0)
    assert reduce["write_bytes"] == 12 * 10 * 8 * 2


def test_stored_attention_weights_are_written_and_read_twice() -> None:
    fused, stored = rows(), rows()
    place, shape = Placement(PREFILL, 0, 2, 2), AttentionShape(3, 6, 6, 3 * 21, 3 * 36)
    put_attention(fused, 0, kind(), place, shape, 0, BF16)
    put_attention(stored, 0, kind(), place, shape, 1, BF16)
    assert fused[0]["kind"] == ATTENTION
    assert stored[0]["kind"] == UNFUSED_ATTENTION
    for name in ("read_bytes", "write_bytes"):
        # Three sequences of 6 x 6 weights in 4 heads, in 2 layers, 2 bytes each.
        assert stored[0][name] - fused[0][name] == 2 * (3 * 36 * 4 * 2 * 2)
    assert fused[0]["flops"] == 3 * 21 * 4 * (4 * 3) * 2 == stored[0]["flops"]
    assert fused[0]["torch_flops"] == 3 * 36 * 4 * (4 * 3) * 2
    assert fused[0]["kv_write_bytes"] == 3 * 6 * 2 * 2 * 3 * 2 * 2
