"""What ``FlopCounterMode`` counts in Llama 3.2 Vision, Llama 4 and Phi-4-multimodal, on the meta device."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    CONFIG_MAPPING,
    DynamicCache,
    Llama4ForConditionalGeneration,
    MllamaForConditionalGeneration,
    Phi4MultimodalForCausalLM,
)

from asymsim.catalogue.images.base import ImageTokens
from oracles.framework import (
    FrameworkCounts,
    cache_bytes,
    counted_layers,
    flops,
    meta,
    prefill_and_decode,
)
from oracles.framework import parameters as parameters_by_part

CLASSES = {
    "mllama": MllamaForConditionalGeneration,
    "llama4": Llama4ForConditionalGeneration,
    "phi4_multimodal": Phi4MultimodalForCausalLM,
}
PARTS = {
    "mllama": (
        ("lm_head.", "lm_head"),
        ("model.vision_model.", "vision_tower"),
        ("model.multi_modal_projector.", "projector"),
        ("model.language_model.embed_tokens.", "embeddings"),
        ("model.language_model.", "language_model"),
    ),
    "llama4": (
        ("language_model.lm_head.", "lm_head"),
        ("vision_model.vision_adapter.", "projector"),
        ("vision_model.", "vision_tower"),
        ("multi_modal_projector.", "projector"),
        ("language_model.model.embed_tokens.", "embeddings"),
        ("language_model.model.", "language_model"),
    ),
    "phi4_multimodal": (
        ("lm_head.", "lm_head"),
        ("model.embed_tokens_extend.image_embed.img_processor.", "vision_tower"),
        ("model.embed_tokens_extend.image_embed.", "projector"),
        ("model.embed_tokens.", "embeddings"),
        ("model.layers.", "language_model"),
        ("model.norm.", "language_model"),
    ),
}


def build(config: Mapping[str, Any]) -> Any:
    """The framework's model without storage, in bf16; Phi-4-multimodal without its audio encoder."""
    config = copy.deepcopy(dict(config))
    for part in (config, config.get("text_config") or {}):
        # Scaled RoPE reads the positions' largest value, which meta tensors lack; it multiplies no matrices.
        part.pop("rope_scaling", None)
    parsed = CONFIG_MAPPING[config["model_type"]].from_dict(config)
    with torch.device("meta"):
        model = CLASSES[config["model_type"]]._from_config(parsed, dtype=torch.bfloat16).eval()
    if config["model_type"] == "phi4_multimodal":
        del model.model.embed_tokens_extend.audio_embed
    return model


def measure(
    config: Mapping[str, Any],
    *,
    geometry: ImageTokens | None,
    text_tokens: int,
    num_images: int = 1,
    batch_size: int = 1,
) -> FrameworkCounts:
    """All counts of one config for prompts of ``num_images`` images of this geometry and ``text_tokens``."""
    model = build(config)
    tower, projector = 0, 0
    if geometry is not None:
        tower, projector = VISION[config["model_type"]](model, geometry, num_images * batch_size)
    if config["model_type"] == "mllama":
        images = num_images if geometry is not None else 0
        language = crossing_prefill_and_decode(model, text_tokens, images, batch_size)
    else:
        visual = num_images * geometry.visual_tokens if geometry is not None else 0
        inner = model.language_model if config["model_type"] == "llama4" else model
        language = prefill_and_decode(inner, visual + text_tokens, batch_size)
    prefill, by_layer, decode, held = language
    return FrameworkCounts(
        parameters=parameters_by_part(model, PARTS[config["model_type"]]),
        vision_tower=tower,
        projector=projector,
        prefill=prefill,
        prefill_by_layer=by_layer,
        decode_step_first=decode,
        kv_cache_bytes=held,
    )


def mllama_vision(model: Any, geometry: ImageTokens, images: int) -> tuple[int, int]:
    """All tiles of an image pass as one sequence, then each through the projector without its padding."""
    vision, config = model.model.vision_model, model.config.vision_config
    tiles, size = config.max_num_tiles, config.image_size
    ratios = torch.ones(images, 1, dtype=torch.long, device="meta")
    mask = torch.ones(images, 1, tiles, dtype=torch.long, device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        states = vision(
            meta(images, 1, tiles, 3, size, size), aspect_ratio_ids=ratios, aspect_ratio_mask=mask
        ).last_hidden_state
    return int(counter.get_total_flops()), flops(lambda: model.model.multi_modal_projector(states))


def llama4_vision(model: Any, geometry: ImageTokens, images: int) -> tuple[int, int]:
    """Each tile is a sequence; the pixel-shuffle MLP inside the vision model counts to the projector."""
    vision, size = model.vision_model, model.config.vision_config.image_size
    tiles = meta(images * geometry.sequences, 3, size, size)
    adapter = [vision.vision_adapter]
    with torch.no_grad(), FlopCounterMode(display=False) as counter, counted_layers(adapter, counter) as adapting:
        features = vision(tiles).last_hidden_state
    projected = flops(lambda: model.multi_modal_projector(features.flatten(0, 1)))
    return int(counter.get_total_flops()) - sum(adapting), sum(adapting) + projected


def phi4_vision(model: Any, geometry: ImageTokens, images: int) -> tuple[int, int]:
    """Each crop is a sequence, its mask's content unread; separators pass the projector too."""
    embed = model.model.embed_tokens_extend.image_embed
    vision, config = embed.img_processor, model.config.vision_config
    crops, size = images * geometry.sequences, config.image_size
    tokens = (size // config.patch_size) ** 2
    states = meta(crops, tokens, config.hidden_size)
    seen = torch.ones(crops, tokens, dtype=torch.bool, device="meta")
    tower = flops(lambda: vision.embeddings.patch_embedding(meta(crops, 3, size, size)))
    tower += flops(lambda: vision.encoder(states, attention_mask=None))
    tower += flops(lambda: vision.head(states, seen))
    rows = meta(images * geometry.projector_tokens, config.hidden_size)
    return tower, flops(lambda: embed.img_projection_down(embed.img_projection_up(rows)))


VISION = {"mllama": mllama_vision, "llama4": llama4_vision, "phi4_multimodal": phi4_vision}


def crossing_prefill_and_decode(
    model: Any, tokens: int, images: int, batch_size: int
) -> tuple[int, tuple[int, ...], int, int]:
    """As ``prefill_and_decode``, with the projected tiles of ``images`` images for the cross-attention layers.

    Without images those layers do not run, and their list holds no count of them. The mask is given, as the
    processor gives it: without one the class takes cross-attention for causal.
    """
    decoder, config = model.model.language_model, model.config.vision_config
    cache = DynamicCache(config=decoder.config)
    hidden = decoder.config.hidden_size
    rows = images * config.max_num_tiles * model.model.vision_model.num_patches
    states = meta(batch_size, rows, hidden) if images else None

    def step(length: int, visual: torch.Tensor | None) -> Any:
        seen = torch.ones(batch_size, length, images, config.max_num_tiles, device="meta") if images else None
        return model(
            inputs_embeds=meta(batch_size, length, hidden),
            cross_attention_states=visual,
            cross_attention_mask=seen,
            past_key_values=cache,
            logits_to_keep=1,
        )

    with torch.no_grad(), FlopCounterMode(display=False) as counter, counted_layers(decoder.layers, counter) as layers:
        step(tokens, states)
    used = DynamicCache(config=decoder.config)
    used.layers = [layer for layer in cache.layers if layer.is_initialized]
    held = cache_bytes(used)
    return int(counter.get_total_flops()), tuple(layers), flops(lambda: step(1, None)), held
