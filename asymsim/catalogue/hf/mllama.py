"""Llama 3.2 Vision: a text decoder with gated cross-attention layers over the tokens of padded tiles."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from asymsim.catalogue.hf.base import Fields, adapter
from asymsim.catalogue.hf.decoder import MOST_LAYERS, decoder, decoder_layer, layer_count
from asymsim.catalogue.hf.towers import vit_layer
from asymsim.catalogue.images.mllama import PaddedTiles
from asymsim.catalogue.model import LanguageModel, Linear, Projector, VisionTower, VlmModel

# Class defaults of transformers 5.23.0, models/mllama/configuration_mllama.py.
TEXT_DEFAULTS: dict[str, Any] = {
    "vocab_size": 128256,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 40,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "cross_attention_layers": [3, 8, 13, 18, 23, 28, 33, 38],
    "max_position_embeddings": 131072,
}
VISION_DEFAULTS: dict[str, Any] = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_global_layers": 8,
    "attention_heads": 16,
    "num_channels": 3,
    "vision_output_dim": 7680,
    "image_size": 448,
    "patch_size": 14,
    "max_num_tiles": 4,
    "intermediate_layers_indices": [3, 7, 15, 23, 30],
    "supported_aspect_ratios": [[1, 1], [1, 2], [1, 3], [1, 4], [2, 1], [2, 2], [3, 1], [4, 1]],
}
# transformers 5.23.0, models/mllama/modeling_mllama.py: nn.Embedding(config.vocab_size + 8, ...), for <|image|>.
EXTRA_EMBEDDINGS = 8


@adapter("mllama")
def mllama(name: str, fields: Fields) -> VlmModel:
    """Llama 3.2 Vision; visual tokens are rows of the cross-attention cache, not of the sequence."""
    text = _language_model(fields.part("text_config", TEXT_DEFAULTS))
    vision = fields.part("vision_config", VISION_DEFAULTS)
    tiles, patch, size = vision.integer("max_num_tiles"), vision.integer("patch_size"), vision.integer("image_size")
    if patch > size:
        raise vision.error("patch_size", f"must be at most image_size = {size}")
    rule = PaddedTiles(image_size=size, patch_size=patch, tiles=tiles)
    width = vision.integer("hidden_size")
    features = vision.integers("intermediate_layers_indices")
    if any(index >= vision.integer("num_hidden_layers") for index in features):
        raise vision.error("intermediate_layers_indices", "give layers below num_hidden_layers")
    outputs = vision.integer("vision_output_dim")
    if outputs != width * (1 + len(features)):
        remedy = f"must be hidden_size x (1 + number of intermediate_layers_indices) = {width * (1 + len(features))}"
        raise vision.error("vision_output_dim", remedy)
    return VlmModel(
        name=name,
        model_type="mllama",
        vision_tower=_tower(vision, rule),
        projector=Projector(linears=(Linear(inputs=outputs, outputs=text.hidden_size, bias=True),)),
        language_model=text,
        image_rule=rule,
    )


def _language_model(text: Fields) -> LanguageModel:
    layers = layer_count(text)
    crossing = set(text.integers("cross_attention_layers"))
    if any(index >= layers for index in crossing):
        raise text.error("cross_attention_layers", f"give layers below num_hidden_layers = {layers}")
    self_attention = decoder_layer(text, name="self")
    # Cross-attention adds a norm on every query and key head and two tanh gates, one number each.
    gates = self_attention.vector_parameters + 2 * self_attention.head_size + 2
    cross_attention = replace(self_attention, name="cross", attention="cross", vector_parameters=gates)
    return decoder(
        text,
        (self_attention, cross_attention),
        tuple(int(index in crossing) for index in range(layers)),
        # The class has no tied weights, whatever the file says.
        tied=False,
        embedding_rows=text.integer("vocab_size") + EXTRA_EMBEDDINGS,
        visual_in_sequence=False,
    )


def _tower(vision: Fields, rule: PaddedTiles) -> VisionTower:
    """Local layers, then gated global ones, both over all tiles of an image at once."""
    width, heads = vision.integer("hidden_size"), vision.integer("attention_heads")
    if width % heads:
        raise vision.error("attention_heads", f"must divide hidden_size = {width}")
    intermediate = vision.integer("intermediate_size")
    biased = vit_layer(width, intermediate, heads)
    local = replace(biased, name="local", vector_parameters=biased.vector_parameters - 4 * width)
    gated = replace(local, name="global", vector_parameters=local.vector_parameters + 2)
    ratios = vision.get("supported_aspect_ratios")
    if not isinstance(ratios, list | tuple) or not ratios:
        raise vision.error("supported_aspect_ratios", "give a list of [columns, rows]")
    # One embedding row a ratio, and one for padding images; before and after the local layers, and by position.
    tile_tokens = rule.tile_patches + 1
    by_ratio = (len(ratios) + 1) * rule.tiles * width
    gates = 3
    other = width + tile_tokens * width + by_ratio * (2 + tile_tokens) + gates + 4 * width
    local_layers = vision.integer("num_hidden_layers", maximum=MOST_LAYERS)
    return VisionTower(
        layer_kinds=(local, gated),
        layer_pattern=(0,) * local_layers + (1,) * vision.integer("num_global_layers", minimum=0, maximum=MOST_LAYERS),
        patch=Linear(inputs=vision.integer("num_channels") * vision.integer("patch_size") ** 2, outputs=width),
        extra_tokens=rule.tiles * (rule.padded_tile_tokens - rule.tile_patches),
        other_parameters=other,
        # _prepare_aspect_ratio_attention_mask multiplies the padding indicator with its transpose.
        framework_flops=2 * (rule.tiles * rule.padded_tile_tokens) ** 2,
    )
