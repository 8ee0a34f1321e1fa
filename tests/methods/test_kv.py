"""Cache budgets of the methods that prune after prefill or while decoding."""

from __future__ import annotations

import pytest

from asymsim.methods.base import make_method
from oracles.run_schedule import Run, run
from oracles.small_models import CASES, TEXT_TOKENS

CASE = CASES["cls"]
PROMPT = 1152 + TEXT_TOKENS
GENERATED = CASE.load.output_tokens - 1


def with_method(name: str, keep: float | None = None, case: str = "cls", **settings: object) -> Run:
    chosen = CASES[case]
    return run(make_method(name, keep, settings).schedule(chosen.model), chosen)


def test_streamingllm_window() -> None:
    result = with_method("streamingllm")
    assert result.kv == result.final_kv == [4 + 512] * 32
    assert with_method("streamingllm", window=100, sinks=0).kv == [100] * 32


def test_streamingllm_window_longer_than_the_prompt_fills_up_first() -> None:
    result = with_method("streamingllm", window=PROMPT + 50)
    assert result.kv == [PROMPT] * 32
    assert result.final_kv == [PROMPT + 54] * 32


def test_share_replaces_the_published_count() -> None:
    for name in ("streamingllm", "snapkv"):
        assert with_method(name, 0.25).kv == [PROMPT // 4] * 32


def test_h2o_holds_a_fifth_and_stores_all_weights() -> None:
    result = with_method("h2o")
    assert result.kv == result.final_kv == [PROMPT // 5] * 32
    prefill = [row for row in result.operators if row["phase"] == "prefill" and row["name"] == "attention"]
    assert {row["kind"] for row in prefill} == {"unfused_attention"}
    # Each layer's weights are read once for the column sums, at two bytes each, for both samples.
    weights = 2 * 4 * PROMPT**2
    reads = [row for row in result.selection if row["elementwise_flops"] == weights * row["count"]]
    assert sum(row["read_bytes"] for row in reads) == 32 * 2 * weights


def test_snapkv_capacity() -> None:
    result = with_method("snapkv")
    assert result.kv == [1024] * 32
    assert result.final_kv == [1024 + GENERATED] * 32
    assert with_method("snapkv", capacity=100).kv == [100] * 32
    assert with_method("snapkv", capacity=4096).kv == [PROMPT] * 32


def test_snapkv_scores_with_grouped_queries() -> None:
    result = with_method("snapkv", case="no_cls")
    tokens = 1458 + TEXT_TOKENS
    (product,) = result.products(2 * 32, tokens, 16)
    assert product["groups"] == 2 * 2
    assert product["flops"] == 28 * 2 * 4 * 32 * tokens * 16 * 2


@pytest.mark.parametrize("capacity", [128, 512, 777])
def test_pyramidkv_budgets(capacity: int) -> None:
    voted = capacity - 32
    lowest = voted // 20
    highest = 2 * voted - lowest
    fall = (highest - lowest) // 31
    expected = [min(PROMPT, highest - layer * fall + 32) for layer in range(32)]
    assert with_method("pyramidkv", capacity=capacity).kv == expected


@pytest.mark.parametrize("keep", [0.1, 0.3, 0.6, 0.9])
def test_pyramidkv_share_is_the_mean(keep: float) -> None:
    kept = with_method("pyramidkv", keep).kv
    assert kept == sorted(kept, reverse=True)
    assert sum(kept) / 32 / PROMPT == pytest.approx(keep, abs=1 / PROMPT)
    assert kept[0] == pytest.approx(min(1, 1.95 * keep) * PROMPT, abs=1)


def test_vl_cache_tenth_and_layer_shares() -> None:
    assert with_method("vl_cache").kv == [PROMPT // 10] * 32
    shares = [(layer + 1) / 40 for layer in range(32)]
    assert with_method("vl_cache", layer_shares=shares).kv == [PROMPT * (layer + 1) // 40 for layer in range(32)]
    assert len(with_method("vl_cache").products(TEXT_TOKENS, PROMPT, 16)) == 1


@pytest.mark.parametrize(("case", "full", "heads"), [("cls", 1, 4), ("no_cls", 1, 2)])
def test_duoattention_heads(case: str, full: int, heads: int) -> None:
    """A quarter of the heads with MHA, half with GQA; the figure is the mean over KV heads."""
    prompt = CASES[case].visual_tokens + TEXT_TOKENS
    result = with_method("duoattention", case=case)
    assert set(result.kv) == {(full * prompt + (heads - full) * 320) // heads}
    assert set(result.final_kv) == {(full * (prompt + GENERATED) + (heads - full) * 320) // heads}


def test_duoattention_share_of_heads() -> None:
    assert with_method("duoattention", 0.75).kv == with_method("duoattention", retrieval_heads=0.75).kv
    assert with_method("duoattention", 0.0).final_kv == [320] * 32


def test_prefill_is_dense() -> None:
    for name in ("streamingllm", "h2o", "snapkv", "pyramidkv", "vl_cache", "duoattention"):
        result = with_method(name)
        assert result.visual == [1152] * 32
        assert result.text == [TEXT_TOKENS] * 32
