"""MiniCPM-V 2.6: SigLIP on slices, a resampler with a fixed number of queries, Qwen2."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from asymsim.catalogue.hf.base import Fields, adapter
from asymsim.catalogue.hf.text import DECODERS, DEFAULTS
from asymsim.catalogue.hf.towers import siglip
from asymsim.catalogue.images.slices import AdaptiveSlices
from asymsim.catalogue.model import Linear, Projector, Resampler, VisionTower, VlmModel

# openbmb/MiniCPM-V-2_6, configuration_minicpm.py (default_vision_config).
VISION_DEFAULTS: dict[str, Any] = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "num_channels": 3,
    "image_size": 980,
    "patch_size": 14,
    "vision_use_head": False,
}
# openbmb/MiniCPM-V-2_6, modeling_minicpmv.py: Resampler(num_heads=embed_dim // 128, ...).
RESAMPLER_HEAD_SIZE = 128


@adapter("minicpmv")
def minicpmv(name: str, fields: Fields) -> VlmModel:
    """MiniCPM-V 2.6, from the Hub's modeling code; other versions have other language models."""
    version = fields.get("version")
    if str(version) != "2.6":
        raise fields.error("version", "only MiniCPM-V 2.6 is supported")
    text = DECODERS["qwen2"](fields.with_defaults(DEFAULTS["qwen2"]))
    vision = fields.part("vision_config", VISION_DEFAULTS)
    slicing = fields.part("slice_config")
    queries = fields.integer("query_num", 64)
    patch = vision.integer("patch_size")
    return VlmModel(
        name=name,
        model_type="minicpmv",
        vision_tower=_tower(vision, fields.flag("drop_vision_last_layer")),
        projector=_resampler(vision.integer("hidden_size"), text.hidden_size, queries, fields),
        language_model=text,
        image_rule=AdaptiveSlices(
            slice_size=fields.integer("image_size", 448),
            patch_size=patch,
            most_slices=slicing.integer("max_slice_nums", 9, maximum=1024),
            queries=queries,
        ),
    )


def _tower(vision: Fields, drop_last: bool) -> VisionTower:
    """SigLIP so400m with positions for 980 pixels and a post-norm, without its pooling head."""
    tower = siglip(vision)
    return replace(tower, layer_pattern=tower.layer_pattern[:-1]) if drop_last else tower


def _resampler(width: int, hidden: int, queries: int, fields: Fields) -> Projector:
    """Cross-attention of learnt queries over a slice's tokens (resampler.py), with 2-D sine positions on the keys.

    The width change and the key and value projections run for each encoder token, the others for each query.
    """
    if hidden % RESAMPLER_HEAD_SIZE:
        raise fields.error("hidden_size", f"must be a multiple of {RESAMPLER_HEAD_SIZE}, the resampler's head size")
    query_output = Linear(inputs=hidden, outputs=hidden, bias=True)
    key_value = replace(query_output, rows="encoder")
    return Projector(
        linears=(
            Linear(inputs=width, outputs=hidden, rows="encoder"),
            query_output,
            key_value,
            key_value,
            query_output,
            Linear(inputs=hidden, outputs=hidden),
        ),
        resampler=Resampler(heads=hidden // RESAMPLER_HEAD_SIZE, head_size=RESAMPLER_HEAD_SIZE),
        # The queries, and norms of queries, keys and output.
        other_parameters=queries * hidden + 3 * 2 * hidden,
    )
