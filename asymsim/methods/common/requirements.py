"""Requirements of methods: properties without which a method has no meaning on a model; and layers to read from.

A requirement raises ``UnsupportedError`` with the method's name if a model lacks the property.
"""

from __future__ import annotations

from asymsim.catalogue.model import VisionTower, VlmModel
from asymsim.methods.base import lm_layers, tower_of
from asymsim.util.errors import InputError, UnsupportedError


def vision_tower(model: VlmModel, name: str) -> None:
    """A vision tower."""
    if model.vision_tower is None:
        raise UnsupportedError("method", name, f"{model.name} has no vision tower, so no visual tokens to prune")


def separable_encoder_tokens(model: VlmModel, name: str) -> None:
    """A tower in which single tokens can leave between blocks: no windows, and no merge of neighbours afterwards."""
    vision_tower(model, name)
    tower = tower_of(model)
    if tower.encoder_tokens_per_visual > 1:
        raise UnsupportedError(
            "method",
            name,
            f"the encoder of {model.name} merges {tower.encoder_tokens_per_visual} neighbours, all needed",
        )
    if any(kind.window_tokens for kind in tower.layer_kinds):
        raise UnsupportedError("method", name, f"the encoder of {model.name} attends within windows of whole rows")
    if model.projector and model.projector.resampler:
        raise UnsupportedError("method", name, f"{model.name} resamples the encoder's tokens to a fixed number")


def visual_tokens_in_sequence(model: VlmModel, name: str) -> None:
    """A tower whose tokens stand in the language model's sequence, rather than behind cross-attention."""
    vision_tower(model, name)
    if not model.language_model.visual_in_sequence:
        raise UnsupportedError(
            "method", name, f"{model.name} sees visual tokens by cross-attention alone, none stand in its sequence"
        )


def scored_cache(model: VlmModel, name: str) -> None:
    """A cache of self-attention alone: the part that belongs to cross-attention is never scored."""
    if model.vision_tower is not None:
        visual_tokens_in_sequence(model, name)


def several_crops(model: VlmModel, name: str) -> None:
    """Large images encoded as several crops."""
    if not has_several_crops(model):
        raise UnsupportedError(
            "method", name, f"{model.name} encodes an image as one crop, so there is no budget to divide"
        )


def has_several_crops(model: VlmModel) -> bool:
    """Whether a large image becomes more than one encoder sequence."""
    rule = model.image_rule
    return rule is not None and rule.tokens(2048, 2048).sequences > 1


def attention_layer(tower: VisionTower, back: int) -> int:
    """The layer ``back`` from the end, or the nearest before it that attends to everything."""
    last = max(0, len(tower.layer_pattern) - back)
    for layer in range(last, -1, -1):
        if not tower.layer_kinds[tower.layer_pattern[layer]].window_tokens:
            return layer
    return last


def check_layer(model: VlmModel, field: str, layer: int) -> int:
    """A language-model layer that has one before it.

    Raises
    ------
    InputError
        If the model has no such layer.
    """
    if not 1 <= layer < lm_layers(model):
        raise InputError(field, layer, f"give a layer from 1 to {lm_layers(model) - 1}")
    return layer
