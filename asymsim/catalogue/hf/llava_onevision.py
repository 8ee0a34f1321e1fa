"""LLaVA-OneVision: AnyRes with up to 6 x 6 tiles, shrunk to the tokens of nine; SigLIP and Qwen2."""

from __future__ import annotations

import re

from asymsim.catalogue.hf.base import Fields, adapter
from asymsim.catalogue.hf.llava import dropped_tokens, llava_text
from asymsim.catalogue.hf.llava_next import anyres_model
from asymsim.catalogue.hf.towers import vision_fields, vision_tower
from asymsim.catalogue.model import VlmModel

# transformers 5.23.0, configuration_llava_onevision.py: every pair of these edges, and the class's tower where the
# file has no vision_config at all.
EDGES = (384, 768, 1152, 1536, 1920, 2304)
SIGLIP_SO400M = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 26,
    "num_attention_heads": 16,
    "image_size": 384,
    "patch_size": 14,
    "vision_use_head": False,
}


@adapter("llava_onevision")
def llava_onevision(name: str, fields: Fields) -> VlmModel:
    """LLaVA-OneVision; ``vision_aspect_ratio`` such as "anyres_max_9" bounds the grid's tokens."""
    fields = fields.with_defaults({"vision_feature_select_strategy": "full", "vision_aspect_ratio": "anyres_max_9"})
    part = fields.part("vision_config", None if "vision_config" in fields else SIGLIP_SO400M)
    vision = vision_fields(part, "siglip_vision_model")
    tower = vision_tower(vision, "siglip_vision_model")
    text = llava_text(fields, "qwen2")
    ratio = re.fullmatch(r"anyres_max_([1-9]\d{0,3})", str(fields.get("vision_aspect_ratio")))
    if ratio is None:
        raise fields.error("vision_aspect_ratio", "give 'anyres_max_' and the number of tiles, such as 'anyres_max_9'")
    grids = tuple((height, width) for height in EDGES for width in EDGES)
    return anyres_model(name, fields, tower, vision, text, dropped_tokens(fields), grids, max_tiles=int(ratio[1]))
