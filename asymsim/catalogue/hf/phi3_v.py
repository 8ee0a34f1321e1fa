"""Phi-3-vision and Phi-3.5-vision: CLIP on crops, 2 x 2 patches merged, two linear layers, Phi-3-mini."""

from __future__ import annotations

from typing import Any

from asymsim.catalogue.hf.base import Fields, adapter
from asymsim.catalogue.hf.text import DECODERS, DEFAULTS
from asymsim.catalogue.hf.towers import vision_tower
from asymsim.catalogue.images.hd import Phi3Hd
from asymsim.catalogue.model import Linear, Projector, VlmModel

# CLIP_VIT_LARGE_PATCH14_336_CONFIG in the Hub's modeling_phi3_v.py: the file has only the tower's name.
CLIP_LARGE_336: dict[str, Any] = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "num_channels": 3,
    "image_size": 336,
    "patch_size": 14,
}
MERGE = 2
# The Phi-3.5-vision-instruct model card: 4 for several frames, 16 for one image; its processor's default is 4.
NUM_CROPS = 4


@adapter("phi3_v")
def phi3_v(name: str, fields: Fields) -> VlmModel:
    """Phi-3.5-vision, from the Hub's modeling code; ``transformers`` has no class of this type.

    An entry ``num_crops`` at the top of the file replaces the processor's default of 4 crops.
    """
    fields.part("img_processor").choice("name", ("clip_vision_model",), "clip_vision_model")
    layers = fields.part("embd_layer")
    layers.choice("projection_cls", ("mlp",), "mlp")
    layers.choice("hd_transform_order", ("sub_glb", "glb_sub"), "sub_glb")
    for key in ("use_hd_transform", "with_learnable_separator"):
        if not layers.flag(key, True):
            raise layers.error(key, "only the HD transform with learnt separators is supported")
    tower = vision_tower(Fields(CLIP_LARGE_336, path="vision_config"), "clip_vision_model")
    merged = CLIP_LARGE_336["hidden_size"] * MERGE**2
    text = DECODERS["phi3"](fields.with_defaults(DEFAULTS["phi3"]))
    return VlmModel(
        name=name,
        model_type="phi3_v",
        vision_tower=tower,
        projector=Projector(
            linears=(
                Linear(inputs=merged, outputs=text.hidden_size, bias=True),
                Linear(inputs=text.hidden_size, outputs=text.hidden_size, bias=True),
            ),
            # The learnt separator and newline tokens, in the projector's input width.
            other_parameters=2 * merged,
        ),
        language_model=text,
        image_rule=Phi3Hd(num_crops=fields.integer("num_crops", NUM_CROPS, maximum=1024)),
    )
