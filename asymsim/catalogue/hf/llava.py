"""LLaVA-1.5 and similar models: one tile (CLIP, SigLIP) or dynamic resolution (Pixtral), and a two-layer projector."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from asymsim.catalogue.hf.base import Fields, adapter
from asymsim.catalogue.hf.text import language_model
from asymsim.catalogue.hf.towers import patches_per_side, square, vision_fields, vision_tower
from asymsim.catalogue.images.base import ImageRule
from asymsim.catalogue.images.fixed import FixedTile
from asymsim.catalogue.images.pixtral import LongestEdge
from asymsim.catalogue.model import LanguageModel, Linear, Projector, VisionTower, VlmModel

# Defaults of the class where the file has no vision_config at all (transformers 5.23.0, configuration_llava.py).
CLIP_LARGE_336: Mapping[str, Any] = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 336,
    "patch_size": 14,
}


def mlp_projector(inputs: int, outputs: int, bias: bool = True, other_parameters: int = 0) -> Projector:
    """Two linear layers with a GELU between them."""
    return Projector(
        linears=(Linear(inputs=inputs, outputs=outputs, bias=bias), Linear(inputs=outputs, outputs=outputs, bias=bias)),
        other_parameters=other_parameters,
    )


def llava_projector(fields: Fields, tower: VisionTower, text: LanguageModel, other_parameters: int = 0) -> Projector:
    """LLaVA's projector; the features of several encoder layers are concatenated."""
    layers = fields.get("vision_feature_layer", -1)
    count = len(layers) if isinstance(layers, list) else 1
    if not isinstance(layers, int | list) or isinstance(layers, bool) or not count:
        raise fields.error("vision_feature_layer", "give a layer's index or a list of these")
    bias = fields.flag("multimodal_projector_bias", True)
    return mlp_projector(count * tower.layer_kinds[0].hidden_size, text.hidden_size, bias, other_parameters)


def dropped_tokens(fields: Fields) -> int:
    """Encoder tokens that ``vision_feature_select_strategy`` drops before the projector: the first one, or none."""
    return 1 if fields.choice("vision_feature_select_strategy", ("default", "full"), "default") == "default" else 0


def llava_text(fields: Fields, default_type: str = "llama") -> LanguageModel:
    """The decoder; tied if either the top of the file or ``text_config`` says so."""
    tied = {"tied": True} if fields.flag("tie_word_embeddings") else {}
    return language_model(fields.part("text_config"), default_type, **tied)


@adapter("llava")
def llava(name: str, fields: Fields) -> VlmModel:
    """LLaVA; ``vision_feature_select_strategy`` "default" drops the encoder's first token ([CLS])."""
    fields = fields.with_defaults({"vision_feature_select_strategy": "default"})
    part = fields.part("vision_config", None if "vision_config" in fields else CLIP_LARGE_336)
    vision = vision_fields(part, "clip_vision_model")
    tower = vision_tower(vision, "clip_vision_model")
    text = llava_text(fields)
    dropped = dropped_tokens(fields)
    rule: ImageRule
    if vision.get("model_type") == "pixtral":
        if dropped:
            raise fields.error("vision_feature_select_strategy", "give 'full': this tower has no [CLS] to drop")
        patches_per_side(vision)
        rule = LongestEdge(longest_edge=square(vision, "image_size"), patch_size=square(vision, "patch_size"))
    else:
        tokens = patches_per_side(vision) ** 2 + tower.extra_tokens - dropped
        if not tokens:
            raise fields.error("vision_feature_select_strategy", "give 'full': a tile has one token alone")
        rule = FixedTile(
            image_size=square(vision, "image_size"),
            patch_size=square(vision, "patch_size"),
            extra_tokens=tower.extra_tokens,
            visual_tokens=tokens,
        )
    return VlmModel(
        name=name,
        model_type="llava",
        vision_tower=tower,
        projector=llava_projector(fields, tower, text),
        language_model=text,
        image_rule=rule,
    )
