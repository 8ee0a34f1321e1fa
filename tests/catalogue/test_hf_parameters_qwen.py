"""Adapters of the Qwen-VL, Llama, Phi and MiniCPM families against the framework's own classes."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Any

import pytest
from transformers import CONFIG_MAPPING

from asymsim.catalogue.hf.base import from_config
from asymsim.catalogue.model import VlmModel
from asymsim.util.errors import InputError
from oracles import framework, framework_hub, framework_qwen, framework_tiles

# Total parameters as the Hub shows them for the safetensors of each model.
PUBLISHED = {
    "qwen2-vl-2b": 2_208_985_600,
    "qwen2-vl-7b": 8_291_375_616,
    "qwen2.5-vl-3b": 3_754_622_976,
    "qwen2.5-vl-7b": 8_292_166_656,
    "qwen2.5-vl-32b": 33_452_718_336,
    "qwen2.5-vl-72b": 73_410_777_344,
    "qwen3-vl-2b": 2_127_532_032,
    "qwen3-vl-4b": 4_437_815_808,
    "qwen3-vl-8b": 8_767_123_696,
    "qwen3-vl-30b-a3b": 31_070_754_032,
    "llama-3.2-11b-vision": 10_670_220_835,
    "llama-4-scout-17b-16e": 108_641_793_536,
    "phi-3.5-vision": 4_146_621_440,
    "minicpm-v-2.6": 8_099_175_152,
}
# The Hub's file of this one holds its audio encoder and LoRA weights too.
NAMES = (*PUBLISHED, "llama-3.2-90b-vision", "phi-4-multimodal")
PARTS = {
    **dict.fromkeys(("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe"), framework_qwen.PARTS),
    **framework_tiles.PARTS,
}
BAD_VALUES = (0, -1, 1, 3, 7, 2.5, "many", True, [], [99], {}, {"a": 1}, None, 10**30, float("nan"))


def config(name: str) -> dict[str, Any]:
    """The catalogue's ``config.json`` of this name."""
    file = resources.files("asymsim.catalogue") / "data" / "models" / f"{name}.json"
    return dict(json.loads(file.read_text(encoding="utf-8")))


def class_parameters(values: Mapping[str, Any]) -> dict[str, int]:
    """Parameters by part of the framework's model."""
    if values["model_type"] in framework_hub.MODELS:
        return framework_hub.measure(values, geometry=None, text_tokens=1).parameters
    build = framework_tiles.build if values["model_type"] in framework_tiles.PARTS else framework.build
    return framework.parameters(build(values), PARTS[values["model_type"]])


@pytest.mark.parametrize("name", NAMES)
def test_parameters_by_part(name: str) -> None:
    values = config(name)
    assert from_config(name, values).parameters == class_parameters(values)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_totals(name: str) -> None:
    assert from_config(name, config(name)).parameters["total"] == PUBLISHED[name]


def test_phi4_language_model_is_phi4_mini() -> None:
    counts = from_config("phi", config("phi-4-multimodal")).parameters
    # microsoft/Phi-4-mini-instruct on the Hub.
    assert counts["embeddings"] + counts["language_model"] == 3_836_021_760


@pytest.mark.parametrize("name", [name for name in NAMES if config(name)["model_type"] in PARTS])
def test_entries_that_equal_the_class_defaults_may_be_left_out(name: str) -> None:
    values = config(name)
    parsed = CONFIG_MAPPING[values["model_type"]]()
    sparse = without_defaults(values, parsed)
    for part in ("text_config", "vision_config"):
        if part in values and getattr(parsed, part, None) is not None:
            sparse[part] = without_defaults(values[part], getattr(parsed, part))
    assert from_config(name, sparse) == from_config(name, values)


def without_defaults(values: Mapping[str, Any], defaults: Any) -> dict[str, Any]:
    """The entries that differ from what the class declares, which is not always what it derives (``head_dim``)."""
    declared = {key: getattr(type(defaults), key, "") for key in values}
    return {key: value for key, value in values.items() if key == "model_type" or declared[key] != value}


