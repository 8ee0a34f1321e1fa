"""Vision towers that several model types share: CLIP, SigLIP and Pixtral."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from asymsim.catalogue.hf.base import Fields
from asymsim.catalogue.hf.decoder import layer_count
from asymsim.catalogue.model import Layer, Linear, VisionTower

# Class defaults of transformers 5.23.0, models/*/configuration_*.py.
_SIGLIP_BASE: dict[str, Any] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_channels": 3,
    "image_size": 224,
    "patch_size": 16,
    "vision_use_head": True,
}
DEFAULTS: dict[str, dict[str, Any]] = {
    "clip_vision_model": {**_SIGLIP_BASE, "patch_size": 32},
    "siglip_vision_model": _SIGLIP_BASE,
    "pixtral": {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "num_channels": 3,
        "image_size": 1024,
        "patch_size": 16,
    },
}


def square(fields: Fields, key: str) -> int:
    """A size in pixels that the file gives as one number or as a pair of equal numbers."""
    value = fields.get(key)
    if not isinstance(value, list | tuple):
        return fields.integer(key)
    if len(value) != 2 or value[0] != value[1]:
        raise fields.error(key, "give one number, or a pair of equal ones")
    return Fields({key: value[0]}, None, fields.path).integer(key)


def patches_per_side(fields: Fields) -> int:
    """Patches along an edge of the square tile; pixels that fill no patch are dropped (384 / 14 is 27)."""
    image, patch = square(fields, "image_size"), square(fields, "patch_size")
    if patch > image:
        raise fields.error("patch_size", f"must be at most image_size = {image}")
    return image // patch


def head_size(fields: Fields) -> int:
    """``hidden_size`` over ``num_attention_heads``."""
    hidden, heads = fields.integer("hidden_size"), fields.integer("num_attention_heads")
    if hidden % heads:
        raise fields.error("num_attention_heads", f"must divide hidden_size = {hidden}")
    return hidden // heads


def vit_layer(hidden: int, intermediate: int, heads: int) -> Layer:
    """A ViT block: biased projections, two LayerNorms with bias, an FFN of two matrices."""
    return Layer(
        hidden_size=hidden,
        heads=heads,
        kv_heads=heads,
        head_size=hidden // heads,
        intermediate_size=intermediate,
        gated=False,
        vector_parameters=4 * hidden + intermediate + hidden + 4 * hidden,
    )


def vit(fields: Fields, *, patch_bias: bool, extra_tokens: int, other_parameters: int) -> VisionTower:
    """A stack of ViT blocks after a patch embedding."""
    hidden, heads = fields.integer("hidden_size"), fields.integer("num_attention_heads")
    head_size(fields)
    return VisionTower(
        layer_kinds=(vit_layer(hidden, fields.integer("intermediate_size"), heads),),
        layer_pattern=(0,) * layer_count(fields),
        patch=patch_embedding(fields, bias=patch_bias),
        extra_tokens=extra_tokens,
        other_parameters=other_parameters,
    )


def patch_embedding(fields: Fields, bias: bool) -> Linear:
    """The patch convolution, whose stride is its kernel size, as a matrix."""
    inputs = fields.integer("num_channels") * square(fields, "patch_size") ** 2
    return Linear(inputs=inputs, outputs=fields.integer("hidden_size"), bias=bias)


def clip(fields: Fields) -> VisionTower:
    """CLIP ViT: [CLS], learnt positions, pre- and post-norm, patch embedding without bias."""
    hidden = fields.integer("hidden_size")
    positions = (patches_per_side(fields) ** 2 + 1) * hidden
    norms = 4 * hidden
    return vit(fields, patch_bias=False, extra_tokens=1, other_parameters=hidden + positions + norms)


def siglip(fields: Fields) -> VisionTower:
    """SigLIP ViT: no [CLS], learnt positions, post-norm, patch embedding with bias.

    The pooling head (``vision_use_head``, on in the class, off in every published VLM) is counted as
    parameters; its operations, one query token an image, are not.
    """
    hidden, intermediate = fields.integer("hidden_size"), fields.integer("intermediate_size")
    positions = patches_per_side(fields) ** 2 * hidden
    attention = 4 * hidden * hidden + 4 * hidden
    ffn = 2 * hidden * intermediate + intermediate + hidden
    probe_and_norm = 3 * hidden
    head = probe_and_norm + attention + ffn if fields.flag("vision_use_head") else 0
    return vit(fields, patch_bias=True, extra_tokens=0, other_parameters=positions + 2 * hidden + head)


def pixtral(fields: Fields) -> VisionTower:
    """Pixtral ViT: any resolution by 2-D RoPE, RMSNorm, gated FFN, no biases, one norm before the stack."""
    hidden, heads = fields.integer("hidden_size"), fields.integer("num_attention_heads")
    layer = Layer(
        hidden_size=hidden,
        heads=heads,
        kv_heads=heads,
        head_size=head_size(fields),
        intermediate_size=fields.integer("intermediate_size"),
        vector_parameters=2 * hidden,
    )
    return VisionTower(
        layer_kinds=(layer,),
        layer_pattern=(0,) * layer_count(fields),
        patch=patch_embedding(fields, bias=False),
        other_parameters=hidden,
    )


TOWERS: dict[str, Callable[[Fields], VisionTower]] = {
    "clip_vision_model": clip,
    "siglip_vision_model": siglip,
    "pixtral": pixtral,
}


def vision_fields(fields: Fields, default_type: str) -> Fields:
    """The ``vision_config`` part, with its type and the class defaults of the type."""
    tower_type = fields.choice("model_type", tuple(TOWERS), default_type)
    return fields.with_defaults(DEFAULTS[tower_type]).replace(model_type=tower_type)


def vision_tower(fields: Fields, default_type: str) -> VisionTower:
    """The tower that a VLM's ``vision_config`` describes."""
    fields = vision_fields(fields, default_type)
    return TOWERS[str(fields.get("model_type"))](fields)
