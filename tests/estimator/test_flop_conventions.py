"""The literature's formulas against integers worked out by hand and against the framework's counts."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from asymsim import InputError, Scenario, estimate
from asymsim.catalogue.load import load_model
from asymsim.estimator.flop_conventions import (
    CONVENTIONS,
    Convention,
    convention,
    layer_flops,
    prefill_flops,
    retained_tokens,
)

LAYERS, HIDDEN, WIDTH = 32, 4096, 11008
FORMULAS = [name for name, each in CONVENTIONS.items() if each.formula]


def flops(convention: str, method: str = "none", **settings: object) -> int:
    chosen = {"model": "llava-1.5-7b", "visual_tokens": 576, "text_tokens": 118, "output_tokens": 1, **settings}
    return estimate(Scenario(convention=convention, method=method, **chosen)).flops.prefill  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["desap", "pyramiddrop"])
def test_llava_at_576_visual_tokens_is_382_tera(name: str) -> None:
    # 4 x 576 x 4096^2 = 38,654,705,664; 2 x 576^2 x 4096 = 2,717,908,992; 3 x 576 x 4096 x 11008 = 77,913,391,104.
    assert flops(name) == 32 * (38_654_705_664 + 2_717_908_992 + 77_913_391_104) == 3_817_152_184_320


def test_sparsevlm_counts_text_too() -> None:
    # n = 576 + 118 = 694: 46,573,551,616 + 3,945,562,112 + 93,874,814,976.
    assert flops("sparsevlm") == 32 * (46_573_551_616 + 3_945_562_112 + 93_874_814_976)


def test_fastv_is_a_mean_with_two_ffn_matrices() -> None:
    # n = 612: 41,070,624,768 + 3,068,264,448 + 2 x 612 x 4096 x 11008.
    assert flops("fastv", text_tokens=36) == 41_070_624_768 + 3_068_264_448 + 55_188_652_032


def test_visual_only_conventions_do_not_see_the_text() -> None:
    assert flops("desap", text_tokens=1) == flops("desap", text_tokens=900)
    assert flops("sparsevlm", text_tokens=1) < flops("sparsevlm", text_tokens=900)


def test_a_batch_costs_its_multiple() -> None:
    assert flops("sparsevlm", batch_size=7) == 7 * flops("sparsevlm")


def test_pruned_layers_add_up_one_by_one() -> None:
    # FastV, K = 3, half of 576: three layers of 576 and 29 of 288 visual tokens.
    def layer(n: int) -> int:
        return 4 * n * HIDDEN * HIDDEN + 2 * n * n * HIDDEN + 3 * n * HIDDEN * WIDTH

    pruned = flops("pyramiddrop", "fastv", keep=0.5, settings={"layer": 3})
    assert pruned == 3 * layer(576) + 29 * layer(288)


def test_each_switch_does_what_it_says() -> None:
    tokens = np.array([1, 17, 576, 2880])
    plain = Convention(source="test")
    count = layer_flops(plain, tokens, HIDDEN, WIDTH)
    fewer = layer_flops(replace(plain, ffn_terms=2), tokens, HIDDEN, WIDTH)
    square = layer_flops(replace(plain, attention_terms=4), tokens, HIDDEN, WIDTH)
    assert (count - fewer == tokens * HIDDEN * WIDTH).all()
    assert (square - count == 2 * tokens**2 * HIDDEN).all()
    assert (layer_flops(replace(plain, mac_flops=2), tokens, HIDDEN, WIDTH) == 2 * count).all()


def test_mean_text_and_sum() -> None:
    language_model = load_model("llava-1.5-7b").language_model
    visual, text = np.full(LAYERS, 576), np.full(LAYERS, 36)
    plain = Convention(source="test")
    total = prefill_flops(plain, language_model, visual, text)
    assert total == LAYERS * prefill_flops(replace(plain, layer_mean=True), language_model, visual, text)
    assert prefill_flops(replace(plain, text=False), language_model, visual, text) == prefill_flops(
        plain, language_model, visual, 0 * text
    )


def test_the_vision_tower_counts_where_a_convention_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CONVENTIONS, "with_tower", replace(CONVENTIONS["desap"], vision_tower=True))
    whole = estimate(
        Scenario(model="llava-1.5-7b", visual_tokens=576, text_tokens=1, output_tokens=1, convention="with_tower")
    ).flops
    assert whole.vision_tower > 0
    assert whole.projector > 0
    assert whole.total == whole.prefill + whole.vision_tower + whole.projector


def test_conventions_are_ordered() -> None:
    assert LAYERS * flops("fastv") < flops("asymvlm") == flops("sparsevlm") < flops("asymvlm_tables")
    assert flops("desap") < flops("sparsevlm")


@pytest.mark.parametrize("method", ["none", "fastv", "pyramiddrop", "sparsevlm"])
def test_exact_counts_no_more_than_the_framework(method: str) -> None:
    exact, torch = flops("exact", method), flops("torch", method)
    assert exact < torch
    # A causal mask leaves a little over half of the attention, which is a few percent of the whole.
    assert exact > 0.95 * torch


def test_two_flops_a_multiply_add_of_the_formula_is_the_framework_without_the_head() -> None:
    # FlopCounterMode counts both attention products over the square, 4 n^2 d, and the head at one position.
    head = 2 * HIDDEN * 32064
    assert flops("torch") - head == 2 * flops("sparsevlm")


@pytest.mark.parametrize("name", FORMULAS)
def test_more_tokens_never_cost_less(name: str) -> None:
    counts = [flops(name, visual_tokens=tokens) for tokens in (0, 1, 64, 575, 576, 2880)]
    assert all(low < high for low, high in pairwise(counts))


@pytest.mark.parametrize("name", FORMULAS)
def test_every_convention_says_where_it_comes_from(name: str) -> None:
    assert "arXiv" in CONVENTIONS[name].source or "inferred" in CONVENTIONS[name].source


def test_retained_tokens_are_those_that_leave() -> None:
    # SparseVLM's released code logs 192.03125 for its 192-token table: 300, 200 and 110 kept after layers 2, 6 and
    # 15, with 9, 4 and 3 recycled of the 276, 109 and 94 dropped.
    entering = [576] * 3 + [309] * 4 + [204] * 9 + [113] * 16
    assert retained_tokens(entering) == 192.03125
    assert retained_tokens([576] * 32) == 576
    assert retained_tokens([5]) == 5


def test_switches_change_a_convention_by_name() -> None:
    assert convention("sparsevlm:mac_flops=2").mac_flops == 2
    assert convention("sparsevlm:text=false,ffn_terms=2").text is False
    scenario = {"model": "llava-1.5-7b", "text_tokens": 118}
    once = estimate(Scenario(**scenario, convention="sparsevlm")).flops
    twice = estimate(Scenario(**scenario, convention="sparsevlm:mac_flops=2,vision_tower=true")).flops
    assert twice.prefill == 2 * once.prefill
    assert (once.vision_tower, twice.vision_tower) == (0, 381_918_216_192)


@pytest.mark.parametrize(
    "name", ["nothing", "sparsevlm:mac_flops=3", "sparsevlm:mac=2", "torch:mac_flops=2", "sparsevlm:text"]
)
def test_unknown_conventions_and_switches_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="convention"):
        convention(name)
