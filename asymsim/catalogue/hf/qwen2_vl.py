"""Qwen2-VL, with the merger, dynamic resolution and text part that its successors share."""

from __future__ import annotations

from typing import Any

from asymsim.catalogue.hf.base import Fields, adapter
from asymsim.catalogue.hf.decoder import MOST_LAYERS
from asymsim.catalogue.hf.text import DECODERS
from asymsim.catalogue.hf.towers import vit_layer
from asymsim.catalogue.images.dynamic import DynamicResolution
from asymsim.catalogue.model import LanguageModel, Linear, Projector, VisionTower, VlmModel

# Class defaults of transformers 5.23.0, models/qwen2_vl and qwen2_5_vl: the text parts are the same.
TEXT_DEFAULTS: dict[str, Any] = {
    "vocab_size": 152064,
    "hidden_size": 8192,
    "intermediate_size": 29568,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "sliding_window": 4096,
    "max_window_layers": 80,
    "max_position_embeddings": 32768,
}
VISION_DEFAULTS: dict[str, Any] = {
    "depth": 32,
    "embed_dim": 1280,
    "hidden_size": 3584,
    "mlp_ratio": 4,
    "num_heads": 16,
    "in_channels": 3,
    "patch_size": 14,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
}
# preprocessor_config.json of Qwen/Qwen2-VL-*-Instruct and Qwen/Qwen2.5-VL-*-Instruct.
MIN_PIXELS, MAX_PIXELS = 3136, 12845056


def qwen_text(fields: Fields) -> LanguageModel:
    """The language model; files up to transformers 4.51 have its fields at the top, later ones in ``text_config``."""
    nested = fields.part("text_config")
    # The types inside are qwen2_vl_text and qwen2_5_vl_text; older files repeat the model's type.
    part = nested if "text_config" in fields else fields
    tied = fields.flag("tie_word_embeddings") or nested.flag("tie_word_embeddings")
    return DECODERS["qwen2"](part.with_defaults(TEXT_DEFAULTS), tied=tied)


def encoder_shape(vision: Fields, width_key: str) -> tuple[int, int, int]:
    """(width, heads, layers) of a Qwen vision encoder, checked."""
    width, heads = vision.integer(width_key), vision.integer("num_heads")
    # The rotary embedding splits a head into two axes of pairs.
    if width % (4 * heads):
        raise vision.error("num_heads", f"{width_key} = {width} must be a multiple of 4 x num_heads")
    return width, heads, vision.integer("depth", maximum=MOST_LAYERS)


def patch_embedding(vision: Fields, width: int, bias: bool = False) -> Linear:
    """A 3-D convolution over two copies of the image, one for each frame of its temporal patch."""
    area = vision.integer("patch_size") ** 2
    inputs = vision.integer("in_channels") * vision.integer("temporal_patch_size") * area
    return Linear(inputs=inputs, outputs=width, bias=bias)


def merger(width: int, merged: int, outputs: int, norm_parameters: int) -> Projector:
    """A norm, then two biased linear layers over ``merged`` neighbouring tokens, concatenated."""
    inner = width * merged
    return Projector(
        linears=(Linear(inputs=inner, outputs=inner, bias=True), Linear(inputs=inner, outputs=outputs, bias=True)),
        other_parameters=norm_parameters,
    )


def check_output(vision: Fields, key: str, text: LanguageModel) -> int:
    """The merger's output width, which must equal the language model's width."""
    outputs = vision.integer(key)
    if outputs != text.hidden_size:
        raise vision.error(key, f"must equal the language model's hidden_size = {text.hidden_size}")
    return outputs


@adapter("qwen2_vl")
def qwen2_vl(name: str, fields: Fields) -> VlmModel:
    """Qwen2-VL; its ``vision_config.hidden_size`` is the language model's width and ``embed_dim`` the encoder's."""
    text = qwen_text(fields)
    vision = fields.part("vision_config", VISION_DEFAULTS)
    width, heads, layers = encoder_shape(vision, "embed_dim")
    merge = vision.integer("spatial_merge_size")
    return VlmModel(
        name=name,
        model_type="qwen2_vl",
        vision_tower=VisionTower(
            layer_kinds=(vit_layer(width, width * vision.integer("mlp_ratio"), heads),),
            layer_pattern=(0,) * layers,
            patch=patch_embedding(vision, width),
            encoder_tokens_per_visual=merge**2,
        ),
        projector=merger(width, merge**2, check_output(vision, "hidden_size", text), norm_parameters=2 * width),
        language_model=text,
        image_rule=DynamicResolution(
            patch_size=vision.integer("patch_size"), merge_size=merge, min_pixels=MIN_PIXELS, max_pixels=MAX_PIXELS
        ),
    )
