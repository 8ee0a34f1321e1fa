"""Phi-4-multimodal: SigLIP on crops, 2 x 2 tokens pooled, two linear layers, Phi-4-mini."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from asymsim.catalogue.hf.base import Fields, adapter
from asymsim.catalogue.hf.text import DECODERS
from asymsim.catalogue.hf.towers import patches_per_side, siglip, square
from asymsim.catalogue.images.hd import Phi4Hd
from asymsim.catalogue.model import Linear, Projector, VlmModel

# Class defaults of transformers 5.23.0, models/phi4_multimodal/configuration_phi4_multimodal.py; the published
# model differs from them in its heads (24) and in tying its embeddings.
TEXT_DEFAULTS: dict[str, Any] = {
    "vocab_size": 200064,
    "hidden_size": 3072,
    "intermediate_size": 8192,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 131072,
}
VISION_DEFAULTS: dict[str, Any] = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "num_channels": 3,
    "image_size": 448,
    "patch_size": 14,
    "crop_size": 448,
    "vision_use_head": True,
}


@adapter("phi4_multimodal", "phi4mm")
def phi4_multimodal(name: str, fields: Fields) -> VlmModel:
    """Phi-4-multimodal without its audio part ("phi4mm" is the type in the Hub's main branch).

    Not counted: the audio encoder, and the LoRA weights for vision and speech, which are adapters beside
    the ``transformers`` class and cost nothing once merged.
    """
    vision = fields.part("vision_config", VISION_DEFAULTS)
    width, side = vision.integer("hidden_size"), patches_per_side(vision)
    size, patch = square(vision, "image_size"), square(vision, "patch_size")
    if vision.integer("crop_size") != size:
        raise vision.error("crop_size", f"must equal image_size = {size}")
    if size % patch:
        raise vision.error("patch_size", f"must divide image_size = {size}")
    text = DECODERS["phi3"](fields.with_defaults(TEXT_DEFAULTS))
    return VlmModel(
        name=name,
        model_type="phi4_multimodal",
        vision_tower=replace(
            siglip(vision),
            encoder_tokens_per_visual=4,
            framework_flops=_pooling_head_flops(width, vision.integer("intermediate_size"), side**2),
        ),
        projector=Projector(
            linears=(
                Linear(inputs=width, outputs=text.hidden_size, bias=True),
                Linear(inputs=text.hidden_size, outputs=text.hidden_size, bias=True),
            ),
            # The learnt separator and newline tokens, in the projector's input width.
            other_parameters=2 * width,
        ),
        language_model=text,
        image_rule=Phi4Hd(image_size=size, patch_size=patch),
    )


def _pooling_head_flops(width: int, intermediate: int, tokens: int) -> int:
    """One learnt query attends to a crop's tokens and passes an FFN; the class runs it and drops the result."""
    keys_values, query_output = 4 * tokens * width**2, 4 * width**2
    attention, ffn = 4 * tokens * width, 4 * width * intermediate
    return keys_values + query_output + attention + ffn
