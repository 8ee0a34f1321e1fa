"""Every operator row of one small scenario, its shape and bytes worked out by hand.

Two requests of two images, each cut into three sequences of four patches and a class token; 24 visual and 10 text
tokens; six output tokens. Weights and cache have 8 bits, activations 16.
"""

from __future__ import annotations

from fractions import Fraction

import pytest
from properties.schedules import table

from asymsim.catalogue.model import LanguageModel, Layer, Linear, Projector, VisionTower, VlmModel
from asymsim.core.model_arrays import Precision
from asymsim.core.operators.layout import (
    ATTEND,
    BY_COLUMNS,
    BY_HEADS,
    BY_INNER,
    DECODE,
    DOWN,
    ELEMENTWISE_LAYER,
    EMBED,
    HEAD,
    OPERATOR_NAMES,
    PATCH_EMBEDDING,
    PREFILL,
    PROJECTOR,
    QKV,
    REDUCE,
    REPLICATED,
    VISION,
)
from asymsim.core.token_counts import TokenCounts
from asymsim.core.workspace import KV_FINAL_BYTES, KV_PAGED_BYTES, KV_PREFILL_BYTES
from asymsim.methods.schedule import IDENTITY, Schedule, Step

TOWER = VisionTower(
    layer_kinds=(Layer(hidden_size=6, heads=2, kv_heads=2, head_size=3, intermediate_size=10, gated=False),),
    layer_pattern=(0, 0, 0),
    patch=Linear(inputs=12, outputs=6),
    extra_tokens=1,
    framework_flops=77,
)
TEXT = LanguageModel(
    hidden_size=8,
    vocab_size=50,
    layer_kinds=(Layer(hidden_size=8, heads=4, kv_heads=2, head_size=3, intermediate_size=5, norms=3),),
    layer_pattern=(0, 0, 0, 0),
)
MODEL = VlmModel(
    name="by hand",
    model_type="llava",
    vision_tower=TOWER,
    projector=Projector(linears=(Linear(inputs=6, outputs=9), Linear(inputs=9, outputs=8))),
    language_model=TEXT,
)
TOKEN_COUNTS = TokenCounts(
    images=2, sequences=3, sequence_tokens=5, patches=12, window_pairs=0, projector_tokens=12, visual_tokens=24,
    text_tokens=10, output_tokens=6, batch_size=2,
)  # fmt: skip
COLUMNS = ("count", "m", "n", "k", "groups", "split", "weight_bytes", "read_bytes", "write_bytes")
WHOLE, COLUMN, INNER, HEADS = REPLICATED, BY_COLUMNS, BY_INNER, BY_HEADS
# 12 sequences of 5 tokens in three layers of the tower; 2 prompts of 34 in four of the language model.
TOKENS, PROMPT, TEXT_LAYERS = 60, 68, 4
STEPS = 5
VISION_ROWS = [
    ("patch_embedding", (1, 48, 6, 12, 1, WHOLE, 6 * 12, 48 * 12 * 2, 48 * 6 * 2)),
    ("qkv_projection", (3, TOKENS, 18, 6, 1, COLUMN, 3 * 18 * 6, 3 * TOKENS * 6 * 2, 3 * TOKENS * 18 * 2)),
    ("output_projection", (3, TOKENS, 6, 6, 1, INNER, 3 * 36, 3 * TOKENS * 6 * 2, 3 * TOKENS * 6 * 2)),
    ("ffn_up", (3, TOKENS, 10, 6, 1, COLUMN, 3 * 60, 3 * TOKENS * 6 * 2, 3 * TOKENS * 10 * 2)),
    ("ffn_down", (3, TOKENS, 6, 10, 1, INNER, 3 * 60, 3 * TOKENS * 10 * 2, 3 * TOKENS * 6 * 2)),
    # Two norms and two residual additions read and write the stream; the activation reads and writes ten columns.
    # It is a third kernel: additions are fused into the norms.
    ("elementwise", (3, 0, 0, 0, 3, WHOLE, 0, 3 * TOKENS * (4 * 6 + 10) * 2, 3 * TOKENS * (4 * 6 + 10) * 2)),
    ("attention", (3, 5, 5, 3, 24, HEADS, 0, 3 * TOKENS * 6 * 2, 3 * TOKENS * 6 * 2)),
]
PROJECTOR_ROWS = [
    ("projector_linear", (1, 48, 9, 6, 1, WHOLE, 54, 48 * 6 * 2, 48 * 9 * 2)),
    ("projector_linear", (1, 48, 8, 9, 1, WHOLE, 72, 48 * 9 * 2, 48 * 8 * 2)),
]


