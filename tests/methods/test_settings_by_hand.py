"""Schedules that methods build from their settings and a model's layers, at odd values."""

from __future__ import annotations

import dataclasses
from statistics import NormalDist

import pytest

from asymsim.catalogue.model import VlmModel
from asymsim.methods.asymvlm import AsymVLM
from asymsim.methods.base import make_method
from asymsim.methods.common.requirements import attention_layer, check_layer, has_several_crops
from asymsim.util.errors import InputError, UnsupportedError
from oracles.run_schedule import resized, run
from oracles.small_models import CASES, tower

MODEL = CASES["cls"].model


def visual(name: str, keep: float | None = None, **settings: object) -> list[int]:
    """Visual tokens of the 32 layers, of one image of 576."""
    case = resized(CASES["cls"], 1152)
    return run(make_method(name, keep, settings).schedule(case.model), case, images=1, visual_tokens=576).visual


def test_gaps_are_parted_half_a_deviation_from_their_mean() -> None:
    below = NormalDist().cdf(-0.5)
    (small, more), (middle, kept), (large, less) = AsymVLM(keep=0.4).ratios()
    assert (small, middle, large) == pytest.approx((below, 1 - 2 * below, below))
    # Equal shares on both sides: a tenth more and a tenth less.
    assert (more, kept, less) == pytest.approx((0.5, 0.4, 0.3))


def test_unequal_shares_move_in_proportion_so_that_the_mean_stays() -> None:
    settings = AsymVLM(keep=0.4, gap_low=0.218, gap_high=0.218 + 0.047)
    (small, more), _, (large, less) = settings.ratios()
    # Half of the gaps are small and 15.9 % large: the large ones give a tenth, the small ones get less.
    assert (small, large) == pytest.approx((0.5, 1 - NormalDist().cdf(1.0)))
    assert less == pytest.approx(0.3)
    assert more == pytest.approx(0.4 + 0.1 * large / 0.5)


def test_a_linear_budget_reaches_a_quarter_to_either_side() -> None:
    ratios = [ratio for _, ratio in AsymVLM(keep=0.5, budget="linear", slope=-50.0).ratios()]
    assert (ratios[0], ratios[-1]) == pytest.approx((0.75, 0.25))
    near = [ratio for _, ratio in AsymVLM(keep=0.9, budget="linear", slope=-50.0).ratios()]
    assert (max(near), min(near)) == pytest.approx((1.0, 0.8))
    with pytest.raises(InputError, match="slope"):
        AsymVLM(budget="linear", slope=0.1).ratios()


@pytest.mark.parametrize(
    ("retained", "kept"),
    # A quarter, half and three quarters of the way between the tables of 128 and of 192; between 192 and 576; below 64.
    [
        (144, (302, 132, 54)),
        (160, (301, 155, 73)),
        (176, (300, 177, 91)),
        (384, (438, 388, 343)),
        (32, (33, 15, 8)),
    ],
)
def test_sparsevlm_between_two_tables(retained: int, kept: tuple[int, int, int]) -> None:
    visual_tokens = visual("sparsevlm", retained / 576)
    present = 576
    for at, count in zip((3, 7, 16), kept, strict=True):
        dropped = present - count
        present = count + (3 * dropped // 10 + 1) // 10 + 1
        # Half a token may be rounded either way.
        assert abs(visual_tokens[at] - present) <= 1
        present = visual_tokens[at]


@pytest.mark.parametrize("retained", [64, 65, 100, 191, 577 // 2])
def test_visionzip_keeps_a_whole_number_exactly(retained: int) -> None:
    assert visual("visionzip", retained / 576) == [retained] * 32


def test_stages_of_pyramiddrop_are_quarters_of_any_depth() -> None:
    shallow = dataclasses.replace(MODEL.language_model, layer_pattern=(0,) * 27)
    model = dataclasses.replace(MODEL, language_model=shallow)
    steps = make_method("pyramiddrop", None, {"ratio": 0.5}).schedule(model).steps
    assert [step.layer for step in steps] == [6, 13, 20]


def windowed(layers: int = 24) -> VlmModel:
    """Every eighth block of the encoder attends to everything, the others within windows."""
    return dataclasses.replace(MODEL, vision_tower=tower(layers, windows=True))


@pytest.mark.parametrize(("back", "layer"), [(1, 23), (2, 15), (8, 15), (9, 15), (10, 7), (24, 0)])
def test_attention_is_read_where_a_block_sees_everything(back: int, layer: int) -> None:
    vision = windowed().vision_tower
    assert vision is not None
    assert attention_layer(vision, back) == layer
    plain = MODEL.vision_tower
    assert plain is not None
    assert attention_layer(plain, back) == 24 - back


def test_tokens_cannot_leave_single_out_of_windows() -> None:
    for name in ("tome", "folder", "flowcut"):
        with pytest.raises(UnsupportedError, match="within windows"):
            make_method(name).schedule(windowed())


def test_a_layer_needs_one_before_it() -> None:
    assert [check_layer(MODEL, "layer", layer) for layer in (1, 31)] == [1, 31]
    for layer in (0, 32, -1):
        with pytest.raises(InputError, match="from 1 to 31"):
            check_layer(MODEL, "layer", layer)


def test_an_image_is_several_crops_where_the_rule_makes_some() -> None:
    assert has_several_crops(CASES["crops"].model)
    assert not has_several_crops(MODEL)
    assert not has_several_crops(CASES["text_only"].model)


@pytest.mark.parametrize("keep", [-0.01, 1.01])
def test_shares_are_between_nothing_and_everything(keep: float) -> None:
    for name in ("fastv", "snapkv", "asymvlm"):
        with pytest.raises(InputError, match="keep"):
            make_method(name, keep)


@pytest.mark.parametrize(
    ("keep", "first", "final"),
    # 32 layers, the second half with a third: 1.5 keep N, then half of keep N; beyond 2/3 the first half keeps all.
    [(0.3, 259, 86), (0.65, 561, 187), (0.7, 576, 230), (0.9, 576, 460), (1.0, 576, 576)],
)
def test_vscan_keeps_its_mean(keep: float, first: int, final: int) -> None:
    visual_tokens = visual("vscan", keep)
    assert (set(visual_tokens[:16]), set(visual_tokens[16:])) == ({first}, {final})
