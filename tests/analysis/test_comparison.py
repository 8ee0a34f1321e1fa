"""Methods at one budget: the budget is met as nearly as integers allow, or the row says why not."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

import asymsim
from asymsim import InputError, Scenario, UnknownNameError, compare, estimate, savings_curves
from asymsim.analysis.budget_search import _edge
from asymsim.analysis.comparison import vision_methods
from asymsim.methods.base import registered_methods

LLAVA = Scenario(model="llava-1.5-7b")
QWEN = Scenario(model="qwen2.5-vl-7b", image_height=700, image_width=900)


def by_method(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {row["method"]: row for row in rows}


@pytest.mark.parametrize("budget", [0.1, 1 / 3, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("scenario", [LLAVA, QWEN], ids=lambda each: each.model)
def test_the_budget_is_met_to_a_token_unless_the_row_says_otherwise(scenario: Scenario, budget: float) -> None:
    rows = compare(scenario, budget=budget)
    assert [row["method"] for row in rows] == ["none", *vision_methods()]
    total = rows[0]["mean_visual_tokens"]
    met = [row for row in rows[1:] if not row["note"]]
    assert len(met) >= 5
    for row in met:
        assert abs(row["mean_visual_tokens"] - budget * total) <= max(1, 0.005 * total), row
    for row in rows[1:]:
        assert row["note"] == "" or row["note"].startswith(("nearest: ", "not for this model: ")), row["note"]
        assert (row["keep"] is None) == (row["ttft_s"] is None) == row["note"].startswith("not for")


def test_no_other_keep_comes_nearer() -> None:
    row = by_method(compare(LLAVA, ["fastv"], budget=0.3))["fastv"]
    wanted = 0.3 * 576
    missed = abs(row["mean_visual_tokens"] - wanted)
    for step in range(0, 1001):
        other = estimate(dataclasses.replace(LLAVA, method="fastv", keep=step / 1000)).schedule.mean_visual_tokens
        assert abs(other - wanted) >= missed - 1e-9


def test_the_printed_keep_gives_the_row_again() -> None:
    for row in compare(LLAVA, budget=0.22)[1:]:
        if row["keep"] is None:
            continue
        again = estimate(dataclasses.replace(LLAVA, method=row["method"], keep=row["keep"]))
        assert again.latency.ttft_s.p50 == row["ttft_s"]
        assert again.savings.prefill_flops == row["prefill_flops_saved"]
        assert again.schedule.mean_visual_tokens == row["mean_visual_tokens"]
        assert f"{row['keep']:.4f}".rstrip("0").rstrip(".") == f"{row['keep']:.10g}"


def test_a_budget_out_of_reach_is_said() -> None:
    # FastV shows layers 0 and 1 of 32 everything.
    row = by_method(compare(LLAVA, ["fastv"], budget=0.03))["fastv"]
    assert row["note"] == "nearest: cannot go below 6.25 %"
    assert row["keep"] == 0
    assert row["kept_share"] == 2 / 32
    masked = by_method(compare(LLAVA, ["fastv"], budget=0.5, settings={"fastv.masking": True}))["fastv"]
    assert masked["note"] == "nearest: cannot go below 100 %"
    assert masked["prefill_flops_saved"] == 0


def test_a_method_that_refuses_small_keeps_ends_where_it_begins_to_accept() -> None:
    row = by_method(compare(LLAVA, ["pyramiddrop"], budget=0.1))["pyramiddrop"]
    assert row["note"] == "nearest: cannot go below 25 %"
    assert row["kept_share"] == pytest.approx(0.25)
    raw = by_method(compare(LLAVA, ["pyramiddrop"], budget=0.1, match="keep"))["pyramiddrop"]
    assert raw["keep"] is None
    assert raw["note"].startswith("not here: keep = 0.1")


def test_an_unsupported_method_is_a_row() -> None:
    row = by_method(compare(QWEN, ["tome", "fastv"]))["tome"]
    assert row["note"].startswith("not for this model: ")
    assert row["flops_saved"] is None


def test_match_keep_gives_each_method_the_same_keep() -> None:
    rows = by_method(compare(LLAVA, ["fastv", "visionzip"], budget=0.25, match="keep"))
    assert rows["fastv"]["keep"] == rows["visionzip"]["keep"] == 0.25
    assert rows["fastv"]["mean_visual_tokens"] == (2 * 576 + 30 * 144) / 32
    assert rows["visionzip"]["mean_visual_tokens"] < rows["fastv"]["mean_visual_tokens"]


def test_kv_methods_meet_the_budget_in_the_cache() -> None:
    names = [name for name, kind in registered_methods().items() if kind.family == "kv"]
    assert names
    dense = estimate(LLAVA).kv_cache.prefill_bytes
    for row in compare(LLAVA, names, budget=0.4)[1:]:
        kept = estimate(dataclasses.replace(LLAVA, method=row["method"], keep=row["keep"])).kv_cache.prefill_bytes
        assert row["note"].startswith("budget is the share of the cache after prefill")
        assert row["mean_visual_tokens"] == 576
        assert kept / dense == row["kept_share"]
        assert row["kept_share"] == pytest.approx(0.4, abs=0.005) or "nearest" in row["note"]


def test_two_methods_together() -> None:
    row = by_method(compare(LLAVA, ["fastv+snapkv", "fastv"], budget=0.5, settings={"snapkv.keep": 0.3}))
    assert row["fastv+snapkv"]["keep"] == row["fastv"]["keep"]
    assert row["fastv+snapkv"]["kv_saved"] > row["fastv"]["kv_saved"]


def test_selection_is_a_share_of_ttft() -> None:
    for row in compare(LLAVA, budget=0.2):
        if row["ttft_s"] is not None:
            assert 0 <= row["selection_share_of_ttft"] < 1
    assert compare(LLAVA)[0]["selection_share_of_ttft"] == 0


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"budget": 1.5}, "budget"),
        ({"budget": float("nan")}, "budget"),
        ({"match": "tokens"}, "match"),
        ({"methods": ["fastw"]}, "method"),
        ({"methods": ["fastv+fastw"]}, "method"),
        ({"settings": {"layer": 2}}, "settings"),
        ({"settings": {"tome.r": 2}, "methods": ["fastv"]}, "settings"),
        ({"settings": {"fastv.layer": 99}, "methods": ["fastv"]}, "fastv: layer"),
    ],
)
def test_wrong_arguments(change: dict[str, Any], field: str) -> None:
    with pytest.raises(InputError) as caught:
        compare(LLAVA, **change)
    assert caught.value.field == field


def test_nothing_to_prune() -> None:
    with pytest.raises(InputError, match="no visual tokens"):
        compare(dataclasses.replace(LLAVA, num_images=0))
    rows = by_method(compare(Scenario(model="qwen3-8b"), ["snapkv", "fastv"]))
    assert rows["snapkv"]["kv_saved"] > 0
    assert rows["fastv"]["note"] == "not for this load: it has no visual tokens"


def test_the_scenarios_own_method_plays_no_part() -> None:
    own = dataclasses.replace(LLAVA, method="fastv", keep=0.1, settings={"layer": 3})
    assert compare(own, ["visionzip"]) == compare(LLAVA, ["visionzip"])


def test_curves_hold_what_compare_finds() -> None:
    calls: list[tuple[int, int]] = []
    names, budgets = ["fastv", "tome", "snapkv"], (0.2, 0.6)
    models, gpus = ("llava-1.5-7b", "qwen2.5-vl-3b"), ("l4", "h100_sxm")
    rows = savings_curves(models, gpus, names, budgets, text_tokens=30, progress=lambda *at: calls.append(at))
    assert len(rows) == 2 * 2 * 3 * 2
    for model in models:
        for gpu in gpus:
            for budget in budgets:
                here = [row for row in rows if (row["model"], row["gpu"], row["budget"]) == (model, gpu, budget)]
                assert here == compare(Scenario(model=model, gpu=gpu, text_tokens=30), names, budget=budget)[1:]
    assert calls[0] == (0, 6)
    assert calls[-1] == (6, 6)
    assert calls == sorted(calls)


def test_a_wrong_name_stops_curves_before_any_work() -> None:
    calls: list[tuple[int, int]] = []
    with pytest.raises(UnknownNameError):
        savings_curves(["llava-1.5-7b", "nope"], progress=lambda *at: calls.append(at))
    assert calls == []


def test_savings_shrink_as_the_budget_grows() -> None:
    rows = savings_curves(["llava-1.5-7b"], methods=["visionzip"], budgets=[0.1, 0.3, 0.5, 0.7, 0.9])
    saved = [row["prefill_flops_saved"] for row in rows]
    assert saved == sorted(saved, reverse=True)
    kv = [row["kv_saved"] for row in rows]
    assert kv == sorted(kv, reverse=True)


@pytest.mark.parametrize("limit", [0, 1, 17, 99, 100])
def test_edge_is_the_first_allowed_step(limit: int) -> None:
    assert _edge(lambda step: step >= limit, 0, 100) == limit
    assert _edge(lambda step: step <= limit, 100, 0) == limit


def test_public_names() -> None:
    assert {"compare", "savings_curves"} <= set(asymsim.__all__)
