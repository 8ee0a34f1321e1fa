"""The small model against a second one that shares none of its code, and pruned runs against masked dense ones."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from asymsim_reference.cache import LayerCache
from asymsim_reference.description import describe
from asymsim_reference.flops import Meter
from asymsim_reference.layers import rotate
from asymsim_reference.methods.base import reference_method
from asymsim_reference.proof import SHAPES, TEXT_TOKENS, ProofCase
from asymsim_reference.run import Result, run
from oracles.dense_vlm import dense_logits
from oracles.method_proof import prompt_for, small_vlm

STEPS = 6


def ran(name: str, vlm: str = "cls", image_at: int = 3, **settings: object) -> tuple[Result, Tensor]:
    """A run, and the logits of the dense model with everything masked that the run dropped."""
    model = small_vlm(vlm)
    prompt = prompt_for(model, ProofCase(image_at=image_at))
    result = run(model, prompt, reference_method(name, **settings), STEPS)
    tokens = prompt.patches.shape[0] * model.shape.patches + TEXT_TOKENS
    everything = tokens + STEPS - 1

    def visible(layer: int) -> Tensor:
        present = torch.ones(everything, dtype=torch.bool)
        present[image_at : tokens - TEXT_TOKENS + image_at] = False
        present[result.visual_positions[layer]] = True
        # Each KV head's queries of the generated tokens see only what its cache still holds.
        heads = []
        for positions in result.caches[layer].positions:
            seen = present.repeat(everything, 1)
            held = torch.zeros(everything, dtype=torch.bool)
            held[positions] = True
            seen[tokens:] = held
            heads.append(seen)
        return torch.stack(heads).repeat_interleave(model.shape.group, 0)

    with torch.no_grad():
        return result, dense_logits(model, prompt, result.generated, visible)


@pytest.mark.parametrize("vlm", SHAPES)
@pytest.mark.parametrize("image_at", [0, 3, TEXT_TOKENS - 1])
def test_unpruned_run_is_the_dense_model(vlm: str, image_at: int) -> None:
    """Prefill, and every step from the cache, against one pass over all tokens."""
    model = small_vlm(vlm)
    prompt = prompt_for(model, ProofCase(image_at=image_at))
    result = run(model, prompt, reference_method("none"), STEPS)
    with torch.no_grad():
        expected = dense_logits(model, prompt, result.generated)
    torch.testing.assert_close(result.logits, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("fastv", {"keep": 0.3}),
        ("fastv", {"keep": 0.0, "layer": 1}),
        ("pyramiddrop", {}),
        ("dart", {"keep": 0.4}),
        ("asymvlm", {"keep": 0.3, "budget": "uniform"}),
        ("holov", {"keep": 0.3}),
        ("hired", {"keep": 0.3}),
        ("snapkv", {"keep": 0.4, "window": 5}),
        ("pyramidkv", {"keep": 0.4, "window": 5}),
        ("vl_cache", {"keep": 0.3}),
    ],
)
def test_pruned_run_is_the_masked_dense_model(name: str, settings: dict[str, object]) -> None:
    result, expected = ran(name, vlm="crops" if name == "hired" else "cls", **settings)
    torch.testing.assert_close(result.logits, expected, rtol=0, atol=1e-12)


def test_dropping_is_not_what_dense_attention_gives() -> None:
    """So that the test above has something to find."""
    result, _ = ran("fastv", keep=0.3)
    dense, _ = ran("none")
    assert (result.logits[0] - dense.logits[0]).abs().max() > 1e-3


def test_masking_equals_dropping() -> None:
    dropped, _ = ran("fastv", keep=0.4)
    masked, _ = ran("fastv", keep=0.4, masking=True)
    torch.testing.assert_close(dropped.logits, masked.logits, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["fastv", "h2o", "asymvlm"])
def test_next_position_is_never_the_retained_count(name: str) -> None:
    settings = {"threshold_tokens": 0, "retain": 0.5} if name == "asymvlm" else {}
    result, _ = ran(name, **settings)
    newest = SHAPES["cls"].patches + TEXT_TOKENS + STEPS - 2
    assert all(int(positions[-1]) <= newest for cache in result.caches for positions in cache.positions)
    assert max(int(positions[-1]) for positions in result.caches[0].positions) == newest or name == "asymvlm"


def test_streaming_positions_count_within_the_cache() -> None:
    keys = torch.randn(1, 5, 4, dtype=torch.float64)
    cache = LayerCache.of(keys, keys, torch.tensor([0, 1, 7, 8, 9]), torch.zeros(5, dtype=torch.bool))
    assert torch.equal(cache.rotated_keys(0), rotate(keys[0], cache.positions[0]))
    cache.relative = True
    assert torch.equal(cache.rotated_keys(0), rotate(keys[0], torch.arange(5)))
    assert cache.query_position(100) == 4


def test_streaming_is_dense_while_nothing_leaves() -> None:
    streaming, _ = ran("streamingllm", window=500)
    dense, _ = ran("none")
    torch.testing.assert_close(streaming.logits, dense.logits, rtol=0, atol=1e-12)


def test_rotation_depends_on_differences_alone() -> None:
    q, k = torch.randn(2, 1, 1, 16, dtype=torch.float64)
    near = rotate(q, torch.tensor([9])) @ rotate(k, torch.tensor([4])).mT
    far = rotate(q, torch.tensor([1009])) @ rotate(k, torch.tensor([1004])).mT
    torch.testing.assert_close(near, far, rtol=0, atol=1e-11)


@pytest.mark.parametrize("name", SHAPES)
def test_description_has_the_models_parameters(name: str) -> None:
    def elements(part: object) -> int:
        if isinstance(part, Tensor):
            return part.numel()
        if isinstance(part, tuple):
            return sum(elements(each) for each in part)
        return sum(elements(each) for each in vars(part).values())

    vlm = small_vlm(name)
    unused = 0 if vlm.shape.cls else vlm.weights.cls.numel()
    assert describe(vlm).parameters["total"] == elements(vlm.weights) - unused


def test_meter_charges_the_innermost_phase() -> None:
    a, b = torch.ones(3, 4), torch.ones(4, 5)
    with Meter() as meter:
        a @ b
        with meter.phase("outer"):
            a @ b
            with meter.phase("inner"):
                torch.ones(2, 3, 4) @ b
            a @ b
    assert meter.flops == {"": 120, "outer": 240, "inner": 240}
    with meter.phase("outer"):
        a @ b
    assert meter.flops["outer"] == 240
