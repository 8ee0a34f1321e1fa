"""Operator rows of resamplers, experts, windows, cross-attention and per-head caches, worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from properties.schedules import table

from asymsim.catalogue.model import LanguageModel, Layer, Linear, Projector, Resampler, VisionTower, VlmModel
from asymsim.core.arrays import Array
from asymsim.core.model_arrays import Precision
from asymsim.core.operators.layout import (
    ATTEND,
    ATTENTION,
    BY_COLUMNS,
    BY_HEADS,
    BY_INNER,
    DECODE,
    DOWN,
    ELEMENTWISE_LAYER,
    EMBED,
    KEY_VALUE,
    PREFILL,
    PROJECT,
    PROJECTOR,
    QUERY,
    REPLICATED,
    RESAMPLE,
    ROUTER,
    SHARED_DOWN,
    SHARED_UP,
    UNFUSED_ATTENTION,
    UP,
    VISION,
)
from asymsim.core.token_counts import TokenCounts
from asymsim.core.workspace import KV_FINAL_BYTES, KV_PAGED_BYTES, KV_PREFILL_BYTES
from asymsim.estimator.operator_table import OperatorTable
from asymsim.methods.schedule import IDENTITY, KvPolicy, Schedule, Step

KV8 = Precision(16, 16, 8, 1)
LAYER = Layer(hidden_size=8, heads=4, kv_heads=2, head_size=3, intermediate_size=5)
# Two images of one sequence of 16 patches and a class token.
IMAGES = TokenCounts(
    images=2, sequences=1, sequence_tokens=17, patches=16, window_pairs=0, projector_tokens=16, visual_tokens=32,
    text_tokens=10, output_tokens=4, batch_size=3,
)  # fmt: skip
TEXT = IMAGES._replace(
    images=0, sequences=0, sequence_tokens=0, patches=0, projector_tokens=0, visual_tokens=0, text_tokens=40
)
ONE_PRODUCT = Projector(linears=(Linear(inputs=6, outputs=8),))


def tower(**layer: int) -> VisionTower:
    kind = Layer(hidden_size=6, heads=2, kv_heads=2, head_size=3, intermediate_size=10, gated=False, **layer)  # type: ignore[arg-type]
    return VisionTower(layer_kinds=(kind,), layer_pattern=(0, 0), patch=Linear(inputs=12, outputs=6), extra_tokens=1)


def model(
    *kinds: Layer, vision: VisionTower | None = None, projector: Projector = ONE_PRODUCT, **text: object
) -> VlmModel:
    chosen = kinds or (LAYER,)
    shape = {"layer_kinds": chosen, "layer_pattern": tuple(range(len(chosen))), **text}
    return VlmModel(
        name="special",
        model_type="llava",
        vision_tower=vision,
        projector=projector if vision else None,
        language_model=LanguageModel(hidden_size=8, vocab_size=50, **shape),  # type: ignore[arg-type]
    )


def evaluated(
    vlm: VlmModel, token_counts: TokenCounts, schedule: Schedule = IDENTITY, precision: Precision = KV8
) -> OperatorTable:
    return table(vlm, schedule, token_counts, precision)


def named(operator_table: OperatorTable, name: int, phase: int) -> Array:
    return operator_table.rows[(operator_table.rows["name"] == name) & (operator_table.rows["phase"] == phase)]


def only(operator_table: OperatorTable, name: int, phase: int) -> np.void:
    (row,) = named(operator_table, name, phase)
    return row


def test_a_resampler_reads_keys_and_values_of_the_whole_encoder() -> None:
    rows = (Linear(inputs=6, outputs=12, rows="encoder"), Linear(inputs=12, outputs=8))
    projector = Projector(linears=rows, resampler=Resampler(heads=3, head_size=4))
    token_counts = IMAGES._replace(projector_tokens=5, visual_tokens=10)
    operator_table = evaluated(model(vision=tower(), projector=projector), token_counts)
    keys, queries = named(operator_table, PROJECT, PROJECTOR)
    # 3 requests of 2 images: 17 rows each on the way in, 5 queries each on the way out.
    assert (keys["m"], queries["m"]) == (6 * 17, 6 * 5)
    row = only(operator_table, RESAMPLE, PROJECTOR)
    assert (row["m"], row["n"], row["k"], row["groups"], row["heads"], row["kv_heads"]) == (5, 17, 4, 18, 3, 3)
    assert row["split"] == BY_HEADS
    assert row["flops"] == row["torch_flops"] == 6 * 3 * 5 * 17 * (2 * 4 + 2 * 4)
    assert row["elementwise_flops"] == 6 * 3 * 5 * 17 * 5
    assert row["read_bytes"] == row["write_bytes"] == 6 * 5 * 12 * 2
    # The activations' 16 bits, whatever the cache has.
    assert row["kv_read_bytes"] == 6 * 17 * 2 * 12 * 2
    assert row["kv_write_bytes"] == 0


def test_the_projector_sees_no_more_than_the_encoder_s_end_leaves() -> None:
    def passing(kept: Fraction, projected: int = 16) -> int:
        schedule = Schedule(steps=(Step(stage="encoder_end", share=kept),))
        token_counts = IMAGES._replace(projector_tokens=projected)
        operator_table = evaluated(model(vision=tower()), token_counts, schedule)
        return int(only(operator_table, PROJECT, PROJECTOR)["m"])

    assert passing(Fraction(1)) == 3 * 32
    # Separators that join after the projector are no tokens of it, nor are tokens that the language model never sees.
    assert passing(Fraction(1), projected=20) == 3 * 40
    assert passing(Fraction(1, 2)) == 3 * 16
    assert passing(Fraction(3, 4), projected=10) == 3 * 20


def test_an_encoder_s_windows_shrink_with_the_square_of_its_tokens() -> None:
    def attends(*steps: Step) -> list[tuple[int, int]]:
        token_counts = IMAGES._replace(window_pairs=100)
        operator_table = evaluated(model(vision=tower(window_tokens=4)), token_counts, Schedule(steps=steps))
        return [(int(row["m"]), int(row["flops"])) for row in named(operator_table, ATTEND, VISION)]

    # Two heads of three elements, 24 FLOPs a pair, in two layers; three requests of two images of 100 pairs.
    assert attends() == [(17, 2 * 24 * 600)]
    # Half of 16 patches and the class token, before the second layer: 600 x 9 / 17 = 317, of which 9 / 17 are 167.
    assert attends(Step(stage="encoder", layer=1, share=Fraction(1, 2))) == [(17, 24 * 600), (9, 24 * 167)]


def test_experts_read_their_weights_once_and_their_tokens_each() -> None:
    kind = replace(LAYER, experts=4, experts_per_token=2, framework_experts_per_token=4, shared_intermediate_size=7)
    operator_table = evaluated(model(kind), TEXT._replace(batch_size=1, text_tokens=3))
    router = only(operator_table, ROUTER, PREFILL)
    assert (router["m"], router["n"], router["k"], router["split"]) == (3, 4, 8, REPLICATED)
    # 4 (1 - (1/2)^3) = 3.5, so four experts of at most two tokens.
    up, down = only(operator_table, UP, PREFILL), only(operator_table, DOWN, PREFILL)
    assert [(row["m"], row["n"], row["k"], row["groups"], row["split"]) for row in (up, down)] == [
        (2, 10, 8, 4, BY_COLUMNS),
        (2, 8, 5, 4, BY_INNER),
    ]
    assert (up["weight_bytes"], down["weight_bytes"]) == (4 * 80 * 2, 4 * 40 * 2)
    assert (up["read_bytes"], up["write_bytes"]) == (6 * 8 * 2, 6 * 10 * 2)
    assert (down["read_bytes"], down["write_bytes"]) == (6 * 5 * 2, 6 * 8 * 2)
    assert (down["flops"], down["torch_flops"]) == (2 * 6 * 40, 2 * 12 * 40)
    shared_up = only(operator_table, SHARED_UP, PREFILL)
    shared_down = only(operator_table, SHARED_DOWN, PREFILL)
    assert (shared_up["m"], shared_up["n"], shared_up["k"], shared_up["split"]) == (3, 14, 8, BY_COLUMNS)
    assert (shared_down["m"], shared_down["n"], shared_down["k"], shared_down["split"]) == (3, 8, 7, BY_INNER)
    # Gate and up of two experts and the shared one, 17 columns each, beside two norms, two additions and the rotation.
    stream = only(operator_table, ELEMENTWISE_LAYER, PREFILL)
    assert stream["read_bytes"] == 3 * (4 * 8 + 18 + 2 * 17) * 2
    assert stream["write_bytes"] == 3 * (4 * 8 + 18 + 17) * 2


@pytest.mark.parametrize(
    ("tokens", "touched"),
    # 8 experts, 2 a token: 8 (1 - (3/4)^t) is 2, 3.5, 4.63, 5.47 and at 20 tokens 7.97.
    [(1, 2), (2, 4), (3, 5), (4, 6), (20, 8)],
)
def test_few_tokens_touch_few_experts(tokens: int, touched: int) -> None:
    kind = replace(LAYER, experts=8, experts_per_token=2)
    up = only(evaluated(model(kind), TEXT._replace(batch_size=tokens)), UP, DECODE)
    assert (up["groups"], up["m"]) == (touched, -(-2 * tokens // touched))
    # Three steps each read 80 weights of two bytes for every expert that is touched.
    assert up["weight_bytes"] == 3 * touched * 80 * 2


def test_a_sliding_window_limits_prefill_decode_and_cache() -> None:
    operator_table = evaluated(model(replace(LAYER, window_tokens=8)), TEXT)
    prefill, decode = only(operator_table, ATTEND, PREFILL), only(operator_table, ATTEND, DECODE)
    # Of 40 tokens the first eight see 1 to 8 keys, the others 8. A pair costs four heads of three elements 48 FLOPs.
    assert prefill["flops"] == 3 * 48 * (36 + 32 * 8)
    assert prefill["torch_flops"] == 3 * 48 * 40 * 40
    # A step sees seven cached tokens and its own.
    assert (decode["n"], decode["flops"]) == (8, 3 * 3 * 48 * 8)
    assert operator_table.totals[KV_PREFILL_BYTES] == operator_table.totals[KV_FINAL_BYTES] == 3 * 7 * 12
    assert operator_table.totals[KV_PAGED_BYTES] == 3 * 16 * 12


def test_full_heads_stay_within_their_window() -> None:
    policy = KvPolicy(share=(Fraction(1, 10),), full_heads=Fraction(1, 2))
    operator_table = evaluated(model(replace(LAYER, window_tokens=30)), TEXT, Schedule(kv=policy))
    # 29 entries of one head; of the other four, and three more in decoding. Two blocks and one.
    assert operator_table.totals[KV_PREFILL_BYTES] == 3 * (29 + 4) * 6
    assert operator_table.totals[KV_FINAL_BYTES] == 3 * (29 + 7) * 6
    assert operator_table.totals[KV_PAGED_BYTES] == 3 * (32 + 16) * 6


def test_a_window_longer_than_the_prompt_fills_in_decoding() -> None:
    operator_table = evaluated(model(replace(LAYER, window_tokens=8)), TEXT._replace(text_tokens=5, batch_size=1))
    # 5 cached, 6, 7, and their own tokens.
    assert only(operator_table, ATTEND, DECODE)["flops"] == 48 * (6 + 7 + 8)
    assert operator_table.totals[KV_PREFILL_BYTES] == 5 * 12
    assert operator_table.totals[KV_FINAL_BYTES] == 7 * 12


def test_each_kv_head_pages_its_own_entries() -> None:
    # 40 tokens; one of two heads keeps all of them and the other half, then three more each: 43 in three blocks and
    # 23 in two.
    policy = KvPolicy(share=(Fraction(1, 2),), full_heads=Fraction(1, 2))
    operator_table = evaluated(model(), TEXT, Schedule(kv=policy))
    assert operator_table.totals[KV_PREFILL_BYTES] == 3 * (40 + 20) * 6
    assert operator_table.totals[KV_FINAL_BYTES] == 3 * (43 + 23) * 6
    assert operator_table.totals[KV_PAGED_BYTES] == 3 * (48 + 32) * 6
    # The attention row has the mean: of 41, 42, 43 and 21, 22, 23 entries and own tokens.
    row = only(operator_table, ATTEND, DECODE)
    assert row["n"] == 32
    assert row["kv_read_bytes"] == 3 * 6 * (41 + 42 + 43 + 21 + 22 + 23)


def test_a_budget_kept_in_decoding_bounds_the_cache() -> None:
    # Half of 40 tokens stay; a generated token enters where another leaves. Each of three steps sees 20 and its own.
    policy = KvPolicy(share=(Fraction(1, 2),), hold=True)
    operator_table = evaluated(model(), TEXT, Schedule(kv=policy))
    assert operator_table.totals[KV_PREFILL_BYTES] == operator_table.totals[KV_FINAL_BYTES] == 3 * 2 * 20 * 6
    assert operator_table.totals[KV_PAGED_BYTES] == 3 * 2 * 32 * 6
    assert only(operator_table, ATTEND, DECODE)["kv_read_bytes"] == 3 * 2 * 6 * 3 * 21


def test_a_budget_of_less_than_one_token_keeps_none() -> None:
    operator_table = evaluated(model(), TEXT, Schedule(kv=KvPolicy(share=(Fraction(1, 50),))))
    assert operator_table.totals[KV_PREFILL_BYTES] == 0
    # The three generated tokens alone.
    assert operator_table.totals[KV_FINAL_BYTES] == 3 * 2 * 3 * 6


def test_the_number_of_full_heads_is_rounded_to_the_nearest() -> None:
    # Of two heads: two thirds are 1.33, three quarters 1.5, which goes to the even neighbour, as a quarter does.
    for share, full in ((Fraction(2, 3), 1), (Fraction(3, 4), 2), (Fraction(1, 4), 0)):
        policy = KvPolicy(share=(Fraction(1, 2),), full_heads=share)
        operator_table = evaluated(model(), TEXT, Schedule(kv=policy))
        assert operator_table.totals[KV_PREFILL_BYTES] == 3 * (40 * full + 20 * (2 - full)) * 6


def test_cross_attention_reads_the_images_and_writes_nothing_in_decoding() -> None:
    cross = replace(LAYER, name="cross", attention="cross")
    vlm = model(LAYER, cross, vision=tower(), visual_in_sequence=False)
    operator_table = evaluated(vlm, IMAGES)
    # Visual tokens are no part of the sequence.
    assert only(operator_table, EMBED, PREFILL)["read_bytes"] == 3 * 10 * 8 * 2
    queries = only(operator_table, QUERY, PREFILL)
    keys = only(operator_table, KEY_VALUE, PREFILL)
    assert (queries["m"], queries["n"], queries["split"]) == (30, 12, BY_COLUMNS)
    assert (keys["m"], keys["n"], keys["split"]) == (96, 12, BY_COLUMNS)
    self_attention, cross_attention = named(operator_table, ATTEND, PREFILL)
    assert (self_attention["n"], cross_attention["n"]) == (10, 32)
    assert cross_attention["flops"] == cross_attention["torch_flops"] == 3 * 48 * 10 * 32
    assert cross_attention["kv_write_bytes"] == cross_attention["kv_read_bytes"] == 3 * 32 * 12
    self_attention, cross_attention = named(operator_table, ATTEND, DECODE)
    # Cached are 10, 11, 12 tokens and their own beside; of the images always 32.
    assert (self_attention["n"], cross_attention["n"]) == (12, 32)
    assert (self_attention["kv_write_bytes"], cross_attention["kv_write_bytes"]) == (3 * 3 * 12, 0)
    assert cross_attention["kv_read_bytes"] == 3 * 3 * 32 * 12
    assert not len(named(operator_table, KEY_VALUE, DECODE))
    # Queries are projected and turned into outputs at each step.
    assert only(operator_table, QUERY, DECODE)["count"] == 3


def test_cross_attention_without_images_is_skipped() -> None:
    cross = replace(LAYER, name="cross", attention="cross")
    vlm = model(LAYER, cross, vision=tower(), layer_pattern=(0, 1, 1), visual_in_sequence=False)
    gone = Schedule(steps=(Step(stage="lm", layer=2, share=Fraction(0)),))
    operator_table = evaluated(vlm, IMAGES, gone)
    # The first of two cross-attention layers still sees them.
    assert only(operator_table, QUERY, DECODE)["count"] == 3
    assert only(operator_table, QUERY, PREFILL)["layers"] == 1
    assert [int(row["layers"]) for row in named(operator_table, DOWN, DECODE)] == [1, 1]


def test_weights_of_an_unfused_layer_are_stored_in_the_activations_format() -> None:
    schedule = Schedule(unfused=(("lm", 1),))
    operator_table = evaluated(model(layer_pattern=(0, 0, 0)), TEXT, schedule, Precision(8, 16, 8, 1))
    first, stored, last = named(operator_table, ATTEND, PREFILL)
    assert (first["kind"], stored["kind"], last["kind"]) == (
        ATTENTION,
        UNFUSED_ATTENTION,
        ATTENTION,
    )
    assert stored["read_bytes"] == first["read_bytes"] + 3 * 2 * 40 * 40 * 4 * 2
    assert stored["write_bytes"] == first["write_bytes"] + 3 * 2 * 40 * 40 * 4 * 2
