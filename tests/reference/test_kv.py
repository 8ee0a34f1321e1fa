"""Which cache entries the eviction methods hold, entry by entry."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from asymsim_reference.methods.base import reference_method
from asymsim_reference.proof import TEXT_TOKENS, ProofCase
from asymsim_reference.run import Result, run
from asymsim_reference.scores import step_weights
from oracles.method_proof import prompt_for, small_vlm

VLM = small_vlm("cls")
PROMPT = VLM.shape.patches + TEXT_TOKENS


def ran(name: str, steps: int = 6, **settings: object) -> Result:
    return run(VLM, prompt_for(VLM, ProofCase()), reference_method(name, **settings), steps)


def positions(result: Result) -> list[list[list[int]]]:
    """By layer and KV head."""
    return [[head.tolist() for head in cache.positions] for cache in result.caches]


@pytest.mark.parametrize(("keep", "recent_share"), [(0.2, 0.5), (0.5, 0.0), (0.3, 1.0)])
def test_h2o_holds_the_heaviest_of_the_prompt(keep: float, recent_share: float) -> None:
    """Layer 0 sees the same whatever is evicted: its sums, column by column, from a dense run."""
    prompt = prompt_for(VLM, ProofCase())
    with torch.no_grad():
        tokens = VLM.embed_patches(prompt.patches)
        for block in range(VLM.shape.tower_layers):
            tokens = tokens.with_hidden(tokens.hidden + VLM.encoder_attention(block, tokens).output)
            tokens = tokens.with_hidden(tokens.hidden + VLM.encoder_mlp(block, tokens.hidden))
        visual = VLM.all_visual(tokens)
        whole = VLM.prompt_tokens(prompt, VLM.project(visual.features), visual.index)
        weights = VLM.prefill_attention(0, whole, store=True).weights
    assert weights is not None
    budget = int(keep * PROMPT)
    recent = int(recent_share * budget)
    result = ran("h2o", steps=1, keep=keep, recent_share=recent_share)
    for head, held in enumerate(positions(result)[0]):
        sums = [
            sum(float(weights[query_head, i, j]) for query_head in range(3 * head, 3 * head + 3) for i in range(PROMPT))
            for j in range(PROMPT - recent)
        ]
        heavy = sorted(range(len(sums)), key=lambda j, sums=sums: -sums[j])[: budget - recent]
        assert held == sorted(heavy) + list(range(PROMPT - recent, PROMPT))


def test_h2o_keeps_the_recent_half_at_every_length() -> None:
    budget = int(0.2 * PROMPT)
    for steps in range(1, 8):
        for layer in positions(ran("h2o", steps=steps)):
            for held in layer:
                newest = PROMPT + steps - 2
                assert len(held) == budget
                assert held[-(budget // 2) :] == list(range(newest - budget // 2 + 1, newest + 1))


def test_heads_choose_for_themselves() -> None:
    for name in ("h2o", "snapkv", "vl_cache"):
        settings = {"keep": 0.3, "window": 4} if name == "snapkv" else {"keep": 0.3}
        assert any(layer[0] != layer[1] for layer in positions(ran(name, **settings)))


@pytest.mark.parametrize("steps", [1, 2, 30])
def test_streamingllm_sinks_and_window(steps: int) -> None:
    everything = list(range(PROMPT + steps - 1))
    held = positions(ran("streamingllm", steps=steps, window=20))
    assert held == [[everything[:4] + everything[-20:]] * 2] * 8
    assert positions(ran("streamingllm", steps=steps, window=200)) == [[everything] * 2] * 8


def test_snapkv_keeps_its_window_and_all_that_is_generated() -> None:
    for layer in positions(ran("snapkv", capacity=20, window=6)):
        for held in layer:
            assert len(held) == 20 + 5
            assert held[-11:] == list(range(PROMPT - 6, PROMPT + 5))


def test_snapkv_budget_below_its_window_keeps_the_latest() -> None:
    assert positions(ran("snapkv", steps=1, keep=0.05, window=30)) == [[list(range(PROMPT - 3, PROMPT))] * 2] * 8


def test_pyramidkv_thins_out_downwards() -> None:
    counts = [layer[0] for layer in ran("pyramidkv", keep=0.4, window=4).kv]
    assert all(above > below for above, below in pairwise(counts))


def test_duoattention_heads() -> None:
    gates = torch.tensor([[0.9, 0.1], [0.1, 0.9]] * 4)
    everything = list(range(PROMPT + 5))
    for layer, heads in enumerate(positions(ran("duoattention", sinks=3, recent=10, gates=gates))):
        assert heads[layer % 2] == everything
        assert heads[1 - layer % 2] == everything[:3] + everything[-10:]


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_nothing_or_everything_kept(share: float) -> None:
    for name in ("snapkv", "vl_cache", "h2o", "streamingllm", "pyramidkv"):
        # VL-Cache's densities would hand some layers more than they have, and cut that off.
        settings = {"layer_shares": (share,) * 8} if name == "vl_cache" else {"keep": share}
        result = ran(name, **settings)
        assert result.kv == [[int(share * PROMPT)] * 2] * 8
        assert torch.isfinite(result.logits).all()


def test_step_weights_are_those_of_the_whole_cache() -> None:
    """The own entry's logit is taken apart from the others', the softmax over all of them."""
    cache = ran("none").caches[3]
    queries = torch.randn(6, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    for head, weights in enumerate(step_weights(queries, cache)):
        logits = queries[3 * head : 3 * head + 3] @ cache.rotated_keys(head).T / 4
        torch.testing.assert_close(weights, torch.softmax(logits, 1), rtol=0, atol=1e-14)
