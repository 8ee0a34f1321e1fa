"""Token counts of requests and exact shares at odd numbers and at the bounds."""

from __future__ import annotations

from fractions import Fraction

import pytest

from asymsim.catalogue.load import load_model
from asymsim.estimator.token_counts import request_tokens
from asymsim.methods.schedule import KvPolicy, Operation, Schedule, TextEviction, compose, drop_count, keep_share
from asymsim.methods.schedule_file import parse_schedule
from asymsim.util.errors import InputError
from asymsim.util.fractions import exact, share_of_all

LLAVA, QWEN = load_model("llava-1.5-7b"), load_model("qwen2.5-vl-7b")


@pytest.mark.parametrize(
    ("visual", "images", "encodings"),
    # LLaVA-1.5 encodes 576 tokens at a time: 1,153 over two images are at most 577 an image, two encodings each.
    [(1152, 2, 1), (1153, 2, 2), (1729, 3, 2), (3, 7, 1), (1, 1, 1)],
)
def test_tokens_outright_are_shared_by_the_images_rounded_up(visual: int, images: int, encodings: int) -> None:
    request = request_tokens(LLAVA, visual_tokens=visual, num_images=images)
    assert request.image is not None
    assert request.image.sequences == encodings
    assert request.num_images == min(visual, images)
    assert request.token_counts().patches == 576 * encodings


def test_one_side_alone_takes_the_other_of_the_typical_image() -> None:
    # Qwen2.5-VL: 1024 pixels a side are 37 tokens of 28 x 28; 560 are 20.
    assert request_tokens(QWEN, image_height=560).visual_tokens == 20 * 37
    assert request_tokens(QWEN, image_width=560).visual_tokens == 37 * 20
    # Phi-3.5 and LLaVA-NeXT tell height from width.
    assert request_tokens(load_model("llava-v1.6-mistral-7b"), image_height=336).visual_tokens == 576 + 24 * 49
    assert request_tokens(load_model("llava-v1.6-mistral-7b"), image_width=336).visual_tokens == 576 + 48 * 25


def test_an_image_of_exactly_the_most_pixels_is_taken() -> None:
    # 178,956,970 = 2 x 5 x 17,895,697: a strip of ten rows.
    assert request_tokens(LLAVA, image_height=10, image_width=17_895_697).visual_tokens == 576
    with pytest.raises(InputError, match="at most 178956970 pixels"):
        request_tokens(LLAVA, image_height=10, image_width=17_895_698)


@pytest.mark.parametrize(("field", "most"), [("text_tokens", 10**8), ("output_tokens", 10**8), ("batch_size", 10**6)])
def test_bounds_are_included(field: str, most: int) -> None:
    assert getattr(request_tokens(LLAVA, **{field: most}), field) == most
    for value in (0, most + 1):
        with pytest.raises(InputError, match=f"{field} = {value}: give a whole number from 1 to {most}"):
            request_tokens(LLAVA, **{field: value})


def test_shares_are_decimals_not_binary_numbers() -> None:
    assert exact(0.1) == Fraction(1, 10)
    assert exact("1/3") == Fraction(1, 3)
    assert exact(1 / 3) == Fraction(1, 3)
    assert exact(0.07) * 100 == 7
    assert exact(0.123456) == Fraction(123_456, 10**6)
    assert share_of_all(1) == 1
    with pytest.raises(InputError, match="between 0 and 1"):
        share_of_all(1.000001)


def test_two_methods_together_have_the_rules_of_either() -> None:
    vision = Schedule(steps=(keep_share("1/2"),), unfused=(("lm", 1),), masking=False)
    cache = Schedule(kv=KvPolicy(share=(Fraction(1, 4),)), unfused=(("lm", 1), ("lm", 2)), masking=True)
    text = Schedule(text_eviction=TextEviction(threshold_tokens=5, retain=Fraction(1, 2)))
    for both in (compose(vision, cache), compose(cache, vision)):
        assert both.steps == vision.steps
        assert both.kv == cache.kv
        assert set(both.unfused) == {("lm", 1), ("lm", 2)}
        assert len(both.unfused) == 2
        assert both.masking
    assert compose(vision, text).text_eviction == compose(text, vision).text_eviction == text.text_eviction
    for twice in (cache, text):
        with pytest.raises(InputError, match="two"):
            compose(twice, twice)


def test_drops_are_of_the_present_tokens() -> None:
    step = drop_count(3, "encoder", 2)
    assert (step.share, step.of, step.plus, step.layer) == (1, "present", -3, 2)


def test_cached_entries_stand_once_and_undivided_in_an_operation() -> None:
    Operation(kind="elementwise", stage="decode", rows="2*kv*heads", columns="hidden")
    for sizes in ({"rows": "kv", "columns": "kv"}, {"rows": "kv*kv"}, {"rows": "kv/2"}):
        with pytest.raises(InputError, match="name kv once and undivided"):
            Operation(kind="elementwise", stage="decode", **sizes)


def test_amounts_of_a_file_are_those_of_the_schedule() -> None:
    schedule = parse_schedule(
        {
            "step": [
                {"stage": "encoder", "layer": 1, "drop_count": 5},
                {"stage": "encoder_end", "keep": 0.3, "rounding": "ceil", "of": "present"},
                {"stage": "lm", "layer": 2, "keep_count": 40, "recycle": {"share": 0.3, "plus": 1, "divisor": 10}},
            ],
            "kv": {"count": [7, 9], "hold": True},
            "unfused": {"lm": [1], "encoder": [0, 2]},
        }
    )
    drop, share, number = schedule.steps
    assert (drop.share, drop.of, drop.plus) == (1, "present", -5)
    assert (share.share, share.of, share.rounding, share.plus) == (Fraction(3, 10), "present", "ceil", 0)
    assert (number.share, number.plus) == (0, 40)
    assert number.recycled is not None
    assert (number.recycled.share, number.recycled.divisor) == (Fraction(3, 10), 10)
    assert schedule.kv == KvPolicy(share=(Fraction(0),), plus=(7, 9), hold=True)
    assert schedule.unfused == (("encoder", 0), ("encoder", 2), ("lm", 1))
    for key, value in (("rounding", "ceil"), ("of", "present")):
        with pytest.raises(InputError, match="goes with keep alone"):
            parse_schedule({"step": [{"stage": "encoder_end", "keep_count": 4, key: value}]})
