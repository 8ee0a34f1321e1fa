"""Pruned prefill of LLaVA-1.5-7B, layer by layer, against ``FlopCounterMode``."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

import pytest

import asymsim
from oracles.framework import pruned_prefill

CONFIG = resources.files("asymsim.catalogue").joinpath("data/models/llava-1.5-7b.json")
HEAD_FLOPS = 2 * 4096 * 32064
TEXT_TOKENS = 61


def flops_by_layer(operators: list[dict[str, Any]], layers: int) -> list[int]:
    """Spread each row of the prefill over the layers it stands for."""
    flops = [0] * layers
    for row in operators:
        if row["phase"] == "prefill" and row["name"] not in ("lm_head", "embedding"):
            for layer in range(row["layer"], row["layer"] + row["layers"]):
                flops[layer] += row["torch_flops"] // row["layers"]
    return flops


# Visual tokens by layer, written out from the papers: FastV keeps round(R N) after K layers, PyramidDrop
# halves at layers 8, 16 and 24, pruning before prefill leaves every layer the same.
CASES = [
    ("fastv", 0.5, {"layer": 2}, [576] * 2 + [288] * 30),
    ("fastv", 0.1, {"layer": 5}, [576] * 5 + [58] * 27),
    ("pyramiddrop", None, {"ratio": 0.5}, [576] * 8 + [288] * 8 + [144] * 8 + [72] * 8),
    ("asymvlm", 0.5, {"budget": "uniform"}, [288] * 32),
    ("asymvlm", 0.0, {"budget": "uniform"}, [0] * 32),
    ("visionzip", 64 / 576, {}, [64] * 32),
]


@pytest.mark.parametrize(("method", "keep", "settings", "visual"), CASES)
def test_pruned_prefill_layer_by_layer(
    method: str, keep: float | None, settings: dict[str, Any], visual: list[int]
) -> None:
    scenario = asymsim.Scenario(
        model="llava-1.5-7b", method=method, keep=keep, settings=settings, text_tokens=TEXT_TOKENS, convention="torch"
    )
    result = asymsim.estimate(scenario, operators=True)
    assert result.schedule.visual_tokens_by_layer == visual
    expected = pruned_prefill(json.loads(CONFIG.read_text()), [count + TEXT_TOKENS for count in visual])
    assert result.operators is not None
    assert flops_by_layer(result.operators, 32) == list(expected)
    assert result.flops.prefill == sum(expected) + HEAD_FLOPS
    # A layer's cache holds what entered it: 2 x 4096 elements of 2 bytes a token.
    assert result.kv_cache.prefill_bytes == sum(count + TEXT_TOKENS for count in visual) * 2 * 4096 * 2
