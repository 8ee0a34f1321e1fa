"""InternVL with the field names of its repository: the same model as "internvl"."""

from __future__ import annotations

from asymsim.catalogue.hf.base import Fields, adapter
from asymsim.catalogue.hf.internvl import internvl_model
from asymsim.catalogue.hf.text import language_model
from asymsim.catalogue.model import VlmModel

# Class defaults of InternVisionConfig in OpenGVLab/InternVL, configuration_intern_vit.py: InternViT-6B.
VISION = {
    "hidden_size": 3200,
    "intermediate_size": 12800,
    "num_hidden_layers": 48,
    "num_attention_heads": 25,
    "num_channels": 3,
    "image_size": 224,
    "patch_size": 14,
    "norm_type": "rms_norm",
    "qkv_bias": False,
    "qk_normalization": True,
}


@adapter("internvl_chat")
def internvl_chat(name: str, fields: Fields) -> VlmModel:
    """InternVL with ``llm_config``; bounds of the number of tiles are in the file, else 1 to 6."""
    vision = fields.part("vision_config").with_defaults(VISION)
    forced = {"image_size": fields.integer("force_image_size")} if "force_image_size" in fields else {}
    vision = vision.replace(
        attention_bias=vision.flag("qkv_bias"), use_qk_norm=vision.flag("qk_normalization"), **forced
    )
    text = language_model(fields.part("llm_config"), "qwen2")
    least, most = fields.integer("min_dynamic_patch", 1), fields.integer("max_dynamic_patch", 6, maximum=256)
    if least > most:
        raise fields.error("min_dynamic_patch", f"must be at most max_dynamic_patch = {most}")
    if not fields.flag("dynamic_image_size"):
        least = most = 1
    return internvl_model(
        name, fields, vision, text, min_tiles=least, max_tiles=most, thumbnail=fields.flag("use_thumbnail")
    )
