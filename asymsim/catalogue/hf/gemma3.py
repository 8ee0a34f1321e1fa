"""Gemma 3: SigLIP at one resolution, average-pooled to 256 tokens, one projection."""

from __future__ import annotations

import math
from dataclasses import replace

from asymsim.catalogue.hf.base import Fields, adapter
from asymsim.catalogue.hf.text import language_model
from asymsim.catalogue.hf.towers import patches_per_side, square, vision_fields, vision_tower
from asymsim.catalogue.images.fixed import FixedTile
from asymsim.catalogue.model import Linear, Projector, VlmModel


@adapter("gemma3")
def gemma3(name: str, fields: Fields) -> VlmModel:
    """Gemma 3 without pan-and-scan, which its processor leaves off; the tokens of an image attend to one another."""
    fields = fields.with_defaults({"mm_tokens_per_image": 256, "tie_word_embeddings": True})
    vision = vision_fields(fields.part("vision_config"), "siglip_vision_model")
    tower = vision_tower(vision, "siglip_vision_model")
    text = language_model(
        fields.part("text_config"),
        "gemma3_text",
        tied=fields.flag("tie_word_embeddings"),
        mask="image_bidirectional",
    )
    side = patches_per_side(vision)
    pooled_side = math.isqrt(fields.integer("mm_tokens_per_image"))
    if pooled_side > side:
        raise fields.error("mm_tokens_per_image", f"must be at most the encoder's {side**2} patches")
    pooling = side // pooled_side
    width = tower.layer_kinds[0].hidden_size
    return VlmModel(
        name=name,
        model_type="gemma3",
        vision_tower=replace(tower, encoder_tokens_per_visual=pooling**2),
        projector=Projector(linears=(Linear(inputs=width, outputs=text.hidden_size),), other_parameters=width),
        language_model=text,
        image_rule=FixedTile(
            image_size=square(vision, "image_size"),
            patch_size=square(vision, "patch_size"),
            extra_tokens=tower.extra_tokens,
            visual_tokens=(side // pooling) ** 2,
        ),
    )