def dense(count: int, tokens: int) -> list[tuple[str, tuple[int, ...]]]:
    """A language-model layer's part that is no attention, ``count`` times."""

    def row(name: str, m: int, n: int, k: int, split: int) -> tuple[str, tuple[int, ...]]:
        return name, (count, m, n, k, 1, split, count * n * k, count * m * k * 2, count * m * n * 2)

    # Three norms and two additions of 8; queries and keys of 12 + 6 rotated; gate and up of 5 in, their product out.
    read, write = tokens * (5 * 8 + 18 + 10) * 2, tokens * (5 * 8 + 18 + 5) * 2
    return [
        row("qkv_projection", tokens, 12 + 12, 8, COLUMN),
        row("output_projection", tokens, 8, 12, INNER),
        row("ffn_up", tokens, 10, 8, COLUMN),
        row("ffn_down", tokens, 8, 5, INNER),
        # Three norms, the rotation, the activation.
        ("elementwise", (count, 0, 0, 0, 5, WHOLE, 0, count * read, count * write)),
    ]


PREFILL_ROWS = [
    ("embedding", (1, 0, 0, 0, 1, WHOLE, 0, PROMPT * 8 * 2, PROMPT * 8 * 2)),
    *dense(TEXT_LAYERS, PROMPT),
    ("attention", (TEXT_LAYERS, 34, 34, 3, 8, HEADS, 0, TEXT_LAYERS * PROMPT * 12 * 2, TEXT_LAYERS * PROMPT * 12 * 2)),
    # The head sees the last position alone.
    ("lm_head", (1, 2, 50, 8, 1, COLUMN, 400, 2 * 8 * 2, 2 * 50 * 2)),
]
RUNS = TEXT_LAYERS * STEPS
DECODE_ROWS = [
    *dense(RUNS, 2),
    ("lm_head", (STEPS, 2, 50, 8, 1, COLUMN, STEPS * 400, STEPS * 2 * 8 * 2, STEPS * 2 * 50 * 2)),
    ("embedding", (STEPS, 0, 0, 0, 1, WHOLE, 0, STEPS * 2 * 8 * 2, STEPS * 2 * 8 * 2)),
    # 34 to 38 cached tokens and the step's own: 37 on average.
    ("attention", (RUNS, 1, 37, 3, 8, HEADS, 0, RUNS * 2 * 12 * 2, RUNS * 2 * 12 * 2)),
]


def rows(phase: int, precision: Precision) -> list[tuple[str, tuple[int, ...]]]:
    rows = table(MODEL, IDENTITY, TOKEN_COUNTS, precision).rows
    return [
        (OPERATOR_NAMES[row["name"]], tuple(int(row[column]) for column in COLUMNS))
        for row in rows[rows["phase"] == phase]
    ]


@pytest.mark.parametrize(
    ("phase", "expected"),
    [
        (VISION, VISION_ROWS),
        (PROJECTOR, PROJECTOR_ROWS),
        (PREFILL, PREFILL_ROWS),
        (DECODE, DECODE_ROWS),
    ],
)
def test_every_row_has_its_shape_and_bytes(phase: int, expected: list[tuple[str, tuple[int, ...]]]) -> None:
    assert rows(phase, Precision(8, 16, 8, 1)) == expected


