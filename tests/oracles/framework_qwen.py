"""What ``FlopCounterMode`` counts in the Qwen-VL models of ``transformers``, on the meta device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

from oracles.framework import FrameworkCounts, build, counted_layers, meta, parameters, prefill_and_decode

PARTS = (
    ("lm_head.", "lm_head"),
    ("model.visual.merger.", "projector"),
    ("model.visual.deepstack_merger_list.", "projector"),
    ("model.visual.", "vision_tower"),
    ("model.language_model.embed_tokens.", "embeddings"),
    ("model.language_model.", "language_model"),
)
# shortest_edge and longest_edge of each type's preprocessor_config.json on the Hub.
PIXELS = {
    "qwen2_vl": (3136, 12845056),
    "qwen2_5_vl": (3136, 12845056),
    "qwen3_vl": (65536, 16777216),
    "qwen3_vl_moe": (65536, 16777216),
}


def measure(
    config: Mapping[str, Any],
    *,
    image_size: tuple[int, int] | None,
    text_tokens: int,
    num_images: int = 1,
    batch_size: int = 1,
) -> FrameworkCounts:
    """All counts of one config for prompts of ``num_images`` images of this (height, width) and ``text_tokens``.

    The number of visual tokens is the framework's own, by ``smart_resize`` and the shape of the tower's output.
    """
    model = build(config)
    # The default kernel for experts is one grouped operation, which the counter does not know.
    model.set_experts_implementation("batched_mm")
    tower, projector, visual = 0, 0, 0
    if image_size is not None:
        tower, projector, rows = vision_flops(model, config["model_type"], image_size, num_images * batch_size)
        visual = rows // batch_size
    prefill, by_layer, decode, held = prefill_and_decode(model, visual + text_tokens, batch_size)
    return FrameworkCounts(
        parameters=parameters(model, PARTS),
        vision_tower=tower,
        projector=projector,
        prefill=prefill,
        prefill_by_layer=by_layer,
        decode_step_first=decode,
        kv_cache_bytes=held,
    )


def vision_flops(model: Any, model_type: str, image_size: tuple[int, int], images: int) -> tuple[int, int, int]:
    """FLOPs of tower and mergers, and rows at the last merger's output, for so many equal images."""
    visual = model.model.visual
    config = visual.config
    patch, (least, most) = config.patch_size, PIXELS[model_type]
    height, width = smart_resize(*image_size, patch * config.spatial_merge_size, least, most)
    # Real numbers, on the CPU: the encoder cuts its sequence into images and windows by them.
    grid = torch.tensor([[1, height // patch, width // patch]] * images)
    patches = int(grid.prod(-1).sum())
    pixels = meta(patches, config.in_channels * config.temporal_patch_size * patch**2)
    # Given, because the encoder would make them on the grid's device.
    positions: dict[str, Any] = {"position_ids": torch.empty(patches, 2, dtype=torch.long, device="meta")}
    if hasattr(visual, "pos_embed"):
        positions["interp_indices"] = torch.empty(patches, 4, dtype=torch.long, device="meta")
        positions["interp_weights"] = meta(patches, 4)
    mergers = [visual.merger, *getattr(visual, "deepstack_merger_list", [])]
    with torch.no_grad(), FlopCounterMode(display=False) as counter, counted_layers(mergers, counter) as merging:
        rows = visual(pixels, grid_thw=grid, **positions).pooler_output.shape[0]
    return int(counter.get_total_flops()) - sum(merging), sum(merging), rows
