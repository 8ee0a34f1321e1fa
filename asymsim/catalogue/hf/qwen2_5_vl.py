"""Qwen2.5-VL: an encoder that attends within windows, ragged at the edges, in all but a few layers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from asymsim.catalogue.hf.base import Fields, adapter
from asymsim.catalogue.hf.qwen2_vl import (
    MAX_PIXELS,
    MIN_PIXELS,
    check_output,
    encoder_shape,
    merger,
    patch_embedding,
    qwen_text,
)
from asymsim.catalogue.images.dynamic import DynamicResolution
from asymsim.catalogue.model import Layer, VisionTower, VlmModel

# Class defaults of transformers 5.23.0, models/qwen2_5_vl/configuration_qwen2_5_vl.py.
VISION_DEFAULTS: dict[str, Any] = {
    "depth": 32,
    "hidden_size": 3584,
    "intermediate_size": 3420,
    "num_heads": 16,
    "in_channels": 3,
    "patch_size": 14,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "window_size": 112,
    "out_hidden_size": 3584,
    "fullatt_block_indexes": [7, 15, 23, 31],
}


@adapter("qwen2_5_vl")
def qwen2_5_vl(name: str, fields: Fields) -> VlmModel:
    """Qwen2.5-VL; ``vision_config.hidden_size`` is the encoder's width, unlike in Qwen2-VL."""
    text = qwen_text(fields)
    vision = fields.part("vision_config", VISION_DEFAULTS)
    width, heads, layers = encoder_shape(vision, "hidden_size")
    patch, merge = vision.integer("patch_size"), vision.integer("spatial_merge_size")
    window = vision.integer("window_size")
    side = window // merge // patch
    if not side:
        raise vision.error("window_size", f"must be at least one merged patch, {patch * merge} pixels")
    full = _layer(width, vision.integer("intermediate_size"), heads)
    windowed = replace(full, name="windowed", window_tokens=(side * merge) ** 2)
    full_layers = set(vision.integers("fullatt_block_indexes"))
    return VlmModel(
        name=name,
        model_type="qwen2_5_vl",
        vision_tower=VisionTower(
            layer_kinds=(windowed, full),
            layer_pattern=tuple(int(index in full_layers) for index in range(layers)),
            patch=patch_embedding(vision, width),
            encoder_tokens_per_visual=merge**2,
        ),
        projector=merger(width, merge**2, check_output(vision, "out_hidden_size", text), norm_parameters=width),
        language_model=text,
        image_rule=DynamicResolution(
            patch_size=patch, merge_size=merge, min_pixels=MIN_PIXELS, max_pixels=MAX_PIXELS, window_size=window
        ),
    )


def _layer(width: int, intermediate: int, heads: int) -> Layer:
    """RMSNorms without bias, biased projections, a gated FFN with biases."""
    return Layer(
        hidden_size=width,
        heads=heads,
        kv_heads=heads,
        head_size=width // heads,
        intermediate_size=intermediate,
        vector_parameters=2 * width + 4 * width + 2 * intermediate + width,
    )
