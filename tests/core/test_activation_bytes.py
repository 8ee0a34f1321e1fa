"""Activations that are alive at once, of whole scenarios, worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
from properties.schedules import table

from asymsim.catalogue.model import LanguageModel, Layer, Linear, Projector, VisionTower, VlmModel
from asymsim.core.model_arrays import Precision
from asymsim.core.token_counts import TokenCounts
from asymsim.core.workspace import ACTIVATION_BYTES
from asymsim.methods.schedule import IDENTITY, Schedule, Step

SMALL = Layer(hidden_size=8, heads=2, kv_heads=1, head_size=3, intermediate_size=2)
ENCODER = Layer(hidden_size=6, heads=2, kv_heads=2, head_size=3, intermediate_size=40, gated=False)
# Two images of three sequences of five tokens, four of them patches.
TOKEN_COUNTS = TokenCounts(
    images=2, sequences=3, sequence_tokens=5, patches=12, window_pairs=0, projector_tokens=12, visual_tokens=24,
    text_tokens=10, output_tokens=4, batch_size=1,
)  # fmt: skip
BF16 = Precision(16, 16, 8, 1)


def activation_bytes(
    token_counts: TokenCounts = TOKEN_COUNTS,
    *,
    layer: Layer = SMALL,
    encoder: Layer = ENCODER,
    vocabulary: int = 10,
    schedule: Schedule = IDENTITY,
    precision: Precision = BF16,
) -> int:
    tower = VisionTower(
        layer_kinds=(encoder,), layer_pattern=(0, 0), patch=Linear(inputs=12, outputs=6), extra_tokens=1
    )
    model = VlmModel(
        name="alive",
        model_type="llava",
        vision_tower=tower,
        projector=Projector(linears=(Linear(inputs=6, outputs=8),)),
        language_model=LanguageModel(hidden_size=8, vocab_size=vocabulary, layer_kinds=(layer,), layer_pattern=(0, 0)),
    )
    return int(table(model, schedule, token_counts, precision).totals[ACTIVATION_BYTES])


# Two streams of six columns, and an FFN of 40 columns in and out, of 2 x 3 sequences of five tokens.
TOWER = 30 * (2 * 6 + 2 * 40)
# The prompt's 34 tokens: two streams of eight columns beside 2 x 6 of queries and outputs, 2 x 3 of keys and values.
PROMPT = 34 * (2 * 8 + 18)


def test_projected_visual_tokens_wait_beside_the_encoder() -> None:
    assert activation_bytes() == 2 * (TOWER + 24 * 8)


def test_pruning_between_encoder_blocks_leaves_the_first_block_and_the_waiting_tokens() -> None:
    half = Schedule(steps=(Step(stage="encoder", layer=0, share=Fraction(1, 2)),))
    # Two patches and a class token in each of six sequences; the visual tokens of the prompt wait.
    assert activation_bytes(schedule=half) == 2 * (18 * (2 * 6 + 2 * 40) + 24 * 8)
    later = Schedule(steps=(Step(stage="encoder", layer=1, share=Fraction(1, 2)),))
    assert activation_bytes(schedule=later) == 2 * (TOWER + 24 * 8)
    mlp = Schedule(steps=(Step(stage="encoder_mlp", layer=0, share=Fraction(1, 2)),))
    # The stream of 30 tokens, of which 18 pass the FFN.
    assert activation_bytes(schedule=mlp) == 2 * (30 * 2 * 6 + 18 * 2 * 40 + 24 * 8)


def test_an_encoder_s_stored_weights_are_those_of_each_sequence() -> None:
    stored = Schedule(unfused=(("encoder", 1),))
    # Before and after the softmax, five by five in two heads of six sequences; the FFN is narrow.
    narrow = replace(ENCODER, intermediate_size=1)
    attention = 30 * (2 * 6 + 2 * 6 + 2 * 6) + 2 * 6 * 25 * 2
    assert activation_bytes(encoder=narrow, schedule=stored) == 2 * (attention + 24 * 8)


def test_the_prompt_is_alive_in_prefill() -> None:
    text = TOKEN_COUNTS._replace(
        images=0, sequences=0, sequence_tokens=0, patches=0, projector_tokens=0, visual_tokens=0, text_tokens=34
    )
    assert activation_bytes(text) == 2 * PROMPT
    # Of several GPUs each has its share of the heads, and the streams whole.
    assert activation_bytes(text, precision=BF16._replace(tp_size=3)) == 2 * 34 * (2 * 8 + 18 // 3)
    # Stored weights: 34 x 34 in two heads, twice.
    stored = Schedule(unfused=(("lm", 1),))
    assert activation_bytes(text, schedule=stored) == 2 * (PROMPT + 2 * 34 * 34 * 2)


def test_the_logits_have_four_bytes() -> None:
    assert activation_bytes(vocabulary=10_000) == 4 * 10_000
    assert activation_bytes(vocabulary=10_000, precision=Precision(32, 32, 16, 1)) == 4 * 10_000


@pytest.mark.parametrize("batch", [1, 3])
def test_activations_are_of_the_whole_batch(batch: int) -> None:
    assert activation_bytes(TOKEN_COUNTS._replace(batch_size=batch)) == batch * 2 * (TOWER + 24 * 8)
    assert activation_bytes(TOKEN_COUNTS._replace(batch_size=batch), vocabulary=10_000) == batch * 4 * 10_000
