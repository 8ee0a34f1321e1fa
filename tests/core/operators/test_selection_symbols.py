"""Quantities that a selection operator may name, and scores of grouped query heads, worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
from properties.schedules import table

from asymsim.catalogue.model import LanguageModel, Layer, Linear, Projector, VisionTower, VlmModel
from asymsim.core.arrays import Array
from asymsim.core.model_arrays import Precision
from asymsim.core.operators.layout import ATTENTION, DECODE_SELECTION, ELEMENTWISE, GEMM, SELECT
from asymsim.core.token_counts import TokenCounts
from asymsim.methods.common.operations import cache_scores, decode_scores, head_mean, recomputed_attention
from asymsim.methods.schedule import KvPolicy, Operation, Recycle, Schedule, Step, TextEviction

# Six query heads share two KV heads; no two sizes are alike.
TOWER = VisionTower(
    layer_kinds=(Layer(hidden_size=7, heads=3, kv_heads=3, head_size=4, intermediate_size=9),),
    layer_pattern=(0, 0, 0),
    patch=Linear(inputs=12, outputs=7),
    extra_tokens=1,
)
LAYER = Layer(hidden_size=8, heads=6, kv_heads=2, head_size=5, intermediate_size=11)
MODEL = VlmModel(
    name="symbols",
    model_type="llava",
    vision_tower=TOWER,
    projector=Projector(linears=(Linear(inputs=7, outputs=8),)),
    language_model=LanguageModel(hidden_size=8, vocab_size=50, layer_kinds=(LAYER,), layer_pattern=(0,) * 4),
)
# Two images of three sequences, each of sixteen patches and a class token; 96 visual tokens.
TOKEN_COUNTS = TokenCounts(
    images=2, sequences=3, sequence_tokens=17, patches=48, window_pairs=0, projector_tokens=48, visual_tokens=96,
    text_tokens=10, output_tokens=4, batch_size=3,
)  # fmt: skip
# 16 patches become 12 before the second block, and within it 10; at the encoder's end 60 of 96 are left, of which
# 40 stay, and 20 dropped make 5. Layer 2 keeps 9 of 45, and 9 of the 36 dropped make 3.
STEPS = (
    Step(stage="encoder", layer=1, plus=12),
    Step(stage="encoder_mlp", layer=1, plus=8, recycled=Recycle(extra=2)),
    Step(stage="encoder_end", plus=40, recycled=Recycle(share=Fraction(1), divisor=4)),
    Step(stage="lm", layer=2, plus=9, recycled=Recycle(share=Fraction(1, 4), divisor=3)),
)
FIXED = {
    "original": 96, "hidden": 8, "heads": 6, "kv_heads": 2, "head_size": 5, "query_width": 30, "kv_width": 20,
    "tower_hidden": 7, "tower_heads": 3, "tower_head_size": 4, "sequences": 6,
}  # fmt: skip
AT = {
    # Of one sequence; the encoder's own rows stand with the class token.
    ("encoder", 1): {
        "visual": 16, "kept": 8, "dropped": 8, "merged": 2, "pool": 0, "text": 0, "tokens": 16, "remaining": 10,
        "tower_tokens": 17, "layers": 1,
    },
    ("encoder_end", -1): {
        "visual": 60, "kept": 40, "dropped": 20, "merged": 5, "pool": 20, "text": 10, "tokens": 70, "remaining": 55,
        "tower_tokens": 11, "layers": 1,
    },
    ("lm", 2): {
        "visual": 45, "kept": 9, "dropped": 36, "merged": 3, "pool": 9, "text": 10, "tokens": 55, "remaining": 22,
        "tower_tokens": 11, "layers": 1,
    },
    # After prefill nothing is dropped any more: 12 visual tokens entered the last two layers, of which the operator
    # that names the second makes a segment of its own.
    ("kv", 3): {
        "visual": 12, "kept": 12, "dropped": 0, "merged": 0, "pool": 0, "text": 10, "tokens": 22, "remaining": 22,
        "tower_tokens": 11, "layers": 1, "kv": 22,
    },
}  # fmt: skip


def selection(
    *operations: Operation, steps: Sequence[Step] = STEPS, token_counts: TokenCounts = TOKEN_COUNTS, **more: object
) -> Array:
    schedule = Schedule(steps=tuple(steps), operations=operations, **more)  # type: ignore[arg-type]
    rows = table(MODEL, schedule, token_counts, Precision(8, 16, 16, 1)).rows
    return rows[rows["name"] == SELECT]


def total(rows: Array, column: str) -> int:
    return int(rows[column].sum())


@pytest.mark.parametrize(("stage", "layer"), AT)
def test_the_encoder_s_end_and_each_layer_name_their_own_counts(stage: str, layer: int) -> None:
    expected = {**FIXED, **AT[stage, layer]}
    # A kernel of as many elements as the quantity; the elements that it writes for each that it reads tell which.
    operations = [
        Operation(kind="elementwise", stage=stage, layer=layer, rows=symbol, writes=number)  # type: ignore[arg-type]
        for number, symbol in enumerate(expected, 1)
    ]
    rows = selection(*operations)
    symbol_indices = rows["write_bytes"] // rows["read_bytes"] - 1
    flops_by_symbol = dict.fromkeys(expected, 0)
    flops_by_symbol.update(
        (list(expected)[number], int(flops))
        for number, flops in zip(symbol_indices, rows["elementwise_flops"], strict=True)
    )
    # Of three requests; nothing runs where a quantity is 0.
    assert flops_by_symbol == {symbol: 3 * size for symbol, size in expected.items()}


def test_work_in_every_layer_has_the_layers_of_its_segment() -> None:
    # Segments of two layers each.
    rows = selection(Operation(kind="gemm", stage="kv", rows="layers", columns="tokens"))
    assert [(int(row["m"]), int(row["n"]), int(row["count"])) for row in rows] == [(2, 55, 2), (2, 22, 2)]
    assert rows["layer"].tolist() == [0, 2]


def test_a_row_has_its_shape_bytes_and_repetitions() -> None:
    def only(kind: str) -> np.void:
        operation = Operation(
            kind=kind, stage="lm", layer=2, rows="visual", columns="heads", inner="hidden", times="kv_heads", writes=2,
            flops_per_element=7,
        )  # type: ignore[arg-type]  # fmt: skip
        (row,) = selection(operation)
        return row

    # 45 x 6 over 8, twice, for each of three requests; 16 bits but for weights of 8.
    shape = ("m", "n", "k", "groups", "count")
    gemm, projection, attention = only("gemm"), only("projection"), only("attention")
    assert [int(gemm[name]) for name in shape] == [45, 6, 8, 2 * 3, 1]
    assert [int(projection[name]) for name in shape] == [45 * 3, 6, 8, 1, 2]
    assert [int(attention[name]) for name in shape] == [45, 6, 8, 2 * 3, 1]
    assert (gemm["kind"], projection["kind"], attention["kind"]) == (GEMM, GEMM, ATTENTION)
    assert gemm["flops"] == projection["flops"] == attention["flops"] // 2 == 3 * 2 * 2 * 45 * 6 * 8
    queries, keys, scores = 3 * 2 * 45 * 8 * 2, 3 * 2 * 6 * 8 * 2, 3 * 2 * 45 * 6 * 2
    assert (gemm["read_bytes"], gemm["write_bytes"], gemm["weight_bytes"]) == (queries + keys, scores, 0)
    assert (attention["read_bytes"], attention["write_bytes"]) == (queries + 2 * keys, queries)
    assert (projection["read_bytes"], projection["write_bytes"]) == (queries, scores)
    assert projection["weight_bytes"] == 2 * 6 * 8
    moved = only("elementwise")
    # Element-wise work has no inner dimension.
    assert moved["elementwise_flops"] == 3 * 2 * 45 * 6 * 7
    assert (moved["kind"], moved["groups"], moved["flops"]) == (ELEMENTWISE, 1, 0)
    assert (moved["read_bytes"], moved["write_bytes"]) == (scores, 2 * scores)


def test_recomputed_attention_scores_every_query_head() -> None:
    rows = selection(*recomputed_attention(2))
    # 55 tokens: queries of 30 columns, keys and values of 20, then a query of six heads against all keys.
    assert total(rows, "flops") == 3 * 2 * (55 * 8 * 30 + 55 * 8 * 20 + 6 * 55 * 5)
    # Three for an element of the norm, five for a softmaxed score.
    assert total(rows, "elementwise_flops") == 3 * (3 * 55 * 8 + 5 * 6 * 55)
    assert total(rows, "weight_bytes") == 8 * (30 + 20)


def test_a_head_mean_reads_the_weights_of_every_query_head() -> None:
    rows = selection(head_mean(2, queries=4))
    assert total(rows, "elementwise_flops") == 3 * 6 * 4 * 45
    assert (total(rows, "read_bytes"), total(rows, "write_bytes")) == (3 * 6 * 4 * 45 * 2, 0)


def test_scores_of_the_cache_are_of_every_query_head() -> None:
    rows = selection(*cache_scores(MODEL, "3"))
    # In two layers of 55 tokens and two of 22; three queries of six heads.
    assert total(rows, "flops") == 3 * 2 * (2 * 55 + 2 * 22) * 3 * 6 * 5
    assert total(rows, "elementwise_flops") == 3 * (2 * 55 + 2 * 22) * 3 * 6 * 5
    # Keys are read once for their group of three.
    products = rows[rows["kind"] == GEMM]
    assert products["m"].tolist() == [9, 9]
    assert total(products, "read_bytes") == 3 * 2 * 2 * (2 * (9 + 55) + 2 * (9 + 22)) * 5


def test_scores_of_decode_steps_are_of_every_query_head() -> None:
    rows = selection(*decode_scores(MODEL))
    # Three steps find 55, 56 and 57 entries in two layers, 22 to 24 in the others.
    entries = 2 * (55 + 56 + 57) + 2 * (22 + 23 + 24)
    assert total(rows, "flops") == 3 * 2 * entries * 6 * 5
    assert total(rows, "elementwise_flops") == 3 * entries * 6 * 5
    assert (rows["phase"] == DECODE_SELECTION).all()
    products = rows[rows["kind"] == GEMM]
    assert [(int(row["m"]), int(row["n"]), int(row["count"])) for row in products] == [(3, 56, 6), (3, 23, 6)]


def test_work_on_the_cache_sees_the_mean_of_its_heads() -> None:
    # One of two heads keeps all of 22 entries and the other a third, seven: 14.5 on average, in two layers.
    policy = KvPolicy(share=(Fraction(1, 3),), full_heads=Fraction(1, 2))
    operation = Operation(kind="gemm", stage="kv", layer=3, rows="kv", columns="heads", inner="2")
    (row,) = selection(operation, kv=policy)
    assert row["m"] == 15
    assert row["flops"] == 3 * 2 * 6 * 29
    assert row["write_bytes"] == 3 * 6 * 29 // 2 * 2


def test_work_in_decoding_sees_the_growth_of_the_cache() -> None:
    # 22 entries, then 23, and past 11 tokens of text every other one: 23 again.
    operation = Operation(kind="gemm", stage="decode", layer=3, rows="kv")
    eviction = TextEviction(threshold_tokens=11, retain=Fraction(1, 2))
    (row,) = selection(operation, text_eviction=eviction)
    assert row["m"] == 23
    assert row["flops"] == 3 * 2 * (22 + 23 + 23)


def test_means_over_heads_and_steps_are_rounded_down_once() -> None:
    # 22, 23 and 24 entries of one head, 7, 8 and 9 of the other: 93, of which each head has half, three columns each.
    policy = KvPolicy(share=(Fraction(1, 3),), full_heads=Fraction(1, 2))
    operation = Operation(kind="gemm", stage="decode", layer=3, rows="kv", columns="3")
    (row,) = selection(operation, kv=policy)
    assert row["m"] == 16
    assert row["write_bytes"] == 3 * 2 * (93 * 3 // 2)
    assert row["flops"] == 3 * 93 * 3


@pytest.mark.parametrize(
    ("rows", "expected"), [("visual/2", 23), ("visual//2", 22), ("visual/2*2", 46), ("visual*2/4", 23), ("9/merged", 3)]
)
def test_divisions_round_up_or_down_from_left_to_right(rows: str, expected: int) -> None:
    (row,) = selection(Operation(kind="gemm", stage="lm", layer=2, rows=rows))
    assert row["m"] == expected


def test_a_divisor_of_nothing_counts_as_one() -> None:
    (row,) = selection(Operation(kind="gemm", stage="lm", layer=2, rows="visual/dropped"), steps=())
    assert row["m"] == 96
