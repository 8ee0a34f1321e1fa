"""Phi-4-multimodal: SigLIP on crops, 2 x 2 tokens pooled, two linear layers, Phi-4-mini."""

from __future__ import annotations

from typing import Any

from asymsim.catalogue.hf.base import Fields, adapter
from asymsim.catalogue.hf.decoder import MOST_LAYERS
from asymsim.catalogue.hf.text import DECODERS
from asymsim.catalogue.hf.towers import vit_layer
from asymsim.catalogue.images.hd import Phi4Hd
from asymsim.catalogue.model import Linear, Projector, VisionTower, VlmModel

# Class defaults of transformers 5.23.0, models/phi4_multimodal/configuration_phi4_multimodal.py; the published
# model differs from them in its heads (24) and in tying its embeddings.
TEXT_DEFAULTS: dict[str, Any] = {
    "vocab_size": 200064,
    "hidden_size": 3072,
    "intermediate_size": 8192,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
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
}


@adapter("phi4_multimodal", "phi4mm")
def phi4_multimodal(name: str, fields: Fields) -> VlmModel:
    """Phi-4-multimodal without its audio part ("phi4mm" is the type in the Hub's main branch).

    Not counted: the audio encoder, and the LoRA weights for vision and speech, which are adapters beside
    the ``transformers`` class and cost nothing once merged.
    """
    vision = fields.part("vision_config", VISION_DEFAULTS)
    width, heads = vision.integer("hidden_size"), vision.integer("num_attention_heads")
    if width % heads:
        raise vision.error("num_attention_heads", f"must divide hidden_size = {width}")
    intermediate = vision.integer("intermediate_size")
    size, patch = vision.integer("image_size"), vision.integer("patch_size")
    if vision.integer("crop_size") != size:
        raise vision.error("crop_size", f"must equal image_size = {size}")
    if patch > size or size % patch:
        raise vision.error("patch_size", f"must divide image_size = {size}")
    text = DECODERS["phi3"](fields.with_defaults(TEXT_DEFAULTS))
    layer = vit_layer(width, intermediate, heads)
    # The attention-pooling head has a layer's matrices, biases and one norm, and a learnt query.
    head = layer.parameters - 2 * width + width
    return VlmModel(
        name=name,
        model_type="phi4_multimodal",
        vision_tower=VisionTower(
            layer_kinds=(layer,),
            layer_pattern=(0,) * vision.integer("num_hidden_layers", maximum=MOST_LAYERS),
            patch=Linear(inputs=vision.integer("num_channels") * patch**2, outputs=width, bias=True),
            encoder_tokens_per_visual=4,
            other_parameters=(size // patch) ** 2 * width + 2 * width + head,
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
