"""Operation counts under the convention "torch", to the integer, against ``FlopCounterMode``."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

import pytest

import asymsim
from asymsim.catalogue.hf.base import from_config
from oracles.framework import FrameworkCounts, measure, pruned_prefill

FOLDER = resources.files("asymsim.catalogue").joinpath("data/models")

VISION_MODELS = (
    *("llava-1.5-7b", "llava-1.5-13b", "llava-v1.6-vicuna-7b", "llava-v1.6-mistral-7b", "pixtral-12b"),
    *("llava-onevision-qwen2-0.5b-ov", "llava-onevision-qwen2-7b-ov", "internvl3-1b", "internvl3-2b", "internvl3-8b"),
    *("gemma-3-4b-it", "gemma-3-12b-it", "gemma-3-27b-it", "paligemma-3b-mix-224", "paligemma2-3b-pt-224"),
    *("smolvlm-256m", "smolvlm-500m", "smolvlm-2.2b", "idefics3-8b"),
)
TEXT_MODELS = (
    *("llama-3.1-8b", "mistral-7b-v0.3", "qwen2.5-7b", "qwen3-8b", "phi-3-mini-4k"),
    *("gemma-2-9b-it", "gemma-3-1b-it"),
)


def config_of(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(FOLDER.joinpath(f"{name}.json").read_text())
    return content


def assert_same(document: dict[str, Any], framework: FrameworkCounts) -> None:
    flops = document["flops"]
    assert document["parameters"] == framework.parameters
    assert flops["vision_tower"] == framework.vision_tower
    assert flops["projector"] == framework.projector
    assert flops["prefill"] == framework.prefill
    assert flops["decode_step_first"] == framework.decode_step_first
    assert document["kv_cache"]["prefill_bytes"] == framework.kv_cache_bytes


@pytest.mark.parametrize("size", [None, (333, 1111)], ids=["default", "333x1111"])
@pytest.mark.parametrize("name", VISION_MODELS)
def test_one_image(name: str, size: tuple[int, int] | None) -> None:
    rule = from_config(name, config_of(name)).image_rule
    assert rule is not None
    height, width = size or rule.default_size()
    scenario = asymsim.Scenario(
        model=name, image_height=height, image_width=width, text_tokens=77, output_tokens=2, convention="torch"
    )
    counts = measure(config_of(name), geometry=rule.tokens(height, width), text_tokens=77)
    assert_same(asymsim.estimate(scenario).to_dict(), counts)


@pytest.mark.parametrize("name", ["llava-1.5-7b", "llava-v1.6-mistral-7b", "gemma-3-4b-it", "internvl3-1b"])
def test_images_and_batch(name: str) -> None:
    rule = from_config(name, config_of(name)).image_rule
    assert rule is not None
    scenario = asymsim.Scenario(
        model=name,
        num_images=3,
        image_height=500,
        image_width=700,
        text_tokens=50,
        output_tokens=2,
        batch_size=2,
        convention="torch",
    )
    counts = measure(config_of(name), geometry=rule.tokens(500, 700), text_tokens=50, num_images=3, batch_size=2)
    assert_same(asymsim.estimate(scenario).to_dict(), counts)


@pytest.mark.parametrize("name", TEXT_MODELS)
@pytest.mark.parametrize("text_tokens", [1, 510, 511, 512, 513, 3000, 5000])
def test_text_alone(name: str, text_tokens: int) -> None:
    """Lengths on both sides of the windows of 512 (Gemma 3 1B), 2047 (Phi-3) and 4096 tokens (Gemma 2)."""
    scenario = asymsim.Scenario(model=name, text_tokens=text_tokens, output_tokens=2, convention="torch")
    counts = measure(config_of(name), geometry=None, text_tokens=text_tokens)
    assert_same(asymsim.estimate(scenario).to_dict(), counts)


@pytest.mark.parametrize("text_tokens", [766, 767, 768, 2000])
def test_gemma_3_window_of_1024_beside_an_image(text_tokens: int) -> None:
    rule = from_config("gemma", config_of("gemma-3-4b-it")).image_rule
    assert rule is not None
    scenario = asymsim.Scenario(
        model="gemma-3-4b-it", num_images=1, text_tokens=text_tokens, output_tokens=2, convention="torch"
    )
    counts = measure(config_of("gemma-3-4b-it"), geometry=rule.tokens(896, 896), text_tokens=text_tokens)
    assert_same(asymsim.estimate(scenario).to_dict(), counts)


def test_layers_run_one_by_one_are_the_layers_of_the_prefill() -> None:
    """The oracle for pruned runs agrees with the one for whole runs."""
    config = config_of("llava-1.5-7b")
    whole = measure(config, geometry=None, text_tokens=640)
    assert pruned_prefill(config, [640] * 32) == whole.prefill_by_layer
    pruned = pruned_prefill(config, [640] * 2 + [352] * 30)
    assert pruned[:2] == whole.prefill_by_layer[:2]
    # A layer on n tokens: 8 n h^2 + 4 n^2 h + 6 n h i with h = 4096, i = 11008.
    assert set(pruned[2:]) == {8 * 352 * 4096**2 + 4 * 352**2 * 4096 + 6 * 352 * 4096 * 11008}