def spoilt(values: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The config with one entry at a time replaced by each bad value."""
    for part in (None, "text_config", "vision_config", "img_processor", "embd_layer", "slice_config"):
        for key in values if part is None else values.get(part, {}):
            for bad in BAD_VALUES:
                changed = copy.deepcopy(values)
                (changed if part is None else changed[part])[key] = bad
                yield changed


@pytest.mark.parametrize(
    "name", ["qwen2-vl-2b", "qwen2.5-vl-3b", "qwen3-vl-2b", "qwen3-vl-30b-a3b", *NAMES[10:14], NAMES[-1]]
)
def test_bad_values_name_their_field(name: str) -> None:
    """A value either makes a model whose counts can be asked for, or one clear error."""
    refused: list[str] = []
    for values in spoilt(config(name)):
        try:
            use(from_config(name, values))
        except InputError as error:
            refused.append(error.field)
    assert len(refused) > 100
    assert all(field.startswith(("config.json: ", "image_")) for field in refused)


def use(model: VlmModel) -> None:
    """Ask for all that a spoilt shape could break."""
    assert all(count >= 0 for count in model.parameters.values())
    assert model.image_rule is not None
    for size in ((1, 1), (300, 700), (2000, 2000)):
        assert model.image_rule.tokens(*size).visual_tokens >= 1
    assert model.image_rule.tokens_for(100).visual_tokens == 100


@pytest.mark.parametrize(
    ("name", "part", "changes", "message"),
    [
        ("qwen2-vl-7b", "vision_config", {"hidden_size": 1280}, "vision_config.hidden_size = 1280: must equal"),
        ("qwen2.5-vl-7b", "vision_config", {"window_size": 27}, "window_size = 27: must be at least one merged patch"),
        ("qwen2.5-vl-7b", "vision_config", {"num_heads": 17}, "num_heads = 17"),
        ("qwen3-vl-8b", "vision_config", {"deepstack_visual_indexes": [8, 27]}, "below depth = 27"),
        ("qwen3-vl-30b-a3b", "text_config", {"num_experts_per_tok": 129}, "num_experts_per_tok = 129"),
        ("llama-3.2-11b-vision", "text_config", {"cross_attention_layers": [40]}, "below num_hidden_layers = 40"),
        ("llama-3.2-11b-vision", "vision_config", {"vision_output_dim": 1280}, "= 7680"),
        ("llama-4-scout-17b-16e", "vision_config", {"pixel_shuffle_ratio": 0.3}, "pixel_shuffle_ratio = 0.3"),
        ("llama-4-scout-17b-16e", "text_config", {"no_rope_layers": [1, 0]}, "no_rope_layers"),
        ("phi-3.5-vision", "img_processor", {"name": "siglip"}, "img_processor.name = 'siglip'"),
        ("minicpm-v-2.6", None, {"version": 4.5}, "version = 4.5: only MiniCPM-V 2.6"),
    ],
)
def test_contradictions(name: str, part: str | None, changes: dict[str, Any], message: str) -> None:
    values = config(name)
    (values if part is None else values[part]).update(changes)
    with pytest.raises(InputError, match=message.replace(".", r"\.").replace("[", r"\[")):
        from_config(name, values)


def test_windowed_and_full_layers_of_qwen2_5_vl() -> None:
    tower = from_config("qwen", config("qwen2.5-vl-7b")).vision_tower
    assert tower is not None
    kinds = [tower.layer_kinds[kind] for kind in tower.layer_pattern]
    assert [index for index, kind in enumerate(kinds) if not kind.window_tokens] == [7, 15, 23, 31]
    assert {kind.window_tokens for kind in kinds} == {0, 64}


def test_layers_of_llama4() -> None:
    text = from_config("llama", config("llama-4-scout-17b-16e")).language_model
    kinds = [text.layer_kinds[kind] for kind in text.layer_pattern]
    assert [index for index, kind in enumerate(kinds) if not kind.chunk_tokens] == list(range(3, 48, 4))
    values = config("llama-4-scout-17b-16e")
    # meta-llama/Llama-4-Maverick-17B-128E: every second layer is dense.
    values["text_config"].update(num_local_experts=128, interleave_moe_layer_step=2)
    text = from_config("llama", values).language_model
    assert [bool(text.layer_kinds[kind].experts) for kind in text.layer_pattern] == [False, True] * 24


def test_num_crops_of_phi3_may_be_given() -> None:
    model = from_config("phi", {**config("phi-3.5-vision"), "num_crops": 16})
    assert model.image_rule is not None
    assert model.image_rule.tokens(336, 336).visual_tokens == 17 * 144 + 1 + 5 * 12