def test_attention_rows_have_the_heads_of_their_layers() -> None:
    rows = table(MODEL, IDENTITY, TOKEN_COUNTS, Precision(8, 16, 8, 1)).rows
    heads = {int(row["phase"]): (row["heads"], row["kv_heads"]) for row in rows[rows["name"] == ATTEND]}
    assert heads == {VISION: (2, 2), PREFILL: (4, 2), DECODE: (4, 2)}
    others = rows[rows["name"] != ATTEND]
    assert (others["heads"] == 1).all()
    assert (others["kv_heads"] == 1).all()


def test_rows_name_their_first_layer_and_the_number_of_layers() -> None:
    # Two of four patches stay before the third block, and a quarter of all visual tokens before the second layer.
    pruned = Schedule(steps=(Step(stage="lm", layer=1, share=Fraction(1, 4)), Step(stage="encoder", layer=2, plus=2)))
    rows = table(MODEL, pruned, TOKEN_COUNTS, Precision(8, 16, 8, 2)).rows

    def places(phase: int, name: int) -> list[tuple[int, int]]:
        selected = rows[(rows["phase"] == phase) & (rows["name"] == name)]
        return [(int(row["layer"]), int(row["layers"])) for row in selected]

    for name in (QKV, DOWN, REDUCE, ATTEND):
        assert places(VISION, name) == [(0, 2), (2, 1)]
        assert places(PREFILL, name) == [(0, 1), (1, 3)]
    # Decoding's dense part is alike in all layers.
    assert places(DECODE, QKV) == [(0, 4)]
    assert places(DECODE, ATTEND) == [(0, 1), (1, 3)]
    assert places(PREFILL, HEAD) == places(DECODE, HEAD) == [(4, 1)]
    assert places(VISION, PATCH_EMBEDDING) == places(PREFILL, EMBED) == [(0, 1)]
    # Of each of six sequences two patches and the class token; of 24 visual tokens 12 enter the prompt, then 6 stay.
    queries = {phase: rows[(rows["phase"] == phase) & (rows["name"] == ATTEND)]["m"] for phase in (0, 3)}
    assert [each.tolist() for each in queries.values()] == [[5, 3], [22, 16]]


def test_the_cache_is_written_and_read_in_its_own_format() -> None:
    rows = table(MODEL, IDENTITY, TOKEN_COUNTS, Precision(8, 16, 8, 1)).rows
    attends = {int(row["phase"]): row for row in rows[rows["name"] == ATTEND]}
    # Keys and values of three elements in two KV heads: 12 bytes a token and layer in 8 bits.
    prefill, decode = attends[PREFILL], attends[DECODE]
    assert prefill["kv_read_bytes"] == prefill["kv_write_bytes"] == PROMPT * 12 * TEXT_LAYERS
    assert decode["kv_read_bytes"] == 2 * 12 * TEXT_LAYERS * sum(range(35, 40))
    assert decode["kv_write_bytes"] == 2 * 12 * RUNS
    # The encoder keeps its keys and values in the activations' 16 bits, and caches none.
    assert attends[VISION]["kv_read_bytes"] == 3 * TOKENS * 2 * 6 * 2
    assert attends[VISION]["kv_write_bytes"] == 0


