"""Qwen3-VL: one merger for the last layer, and one for each earlier layer whose features enter the language model."""

from __future__ import annotations

from typing import Any

from asymsim.catalogue.hf.base import Fields, adapter
from asymsim.catalogue.hf.decoder import decoder, decoder_layer, layer_count
from asymsim.catalogue.hf.qwen2_vl import check_output, encoder_shape, merger, patch_embedding
from asymsim.catalogue.hf.towers import vit_layer
from asymsim.catalogue.images.dynamic import DynamicResolution
from asymsim.catalogue.model import LanguageModel, Layer, Projector, VisionTower, VlmModel

# Class defaults of transformers 5.23.0, models/qwen3_vl/configuration_qwen3_vl.py.
TEXT_DEFAULTS: dict[str, Any] = {
    "vocab_size": 151936,
    "hidden_size": 4096,
    "intermediate_size": 22016,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "head_dim": 128,
    "max_position_embeddings": 128000,
}
VISION_DEFAULTS: dict[str, Any] = {
    "depth": 27,
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_heads": 16,
    "in_channels": 3,
    "patch_size": 16,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "out_hidden_size": 3584,
    "num_position_embeddings": 2304,
    "deepstack_visual_indexes": [8, 16, 24],
}
# preprocessor_config.json of Qwen/Qwen3-VL-*-Instruct: size = {shortest_edge: 65536, longest_edge: 16777216}.
MIN_PIXELS, MAX_PIXELS = 65536, 16777216


def qwen3_layer(text: Fields, **changes: Any) -> Layer:
    """A layer with a norm on each query and key head; biases only where the file sets them."""
    bias = text.flag("attention_bias")
    return decoder_layer(text, qkv_bias=bias, output_bias=bias, head_norm=True, **changes)


def qwen3_vl_model(name: str, model_type: str, fields: Fields, text: LanguageModel) -> VlmModel:
    """The model around a language model; the vision part of the dense and of the MoE models is the same.

    The projector has all mergers. The outputs of the deep-stack mergers are added to the hidden states after the first
    layers of the language model.
    """
    vision = fields.part("vision_config", VISION_DEFAULTS)
    width, heads, layers = encoder_shape(vision, "hidden_size")
    merge = vision.integer("spatial_merge_size")
    outputs = check_output(vision, "out_hidden_size", text)
    stacked = vision.integers("deepstack_visual_indexes")
    if len(set(stacked)) != len(stacked) or any(index >= layers for index in stacked):
        raise vision.error("deepstack_visual_indexes", f"give different layers below depth = {layers}")
    last = merger(width, merge**2, outputs, norm_parameters=2 * width)
    # A deep-stack merger's norm comes after the patches are concatenated, so it has their joint width.
    norms = last.other_parameters + len(stacked) * 2 * width * merge**2
    return VlmModel(
        name=name,
        model_type=model_type,
        vision_tower=VisionTower(
            layer_kinds=(vit_layer(width, vision.integer("intermediate_size"), heads),),
            layer_pattern=(0,) * layers,
            patch=patch_embedding(vision, width, bias=True),
            encoder_tokens_per_visual=merge**2,
            other_parameters=vision.integer("num_position_embeddings") * width,
        ),
        projector=Projector(linears=last.linears * (1 + len(stacked)), other_parameters=norms),
        language_model=text,
        image_rule=DynamicResolution(
            patch_size=vision.integer("patch_size"), merge_size=merge, min_pixels=MIN_PIXELS, max_pixels=MAX_PIXELS
        ),
    )


@adapter("qwen3_vl")
def qwen3_vl(name: str, fields: Fields) -> VlmModel:
    """Qwen3-VL with a dense language model."""
    text = fields.part("text_config", TEXT_DEFAULTS)
    tied = fields.flag("tie_word_embeddings")
    language = decoder(text, (qwen3_layer(text),), (0,) * layer_count(text), tied=tied)
    return qwen3_vl_model(name, "qwen3_vl", fields, language)
