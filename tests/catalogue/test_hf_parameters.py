"""Parameter counts by part, against the class that ``transformers`` builds and against published totals."""

from __future__ import annotations

import copy
import json
from importlib import resources
from typing import Any

import pytest

from asymsim.catalogue.hf.base import from_config
from oracles.framework import build, parameters

FOLDER = resources.files("asymsim.catalogue").joinpath("data/models")
MODEL_TYPES = {
    *("llava", "llava_next", "llava_onevision", "internvl", "gemma3", "paligemma", "idefics3", "smolvlm"),
    *("llama", "mistral", "qwen2", "qwen3", "phi3", "gemma", "gemma2", "gemma3_text"),
}
CONFIGS = {path.name.removesuffix(".json"): json.loads(path.read_text()) for path in FOLDER.iterdir()}
NAMES = sorted(name for name, config in CONFIGS.items() if config["model_type"] in MODEL_TYPES)

# The "Model size" that the Hub reads from the safetensors files of each repository.
PUBLISHED = {
    "llava-1.5-7b": 7_063_427_072,
    "gemma-3-4b-it": 4_300_079_472,
    "gemma-3-12b-it": 12_187_325_040,
    "gemma-3-27b-it": 27_432_406_640,
    "gemma-3-1b-it": 999_885_952,
    "phi-3-mini-4k": 3_821_079_552,
    "llama-3.1-8b": 8_030_261_248,
    "llama-3.1-70b": 70_553_706_496,
    "qwen2.5-7b": 7_615_616_512,
    "qwen3-32b": 32_762_123_264,
    "smolvlm-256m": 256_484_928,
}

SHARED_VISION_KEYS = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "norm_type")

# Class defaults whose pooling does not fit the default tower: 14 x 14 and 7 x 7 patches.
NOT_RUNNABLE_BY_DEFAULT: dict[str, dict[str, Any]] = {
    "gemma3": {"mm_tokens_per_image": 49},
    "idefics3": {"scale_factor": 7},
    "smolvlm": {"scale_factor": 7},
}


def changed(name: str, changes: dict[str, Any]) -> dict[str, Any]:
    """A config of the catalogue with entries set; dots lead into its parts."""
    config = copy.deepcopy(CONFIGS[name])
    for path, value in changes.items():
        *parts, key = path.split(".")
        part = config
        for inner in parts:
            part = part[inner]
        part[key] = value
    return config


@pytest.mark.parametrize("name", NAMES)
def test_parameters_equal_the_framework_class(name: str) -> None:
    assert from_config(name, CONFIGS[name]).parameters == parameters(build(CONFIGS[name]))


@pytest.mark.parametrize(("name", "total"), PUBLISHED.items())
def test_published_totals(name: str, total: int) -> None:
    assert from_config(name, CONFIGS[name]).parameters["total"] == total


@pytest.mark.parametrize("model_type", sorted(MODEL_TYPES))
def test_class_defaults_alone(model_type: str) -> None:
    """The sparsest file: everything but the type comes from the class."""
    config: dict[str, Any] = {"model_type": model_type, **NOT_RUNNABLE_BY_DEFAULT.get(model_type, {})}
    assert from_config("bare", config).parameters == parameters(build(config))


VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("llama-3.1-8b", {"attention_bias": True, "mlp_bias": True}),
    ("llama-3.1-8b", {"num_key_value_heads": None, "head_dim": 64}),
    ("qwen2.5-7b", {"num_key_value_heads": None}),
    ("qwen3-8b", {"attention_bias": True, "tie_word_embeddings": True}),
    ("qwen2.5-7b", {"head_dim": 96}),
    ("gemma-3-1b-it", {"attention_bias": True, "tie_word_embeddings": False}),
    ("gemma-2-9b-it", {"attention_bias": True}),
    ("llava-1.5-7b", {"vision_feature_layer": [-2, -5, 3], "multimodal_projector_bias": False}),
    ("llava-1.5-7b", {"tie_word_embeddings": True}),
    ("llava-1.5-7b", {"text_config.tie_word_embeddings": True}),
    ("llava-1.5-7b", {"vision_config.num_channels": 4}),
    ("llava-1.5-7b", {"vision_config": {"model_type": "siglip_vision_model"}}),
    ("llava-v1.6-vicuna-7b", {"text_config.tie_word_embeddings": True}),
    ("llava-onevision-qwen2-0.5b-ov", {"vision_config.vision_use_head": True}),
    ("internvl3-1b", {"vision_config.norm_type": "rms_norm", "vision_config.use_qk_norm": True}),
    ("internvl3-1b", {"vision_config.attention_bias": False, "vision_config.use_mean_pooling": False}),
    ("internvl3-1b", {"vision_config.use_mask_token": True, "vision_config.use_absolute_position_embeddings": False}),
    ("internvl3-1b", {"tie_word_embeddings": True, "downsample_ratio": 0.25}),
    ("internvl3-1b", {"vision_config.image_size": 224, "vision_config.patch_size": 14}),
    ("gemma-3-4b-it", {"text_config.sliding_window_pattern": 3, "tie_word_embeddings": False}),
    ("smolvlm-256m", {"model_type": "smolvlm", "tie_word_embeddings": True}),
]


@pytest.mark.parametrize(("name", "changes"), VARIANTS, ids=[f"{name}-{'-'.join(c)}" for name, c in VARIANTS])
def test_every_switch_that_moves_parameters(name: str, changes: dict[str, Any]) -> None:
    config = changed(name, changes)
    counts = parameters(build(config))
    assert from_config(name, config).parameters == counts


def test_internvl_under_its_own_names_is_the_same_model() -> None:
    native = CONFIGS["internvl3-8b"]
    # The names of OpenGVLab/InternVL3-8B, whose values are those of the native file.
    vision = {key: native["vision_config"][key] for key in SHARED_VISION_KEYS}
    chat = {
        "model_type": "internvl_chat",
        "llm_config": native["text_config"],
        "vision_config": {**vision, "patch_size": 14, "qkv_bias": True, "qk_normalization": False},
        "force_image_size": 448,
        "downsample_ratio": 0.5,
        "dynamic_image_size": True,
        "use_thumbnail": True,
        "min_dynamic_patch": 1,
        "max_dynamic_patch": 12,
    }
    ours, theirs = from_config("chat", chat), from_config("native", native)
    assert ours.parameters == theirs.parameters
    assert ours.image_rule == theirs.image_rule


def sliding(name: str, changes: dict[str, Any]) -> list[int]:
    model = from_config(name, changed(name, changes)).language_model
    return [model.layer_kinds[kind].window_tokens for kind in model.layer_pattern]


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("gemma-3-1b-it", {}),
        ("gemma-3-1b-it", {"sliding_window_pattern": 4}),
        ("gemma-3-1b-it", {"layer_types": ["full_attention"] * 13 + ["sliding_attention"] * 13}),
        ("gemma-2-9b-it", {}),
        ("qwen2.5-7b", {}),
        ("qwen2.5-7b", {"use_sliding_window": True, "max_window_layers": 20, "sliding_window": 4096}),
        ("qwen3-8b", {"use_sliding_window": True, "sliding_window": 4096}),
        ("mistral-7b-v0.3", {}),
        ("mistral-7b-v0.3", {"sliding_window": 4096}),
        ("phi-3-mini-4k", {}),
    ],
)
def test_windows_are_those_of_the_framework(name: str, changes: dict[str, Any]) -> None:
    config = build(changed(name, changes)).config
    kinds = getattr(config, "layer_types", None) or ["sliding_attention"] * config.num_hidden_layers
    window = config.sliding_window or 0
    assert sliding(name, changes) == [window if kind == "sliding_attention" else 0 for kind in kinds]