def test_element_wise_flops_are_a_class_of_their_own() -> None:
    rows = table(MODEL, IDENTITY, TOKEN_COUNTS, Precision(8, 16, 8, 1)).rows

    def flops(phase: int, name: int) -> int:
        return int(rows["elementwise_flops"][(rows["phase"] == phase) & (rows["name"] == name)].sum())

    # Of an element, 4 for a norm, 1 for an addition, 3 for the rotation, 5 for an activation or a softmax.
    assert flops(VISION, ELEMENTWISE_LAYER) == 3 * TOKENS * ((2 * 4 + 2) * 6 + 5 * 10)
    assert flops(VISION, ATTEND) == 3 * 12 * 25 * 2 * 5
    layer = (3 * 4 + 2) * 8 + 3 * 18 + 5 * 5
    assert flops(PREFILL, ELEMENTWISE_LAYER) == TEXT_LAYERS * PROMPT * layer
    assert flops(PREFILL, ATTEND) == TEXT_LAYERS * 2 * (34 * 35 // 2) * 4 * 5
    assert flops(DECODE, ELEMENTWISE_LAYER) == RUNS * 2 * layer
    assert flops(DECODE, ATTEND) == TEXT_LAYERS * 2 * sum(range(35, 40)) * 4 * 5


def test_several_gpus_divide_heads_and_columns_and_repeat_the_stream() -> None:
    rows = table(MODEL, IDENTITY, TOKEN_COUNTS, Precision(8, 16, 8, 2)).rows
    names = (ELEMENTWISE_LAYER, REDUCE)
    for phase, layers, tokens, stream, read, write, flops, kernels in (
        # The norms' FLOPs and those of additions; activation: 5 x 10; no rotation.
        (VISION, 3, TOKENS, 6, 10, 10, (60, 50), (2, 1)),
        (PREFILL, TEXT_LAYERS, PROMPT, 8, 18 + 10, 18 + 5, (112, 79), (3, 2)),
        (DECODE, RUNS, 2, 8, 18 + 10, 18 + 5, (112, 79), (3, 2)),
    ):
        norms = kernels[0]
        selected = rows[(rows["phase"] == phase) & [name in names for name in rows["name"]]]
        divided, repeated, reduce = selected
        assert (divided["split"], repeated["split"]) == (HEADS, WHOLE)
        assert (divided["groups"], repeated["groups"]) == kernels[::-1]
        assert divided["read_bytes"] == layers * tokens * read * 2
        assert divided["write_bytes"] == layers * tokens * write * 2
        assert repeated["read_bytes"] == repeated["write_bytes"] == layers * tokens * (norms + 2) * stream * 2
        assert (repeated["elementwise_flops"], divided["elementwise_flops"]) == tuple(
            layers * tokens * each for each in flops
        )
        # After attention and after the FFN, the whole stream in 16 bits.
        assert (reduce["count"], reduce["m"], reduce["n"]) == (2 * layers, tokens, stream)
        assert reduce["write_bytes"] == 2 * layers * tokens * stream * 2


def test_the_framework_counts_what_it_runs_beside_the_model() -> None:
    rows = table(MODEL, IDENTITY, TOKEN_COUNTS, Precision(8, 16, 8, 1)).rows
    patches = rows[rows["name"] == PATCH_EMBEDDING]
    assert patches["flops"].sum() == 2 * 48 * 6 * 12
    assert patches["torch_flops"].sum() == 2 * 48 * 6 * 12 + 12 * 77


def test_the_cache_takes_whole_blocks_of_sixteen_tokens() -> None:
    totals = table(MODEL, IDENTITY, TOKEN_COUNTS, Precision(8, 16, 8, 1)).totals
    token = 2 * 12 * TEXT_LAYERS
    assert totals[KV_PREFILL_BYTES] == 34 * token
    # The last output token is never attended to, so 39 are cached, in three blocks.
    assert totals[KV_FINAL_BYTES] == 39 * token
    assert totals[KV_PAGED_BYTES] == 48 * token


@pytest.mark.parametrize(("cached", "paged"), [(31, 32), (32, 32), (33, 48)])
def test_a_block_is_taken_whole(cached: int, paged: int) -> None:
    token_counts = TokenCounts(0, 0, 0, 0, 0, 0, 0, cached - 1, 2, 1)
    totals = table(MODEL, IDENTITY, token_counts, Precision(8, 16, 8, 1)).totals
    assert totals[KV_PAGED_BYTES] == paged * 12 * TEXT_LAYERS
