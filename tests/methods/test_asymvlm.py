"""AsymVLM: budgets over the gap distribution, text eviction, and what its scorer costs."""

from __future__ import annotations

import pytest
from scipy.stats import norm

from asymsim.methods.asymvlm import AsymVLM
from asymsim.util.errors import InputError
from oracles.run_schedule import run
from oracles.small_models import CASES, TEXT_TOKENS

CASE = CASES["cls"]
MODEL = CASE.model


def mean(settings: AsymVLM) -> float:
    return sum(share * ratio for share, ratio in settings.ratios())


@pytest.mark.parametrize("keep", [0.0, 0.03, 0.5, 0.65, 0.75, 0.98, 1.0])
@pytest.mark.parametrize("budget", ["uniform", "threshold", "linear"])
def test_budget_has_keep_as_its_mean(budget: str, keep: float) -> None:
    settings = AsymVLM(keep=keep, budget=budget)  # type: ignore[arg-type]
    shares, ratios = zip(*settings.ratios(), strict=True)
    assert sum(shares) == pytest.approx(1, abs=1e-12)
    assert min(ratios) >= 0
    assert max(ratios) <= 1
    assert mean(settings) == pytest.approx(keep, abs=1e-9)


def test_threshold_shares_follow_the_normal_distribution() -> None:
    settings = AsymVLM(keep=0.6, gap_low=0.2, gap_high=0.27)
    shares, ratios = zip(*settings.ratios(), strict=True)
    low, high = norm.cdf((0.2 - 0.218) / 0.047), norm.cdf((0.27 - 0.218) / 0.047)
    assert shares == pytest.approx((low, high - low, 1 - high))
    assert ratios[0] > ratios[1] > ratios[2]
    assert mean(settings) == pytest.approx(0.6)


def test_threshold_ratios_outright() -> None:
    settings = AsymVLM(conservative=0.9, moderate=0.6, aggressive=0.2)
    kept = [run(schedule, CASE).visual[0] for _, schedule in settings.mixture(MODEL)]
    assert kept == [int(ratio * 1152) for ratio in (0.9, 0.6, 0.2)]


def test_linear_classes_are_equally_probable_quantiles() -> None:
    settings = AsymVLM(keep=0.5, budget="linear", classes=4, slope=-1.0)
    gaps = norm.ppf([0.125, 0.375, 0.625, 0.875], 0.218, 0.047)
    assert [share for share, _ in settings.ratios()] == [0.25] * 4
    assert [ratio for _, ratio in settings.ratios()] == pytest.approx([0.5 - (gap - 0.218) for gap in gaps])


def test_linear_target_moves_against_one_sided_clamping() -> None:
    settings = AsymVLM(keep=0.5, budget="linear", slope=-20.0, lowest=0.45, highest=1.0)
    ratios = [ratio for _, ratio in settings.ratios()]
    assert min(ratios) == 0.45
    assert max(ratios) > 0.55
    assert mean(settings) == pytest.approx(0.5)


def test_pruning_precedes_the_first_layer_and_nothing_else() -> None:
    result = run(AsymVLM(keep=0.25).schedule(MODEL), CASE)
    assert result.visual == [288] * 32
    assert result.tower == [577] * 24
    projector = [row["m"] for row in result.operators if row["phase"] == "projector"]
    assert projector == [2 * 1152] * 2


def test_scorer_operators() -> None:
    result = run(AsymVLM(keep=0.25).schedule(MODEL), CASE)
    (product,) = [row for row in result.selection if row["kind"] == "gemm"]
    assert (product["m"], product["n"], product["k"], product["groups"]) == (1152, TEXT_TOKENS, 64, 2)
    assert product["flops"] == 2 * 2 * 1152 * TEXT_TOKENS * 64
    assert not any(row["phase"] == "decode_selection" for row in result.selection)
    assert not any(row["kind"] == "unfused_attention" for row in result.operators)


@pytest.mark.parametrize(("threshold", "retain"), [(90, 0.9), (90, 0.5), (512, 0.5), (0, 0.0)])
def test_text_eviction_counts(threshold: int, retain: float) -> None:
    settings = AsymVLM(keep=0.5, threshold_tokens=threshold, retain=retain)
    result = run(settings.schedule(MODEL), CASE)
    generated = CASE.load.output_tokens - 1
    free = min(generated, max(0, threshold - TEXT_TOKENS))
    left = free + int(retain * (generated - free))
    assert result.kv == [576 + TEXT_TOKENS] * 32
    assert result.final_kv == [576 + TEXT_TOKENS + left] * 32


def test_text_eviction_scores_the_last_layer_alone() -> None:
    result = run(AsymVLM(retain=0.5).schedule(MODEL), CASE)
    rows = [row for row in result.selection if row["phase"] == "decode_selection"]
    assert rows
    assert {row["layer"] for row in rows} == {31}
    assert {row["count"] for row in rows} == {CASE.load.output_tokens - 1}


def test_history_leaves_before_prefill() -> None:
    result = run(AsymVLM(keep=1.0, history_tokens=40, history_retain=0.75).schedule(MODEL), CASE)
    assert result.text == [TEXT_TOKENS - 10] * 32
    assert len(result.products(1152, 40, 64)) == 1


@pytest.mark.parametrize(
    "settings",
    [
        {"budget": "greedy"},
        {"moderate": 0.5},
        {"conservative": 0.2, "moderate": 0.5, "aggressive": 0.7},
        {"gap_low": 0.3, "gap_high": 0.2},
        {"gap_sd": 0.0},
        {"budget": "linear", "slope": 1.0},
        {"budget": "linear", "lowest": 0.6},
        {"budget": "linear", "classes": 0},
        {"retain": 1.5},
        {"threshold_tokens": -1},
    ],
)
def test_refused_settings(settings: dict[str, object]) -> None:
    from asymsim.methods.base import make_method

    with pytest.raises(InputError) as caught:
        make_method("asymvlm", 0.5, settings).mixture(MODEL)
    assert "asymvlm" in str(caught.value)
