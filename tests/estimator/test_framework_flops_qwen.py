"""Operation counts under the convention "torch", to the integer: Qwen-VL, Llama, Phi and MiniCPM."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

import pytest

import asymsim
from asymsim.catalogue.hf.base import from_config
from oracles import framework_hub, framework_qwen, framework_tiles
from oracles.framework import FrameworkCounts

FOLDER = resources.files("asymsim.catalogue").joinpath("data/models")
CASES = (
    ("qwen2-vl-2b", (448, 448)),
    ("qwen2-vl-7b", (333, 1000)),
    ("qwen2.5-vl-3b", (56, 56)),
    ("qwen2.5-vl-7b", (450, 700)),
    ("qwen2.5-vl-7b", (1024, 1024)),
    ("qwen2.5-vl-32b", (448, 448)),
    ("qwen2.5-vl-72b", (300, 901)),
    ("qwen3-vl-2b", (450, 700)),
    ("qwen3-vl-4b", (1, 150)),
    ("qwen3-vl-8b", (1000, 333)),
    ("qwen3-vl-30b-a3b", (448, 640)),
    ("llama-3.2-11b-vision", (560, 560)),
    ("llama-3.2-90b-vision", (100, 2000)),
    ("llama-4-scout-17b-16e", (300, 300)),
    ("llama-4-scout-17b-16e", (450, 700)),
    ("phi-4-multimodal", (448, 448)),
    ("phi-4-multimodal", (450, 700)),
    ("phi-3.5-vision", (672, 672)),
    ("minicpm-v-2.6", (448, 448)),
    ("minicpm-v-2.6", (700, 1500)),
)


def measure(name: str, size: tuple[int, int] | None, **load: int) -> FrameworkCounts:
    """The oracle of the model's type; Qwen-VL finds its own tokens, the others take the image rule's."""
    config: dict[str, Any] = json.loads(FOLDER.joinpath(f"{name}.json").read_text(encoding="utf-8"))
    if config["model_type"] in framework_qwen.PIXELS:
        return framework_qwen.measure(config, image_size=size, **load)
    rule = from_config(name, config).image_rule
    assert rule is not None
    oracle = framework_hub if config["model_type"] in framework_hub.MODELS else framework_tiles
    return oracle.measure(config, geometry=rule.tokens(*size) if size else None, **load)


def assert_same(scenario: asymsim.Scenario, framework: FrameworkCounts) -> None:
    document = asymsim.estimate(scenario).to_dict()
    flops = document["flops"]
    counts = (flops["vision_tower"], flops["projector"], flops["prefill"], flops["decode_step_first"])
    assert counts == (framework.vision_tower, framework.projector, framework.prefill, framework.decode_step_first)
    assert document["kv_cache"]["prefill_bytes"] == framework.kv_cache_bytes
    assert document["parameters"] == framework.parameters


@pytest.mark.parametrize(("name", "size"), CASES)
def test_one_image(name: str, size: tuple[int, int]) -> None:
    scenario = asymsim.Scenario(
        model=name, image_height=size[0], image_width=size[1], text_tokens=40, output_tokens=2, convention="torch"
    )
    assert_same(scenario, measure(name, size, text_tokens=40))


@pytest.mark.parametrize(("name", "size"), [("qwen2.5-vl-7b", (150, 260)), *CASES[9:12], *CASES[14:]])
def test_images_and_batch(name: str, size: tuple[int, int]) -> None:
    scenario = asymsim.Scenario(
        model=name,
        image_height=size[0],
        image_width=size[1],
        num_images=2,
        batch_size=3,
        text_tokens=7,
        output_tokens=2,
        convention="torch",
    )
    assert_same(scenario, measure(name, size, text_tokens=7, num_images=2, batch_size=3))


@pytest.mark.parametrize("name", ["qwen2.5-vl-7b", "qwen3-vl-30b-a3b", "llama-3.2-11b-vision", "llama-4-scout-17b-16e"])
def test_text_alone(name: str) -> None:
    scenario = asymsim.Scenario(model=name, num_images=0, text_tokens=50, output_tokens=2, convention="torch")
    assert_same(scenario, measure(name, None, text_tokens=50))


@pytest.mark.parametrize("text_tokens", [8190, 8191, 8192, 8193, 9000])
def test_llama4_beyond_a_chunk(text_tokens: int) -> None:
    """The framework keeps the last 8191 tokens of a chunked layer and decodes over them, whatever the chunk."""
    name = "llama-4-scout-17b-16e"
    scenario = asymsim.Scenario(model=name, num_images=0, text_tokens=text_tokens, output_tokens=2, convention="torch")
    assert_same(scenario, measure(name, None, text_tokens=text_tokens))
