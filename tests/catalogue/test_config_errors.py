"""Broken config.json files end in one InputError that names the field, never in a traceback."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from importlib import resources
from typing import Any

import pytest

from asymsim.catalogue.hf.base import from_config
from asymsim.catalogue.model import VlmModel
from asymsim.util.errors import InputError

FOLDER = resources.files("asymsim.catalogue").joinpath("data/models")
NAMES = (
    *("llava-1.5-7b", "llava-v1.6-mistral-7b", "llava-onevision-qwen2-0.5b-ov", "pixtral-12b", "internvl3-1b"),
    *("gemma-3-4b-it", "paligemma2-3b-pt-224", "smolvlm-256m", "gemma-2-9b-it", "qwen3-8b", "phi-3-mini-4k"),
)
BAD: tuple[Any, ...] = (None, -1, 0, 1, 3, 1.5, 10**30, True, False, "x", "", [], [0, 0], [3, 5], [[1]], {}, {"a": 1})


def config_of(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(FOLDER.joinpath(f"{name}.json").read_text())
    return content


def leaves(part: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in part.items():
        yield (*path, key)
        if isinstance(value, dict):
            yield from leaves(value, (*path, key))


def with_value(config: dict[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    config = copy.deepcopy(config)
    part = config
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    return config


def outcome(config: dict[str, Any]) -> VlmModel | InputError:
    """The model, or the one kind of error that a file may cause; all others escape and fail the test."""
    try:
        return from_config("mutated", config)
    except InputError as error:
        return error


def assert_sound(result: VlmModel | InputError) -> None:
    if isinstance(result, InputError):
        assert result.field.startswith("config.json: ")
        return
    assert all(count >= 0 for count in result.parameters.values())
    if result.image_rule is not None:
        assert result.image_rule.tokens(480, 640).visual_tokens > 0


@pytest.mark.parametrize("name", NAMES)
def test_any_single_bad_value_is_a_model_or_an_input_error(name: str) -> None:
    config = config_of(name)
    for path in leaves(config):
        for value in BAD:
            assert_sound(outcome(with_value(config, path, value)))


@pytest.mark.parametrize("name", NAMES)
def test_any_single_missing_key_is_a_model_or_an_input_error(name: str) -> None:
    config = config_of(name)
    for path in leaves(config):
        mutated = copy.deepcopy(config)
        part = mutated
        for key in path[:-1]:
            part = part[key]
        del part[path[-1]]
        assert_sound(outcome(mutated))


@pytest.mark.parametrize(
    ("name", "path", "value", "field"),
    [
        ("llava-1.5-7b", "model_type", "llavva", "model_type"),
        ("llava-1.5-7b", "text_config.model_type", "gpt2", "text_config.model_type"),
        ("llava-1.5-7b", "vision_config.model_type", "resnet", "vision_config.model_type"),
        ("llava-1.5-7b", "text_config.vocab_size", -3, "text_config.vocab_size"),
        ("llava-1.5-7b", "text_config.num_attention_heads", 33, "text_config.num_attention_heads"),
        ("llava-1.5-7b", "text_config.num_key_value_heads", 5, "text_config.num_key_value_heads"),
        ("llava-1.5-7b", "text_config.num_hidden_layers", 10**7, "text_config.num_hidden_layers"),
        ("llava-1.5-7b", "vision_config.num_attention_heads", 7, "vision_config.num_attention_heads"),
        ("llava-1.5-7b", "vision_config.patch_size", 0, "vision_config.patch_size"),
        ("llava-1.5-7b", "vision_config.patch_size", 400, "vision_config.patch_size"),
        ("llava-1.5-7b", "vision_config.image_size", [336, 224], "vision_config.image_size"),
        ("llava-1.5-7b", "vision_config", "clip", "vision_config"),
        ("llava-1.5-7b", "vision_feature_layer", [], "vision_feature_layer"),
        ("llava-1.5-7b", "vision_feature_select_strategy", "first", "vision_feature_select_strategy"),
        ("llava-1.5-7b", "tie_word_embeddings", "yes", "tie_word_embeddings"),
        ("pixtral-12b", "vision_feature_select_strategy", "default", "vision_feature_select_strategy"),
        ("llava-v1.6-vicuna-7b", "image_grid_pinpoints", [[336, 500]], "image_grid_pinpoints"),
        ("llava-v1.6-vicuna-7b", "image_grid_pinpoints", [336], "image_grid_pinpoints"),
        ("llava-v1.6-vicuna-7b", "vision_feature_select_strategy", "full", "vision_feature_select_strategy"),
        ("llava-onevision-qwen2-7b-ov", "vision_aspect_ratio", "anyres_max_0", "vision_aspect_ratio"),
        ("internvl3-1b", "downsample_ratio", 0.4, "downsample_ratio"),
        ("internvl3-1b", "downsample_ratio", 5e-324, "downsample_ratio"),
        ("internvl3-1b", "vision_config.patch_size", [14, 16], "vision_config.patch_size"),
        ("gemma-3-4b-it", "mm_tokens_per_image", 10**6, "mm_tokens_per_image"),
        ("gemma-3-4b-it", "text_config.layer_types", ["full_attention"], "text_config.layer_types"),
        ("gemma-3-4b-it", "text_config.layer_types", [[]] * 34, "text_config.layer_types"),
        ("gemma-2-9b-it", "use_bidirectional_attention", True, "use_bidirectional_attention"),
        ("paligemma2-3b-pt-224", "projection_dim", 2048, "projection_dim"),
        ("smolvlm-256m", "scale_factor", 3, "scale_factor"),
    ],
)
def test_the_error_names_the_field(name: str, path: str, value: Any, field: str) -> None:
    config = with_value(config_of(name), tuple(path.split(".")), value)
    with pytest.raises(InputError) as caught:
        from_config(name, config)
    assert caught.value.field == f"config.json: {field}"
    assert "\n" not in str(caught.value)
