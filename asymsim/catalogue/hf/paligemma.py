"""PaliGemma and PaliGemma 2: SigLIP at one resolution, one projection, Gemma with a prefix mask."""

from __future__ import annotations

from asymsim.catalogue.hf.base import Fields, adapter
from asymsim.catalogue.hf.text import language_model
from asymsim.catalogue.hf.towers import patches_per_side, square, vision_fields, vision_tower
from asymsim.catalogue.images.fixed import FixedTile
from asymsim.catalogue.model import Linear, Projector, VlmModel

# Defaults of the class where a part is missing (transformers 5.23.0, configuration_paligemma.py).
VISION = {
    "hidden_size": 1152,
    "intermediate_size": 4096,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "image_size": 224,
    "patch_size": 14,
    "vision_use_head": False,
}
TEXT = {
    "hidden_size": 2048,
    "intermediate_size": 16384,
    "num_hidden_layers": 18,
    "num_attention_heads": 8,
    "num_key_value_heads": 1,
    "vocab_size": 257152,
}


@adapter("paligemma")
def paligemma(name: str, fields: Fields) -> VlmModel:
    """PaliGemma; tokens of the prompt, image and text, attend to the whole prompt."""
    fields = fields.with_defaults({"projection_dim": 2048, "tie_word_embeddings": True})
    vision = vision_fields(
        fields.part("vision_config", None if "vision_config" in fields else VISION), "siglip_vision_model"
    )
    tower = vision_tower(vision, "siglip_vision_model")
    text = language_model(
        fields.part("text_config", None if "text_config" in fields else TEXT),
        "gemma",
        tied=fields.flag("tie_word_embeddings"),
        mask="prefix",
    )
    projected = fields.integer("projection_dim")
    if projected != text.hidden_size:
        raise fields.error("projection_dim", f"must be the decoder's hidden_size = {text.hidden_size}")
    width = tower.layer_kinds[0].hidden_size
    return VlmModel(
        name=name,
        model_type="paligemma",
        vision_tower=tower,
        projector=Projector(linears=(Linear(inputs=width, outputs=projected, bias=True),)),
        language_model=text,
        image_rule=FixedTile(
            image_size=square(vision, "image_size"),
            patch_size=square(vision, "patch_size"),
            extra_tokens=tower.extra_tokens,
            visual_tokens=patches_per_side(vision) ** 2 + tower.extra_tokens,
        ),
    )
