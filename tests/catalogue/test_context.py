"""The longest sequence that each model takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

import asymsim.catalogue.load
from asymsim.catalogue.hf.base import from_config
from asymsim.catalogue.load import load_model, model_names
from asymsim.util.errors import InputError

FOLDER = Path(asymsim.catalogue.load.__file__).parent / "data" / "models"
# From the model cards, beside what the file itself says.
PUBLISHED = {
    "gemma-3-4b-it": 131072,
    "gemma-3-1b-it": 32768,
    "llama-3.1-8b": 131072,
    "llama-4-scout-17b-16e": 10485760,
    "llava-1.5-7b": 4096,
    "phi-3.5-vision": 131072,
    "qwen3-vl-8b": 262144,
}
# Types of the Hub's own code.
NOT_IN_TRANSFORMERS = ("minicpmv", "phi3_v")


def config_of(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return content


def context(config: dict[str, Any]) -> int | None:
    return from_config("test", config).language_model.context_tokens


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_lengths(name: str) -> None:
    assert load_model(name).language_model.context_tokens == PUBLISHED[name]


@pytest.mark.parametrize("name", model_names())
def test_the_positions_are_those_of_the_framework(name: str) -> None:
    config = config_of(name)
    if config["model_type"] in NOT_IN_TRANSFORMERS:
        pytest.skip("not in transformers")
    text = CONFIG_MAPPING[config["model_type"]].from_dict(config).get_text_config()
    stretch = 2 if name.startswith("internvl3") else 1  # dynamic NTK, factor 2
    assert load_model(name).language_model.context_tokens == stretch * text.max_position_embeddings


@pytest.mark.parametrize(
    ("rope", "tokens"),
    [
        (None, 4096),
        ({"rope_type": "default"}, 4096),
        ({"type": "linear", "factor": 4}, 16384),
        ({"rope_type": "dynamic", "factor": 2.5}, 10240),
        ({"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 1024}, 8192),
        ({"rope_type": "yarn", "factor": 8.0}, 32768),
        ({"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 1024}, 4096),
        ({"type": "su", "factor": 8.0}, 4096),
        ({"type": "mrope", "mrope_section": [16, 24, 24]}, 4096),
    ],
)
@pytest.mark.parametrize("key", ["rope_scaling", "rope_parameters"])
def test_a_stretched_rope(key: str, rope: dict[str, Any] | None, tokens: int) -> None:
    assert context({"model_type": "llama", "max_position_embeddings": 4096, key: rope}) == tokens


def test_windows_bound_no_sequence() -> None:
    assert context({"model_type": "mistral", "max_position_embeddings": 9000, "sliding_window": 512}) == 9000


def test_a_missing_length_is_the_class_default_and_null_is_unknown() -> None:
    assert context({"model_type": "qwen2"}) == 32768
    assert context({"model_type": "qwen2", "max_position_embeddings": None}) is None


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("max_position_embeddings", 0),
        ("max_position_embeddings", "4096"),
        ("rope_scaling", 2),
        ("rope_scaling", {"type": "linear", "factor": "2"}),
        ("rope_scaling", {"type": "linear", "factor": float("nan")}),
        ("rope_scaling", {"type": "yarn", "original_max_position_embeddings": -1}),
    ],
)
def test_a_bad_entry_is_named(entry: str, value: Any) -> None:
    with pytest.raises(InputError, match=entry):
        context({"model_type": "llama", entry: value})
