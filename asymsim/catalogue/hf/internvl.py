"""InternVL: tiles in the closest aspect ratio, InternViT, pixel shuffle, a norm and two linear layers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from asymsim.catalogue.hf.base import Fields, adapter
from asymsim.catalogue.hf.llava import dropped_tokens, mlp_projector
from asymsim.catalogue.hf.text import language_model
from asymsim.catalogue.hf.towers import patches_per_side, square, vit
from asymsim.catalogue.images.tiling import AspectTiles
from asymsim.catalogue.model import LanguageModel, VisionTower, VlmModel

# Class defaults of transformers 5.23.0, configuration_internvl.py.
VISION = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "num_channels": 3,
    "image_size": 448,
    "patch_size": 14,
    "norm_type": "layer_norm",
}


def intern_vit(fields: Fields) -> VisionTower:
    """InternViT: a ViT with layer scale on both branches, and optional norms on queries and keys."""
    hidden = fields.integer("hidden_size")
    norm = hidden if fields.choice("norm_type", ("layer_norm", "rms_norm"), "layer_norm") == "rms_norm" else 2 * hidden
    positions = patches_per_side(fields) ** 2 + 1 if fields.flag("use_absolute_position_embeddings", True) else 0
    class_and_mask = 2 if fields.flag("use_mask_token") else 1
    # Mean pooling takes the place of a final LayerNorm.
    last_norm = 0 if fields.flag("use_mean_pooling", True) else 2 * hidden
    tower = vit(
        fields,
        patch_bias=True,
        extra_tokens=1,
        other_parameters=(positions + class_and_mask) * hidden + last_norm,
    )
    # Two norms and two layer scales, then the biases of the output projection and of the FFN.
    vectors = 2 * norm + 2 * hidden
    vectors += 2 * hidden + fields.integer("intermediate_size")
    vectors += 3 * hidden if fields.flag("attention_bias") else 0
    vectors += 2 * hidden if fields.flag("use_qk_norm") else 0
    return replace(tower, layer_kinds=(replace(tower.layer_kinds[0], vector_parameters=vectors),))


def shuffle_factor(fields: Fields, side: int) -> int:
    """Encoder tokens along an edge that pixel shuffle joins: 1 / ``downsample_ratio``."""
    ratio = fields.get("downsample_ratio", 0.5)
    numeric = isinstance(ratio, int | float) and not isinstance(ratio, bool)
    factor = round(1 / ratio) if numeric and 1 / side <= ratio <= 1 else 0
    if not factor or abs(factor * ratio - 1) > 1e-6:
        raise fields.error("downsample_ratio", "give 1 over a whole number, such as 0.5")
    if side % factor:
        raise fields.error("downsample_ratio", f"its inverse must divide the {side} patches along a tile's edge")
    return factor


def internvl_model(name: str, fields: Fields, vision: Fields, text: LanguageModel, **tiling: Any) -> VlmModel:
    """InternVL from its parts; ``fields`` is the top of the file, ``tiling`` replaces fields of the image rule."""
    tower, side = intern_vit(vision), patches_per_side(vision)
    factor = shuffle_factor(fields, side)
    inputs = tower.layer_kinds[0].hidden_size * factor**2
    return VlmModel(
        name=name,
        model_type=str(fields.get("model_type")),
        vision_tower=replace(tower, encoder_tokens_per_visual=factor**2),
        projector=mlp_projector(inputs, text.hidden_size, other_parameters=2 * inputs),
        language_model=text,
        image_rule=AspectTiles(
            tile_size=square(vision, "image_size"),
            patches_per_tile=side**2,
            extra_tokens=tower.extra_tokens,
            tile_tokens=(side // factor) ** 2,
            **tiling,
        ),
    )


@adapter("internvl")
def internvl(name: str, fields: Fields) -> VlmModel:
    """InternVL with the field names of ``transformers``."""
    fields = fields.with_defaults({"vision_feature_select_strategy": "default", "tie_word_embeddings": True})
    if not dropped_tokens(fields):
        raise fields.error("vision_feature_select_strategy", "give 'default': pixel shuffle needs a square of tokens")
    text = language_model(fields.part("text_config"), "qwen2", tied=fields.flag("tie_word_embeddings"))
    return internvl_model(name, fields, fields.part("vision_config").with_defaults(VISION), text)
