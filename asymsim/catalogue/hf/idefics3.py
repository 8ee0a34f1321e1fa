"""Idefics 3 and SmolVLM: an image cut into tiles, pixel shuffle, one projection."""

from __future__ import annotations

from dataclasses import replace

from asymsim.catalogue.hf.base import Fields, adapter
from asymsim.catalogue.hf.text import language_model
from asymsim.catalogue.hf.towers import patches_per_side, siglip, square
from asymsim.catalogue.images.idefics import SplitTiles
from asymsim.catalogue.model import Linear, Projector, VlmModel

# Class defaults of transformers 5.23.0, configuration_idefics3.py and configuration_smolvlm.py.
VISION = {
    "hidden_size": 1152,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 16,
    "num_channels": 3,
    "image_size": 224,
    "patch_size": 32,
}

# The longest edge in tiles. It stands in preprocessor_config.json, not in config.json; all published models have
# four: 4 x 364 (Idefics3-8B), 4 x 384 (SmolVLM-2.2B), 4 x 512 (SmolVLM-256M and -500M).
TILES_ON_LONGEST_EDGE = 4


@adapter("idefics3", "smolvlm")
def idefics3(name: str, fields: Fields) -> VlmModel:
    """Idefics 3 or SmolVLM; ``scale_factor`` squared encoder tokens become one."""
    fields = fields.with_defaults({"scale_factor": 2})
    vision = fields.part("vision_config").with_defaults({**VISION, "vision_use_head": False})
    tower = siglip(vision)
    text = language_model(fields.part("text_config"), tied=fields.flag("tie_word_embeddings"))
    scale, side, tile = fields.integer("scale_factor"), patches_per_side(vision), square(vision, "image_size")
    if side % scale:
        raise fields.error("scale_factor", f"must divide the {side} patches along a tile's edge")
    width = tower.layer_kinds[0].hidden_size
    return VlmModel(
        name=name,
        model_type=str(fields.get("model_type")),
        vision_tower=replace(tower, encoder_tokens_per_visual=scale**2),
        projector=Projector(linears=(Linear(inputs=width * scale**2, outputs=text.hidden_size),)),
        language_model=text,
        image_rule=SplitTiles(
            tile_size=tile,
            longest_edge=TILES_ON_LONGEST_EDGE * tile,
            patches_per_tile=side**2,
            tile_tokens=(side // scale) ** 2,
        ),
    )
