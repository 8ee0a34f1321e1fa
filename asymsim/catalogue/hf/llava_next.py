"""LLaVA-NeXT (v1.6): tiles of the best resolution, newline tokens, LLaVA's projector."""

from __future__ import annotations

from asymsim.catalogue.hf.base import LARGEST_DIMENSION, Fields, adapter
from asymsim.catalogue.hf.llava import CLIP_LARGE_336, dropped_tokens, llava_projector
from asymsim.catalogue.hf.text import language_model
from asymsim.catalogue.hf.towers import patches_per_side, square, vision_fields, vision_tower
from asymsim.catalogue.images.anyres import AnyRes
from asymsim.catalogue.model import LanguageModel, VisionTower, VlmModel

# transformers 5.23.0, configuration_llava_next.py.
PINPOINTS = ((336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008))


def pinpoints(fields: Fields, tile: int, default: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
    """``image_grid_pinpoints``, checked: pairs (height, width) of whole tiles."""
    values = fields.get("image_grid_pinpoints", default)
    remedy = f"give pairs [height, width] of multiples of the tile's {tile} pixels"
    if not isinstance(values, list | tuple) or not values:
        raise fields.error("image_grid_pinpoints", remedy)
    for value in values:
        if not isinstance(value, list | tuple) or len(value) != 2:
            raise fields.error("image_grid_pinpoints", remedy)
        for edge in value:
            if type(edge) is not int or not tile <= edge <= LARGEST_DIMENSION or edge % tile:
                raise fields.error("image_grid_pinpoints", remedy)
    return tuple((value[0], value[1]) for value in values)


def anyres_model(
    name: str,
    fields: Fields,
    tower: VisionTower,
    vision: Fields,
    text: LanguageModel,
    dropped: int,
    default_pinpoints: tuple[tuple[int, int], ...],
    max_tiles: int = 0,
) -> VlmModel:
    """A model of the AnyRes family; its newline embedding is one vector of the decoder's width."""
    if dropped != tower.extra_tokens:
        right = "default" if tower.extra_tokens else "full"
        raise fields.error("vision_feature_select_strategy", f"give {right!r}: a tile's tokens must fill its grid")
    tile = square(vision, "image_size")
    return VlmModel(
        name=name,
        model_type=str(fields.get("model_type")),
        vision_tower=tower,
        projector=llava_projector(fields, tower, text, other_parameters=text.hidden_size),
        language_model=text,
        image_rule=AnyRes(
            tile_size=tile,
            patches_per_side=patches_per_side(vision),
            extra_tokens=tower.extra_tokens,
            pinpoints=pinpoints(fields, tile, default_pinpoints),
            max_tiles=max_tiles,
        ),
    )


@adapter("llava_next")
def llava_next(name: str, fields: Fields) -> VlmModel:
    """LLaVA-NeXT with a CLIP or SigLIP tower."""
    fields = fields.with_defaults({"vision_feature_select_strategy": "default"})
    part = fields.part("vision_config", None if "vision_config" in fields else CLIP_LARGE_336)
    vision = vision_fields(part, "clip_vision_model")
    tower = vision_tower(vision, "clip_vision_model")
    text = language_model(fields.part("text_config"), tied=fields.flag("tie_word_embeddings"))
    return anyres_model(name, fields, tower, vision, text, dropped_tokens(fields), PINPOINTS)
