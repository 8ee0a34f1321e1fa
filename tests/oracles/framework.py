"""What ``transformers`` builds from a config, and what ``FlopCounterMode`` counts in it, on the meta device.

Nothing of the simulator is used but the type of the image geometry: the model is the framework's own class, its
shapes are the framework's own reading of the config, and every operation is counted as it is dispatched.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, AutoModelForImageTextToText, DynamicCache

from asymsim.catalogue.images.base import ImageTokens

BYTES_PER_ELEMENT = 2

# Parameter names to parts; the first prefix that fits decides.
PARTS = (
    *(("lm_head.", "lm_head"), ("model.vision_tower.", "vision_tower"), ("model.vision_model.", "vision_tower")),
    *(("model.multi_modal_projector.", "projector"), ("model.connector.", "projector")),
    *(("model.image_newline", "projector"), ("model.embed_tokens.", "embeddings")),
    *(("model.language_model.embed_tokens.", "embeddings"), ("model.text_model.embed_tokens.", "embeddings")),
    *(("model.language_model.", "language_model"), ("model.text_model.", "language_model")),
    *(("model.layers.", "language_model"), ("model.norm.", "language_model")),
)


@dataclass(frozen=True)
class FrameworkCounts:
    """Parameters by part, FLOPs by phase (whole batch), bytes of the KV cache after prefill."""

    parameters: dict[str, int]
    vision_tower: int
    projector: int
    prefill: int
    prefill_by_layer: tuple[int, ...]
    decode_step_first: int
    kv_cache_bytes: int


def build(config: Mapping[str, Any]) -> Any:
    """The framework's model for the content of a ``config.json``, without storage, in bf16."""
    config = copy.deepcopy(dict(config))
    for part in (config, config.get("text_config") or {}):
        # These read the positions' largest value, which meta tensors lack; RoPE multiplies no matrices.
        scaling = part.get("rope_scaling") or {}
        if scaling.get("rope_type", scaling.get("type")) in ("dynamic", "longrope", "su"):
            del part["rope_scaling"]
    parsed = CONFIG_MAPPING[config["model_type"]].from_dict(config)
    multimodal = hasattr(parsed, "vision_config")
    auto = AutoModelForImageTextToText if multimodal else AutoModelForCausalLM
    with torch.device("meta"):
        return auto.from_config(parsed, dtype=torch.bfloat16).eval()


def parameters(model: Any, parts: Sequence[tuple[str, str]] = PARTS) -> dict[str, int]:
    """Parameter counts by part and in total; a tied matrix counts once, as the embedding."""
    counts = dict.fromkeys(("vision_tower", "projector", "embeddings", "language_model", "lm_head"), 0)
    for name, parameter in model.named_parameters():
        part = next((part for prefix, part in parts if name.startswith(prefix)), None)
        if part is None:
            raise LookupError(f"no part for parameter {name}")
        counts[part] += parameter.numel()
    return {**counts, "total": sum(counts.values())}


def flops(run: Callable[[], Any]) -> int:
    """FLOPs that ``run`` dispatches."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())


def meta(*shape: int) -> torch.Tensor:
    """A bf16 tensor without storage."""
    return torch.empty(*shape, dtype=torch.bfloat16, device="meta")


def decoder_of(model: Any) -> Any:
    """The stack of decoder layers with its norm, wherever the class keeps it."""
    inner = model.model
    return getattr(inner, "language_model", None) or getattr(inner, "text_model", None) or inner


def cache_bytes(cache: DynamicCache) -> int:
    """Bytes of what the cache really holds."""
    held = (tensor for layer in cache.layers for tensor in (layer.keys, layer.values))
    return sum(tensor.numel() for tensor in held) * BYTES_PER_ELEMENT


@contextmanager
def counted_layers(layers: Sequence[Any], counter: FlopCounterMode) -> Iterator[list[int]]:
    """While open, the FLOPs of each layer's forward pass are appended to the list."""
    counts: list[int] = []
    started: list[int] = []

    def enter(*_: Any) -> None:
        started.append(counter.get_total_flops())

    def leave(*_: Any) -> None:
        counts.append(counter.get_total_flops() - started.pop())

    hooks = [layer.register_forward_pre_hook(enter) for layer in layers]
    hooks += [layer.register_forward_hook(leave) for layer in layers]
    try:
        yield counts
    finally:
        for hook in hooks:
            hook.remove()


def prefill_and_decode(model: Any, tokens: int, batch_size: int = 1) -> tuple[int, tuple[int, ...], int, int]:
    """Prefill FLOPs, the same by layer, FLOPs of the first decode step, cache bytes between the two.

    Logits of the last position only, as ``generate`` asks for.
    """
    decoder = decoder_of(model)
    cache = DynamicCache(config=decoder.config)
    hidden = decoder.config.hidden_size

    def step(length: int) -> Any:
        return model(
            inputs_embeds=meta(batch_size, length, hidden), past_key_values=cache, use_cache=True, logits_to_keep=1
        )

    with torch.no_grad(), FlopCounterMode(display=False) as counter, counted_layers(decoder.layers, counter) as layers:
        step(tokens)
    held = cache_bytes(cache)
    return int(counter.get_total_flops()), tuple(layers), flops(partial(step, 1)), held


def vision_flops(model: Any, geometry: ImageTokens, images: int) -> tuple[int, int]:
    """FLOPs of the vision tower and of the projector for ``images`` images of this geometry."""
    inner = model.model
    tower = getattr(inner, "vision_tower", None) or inner.vision_model
    config = model.config.vision_config
    patch = config.patch_size[0] if isinstance(config.patch_size, list | tuple) else config.patch_size
    size = config.image_size[0] if isinstance(config.image_size, list | tuple) else config.image_size
    sequences = images * geometry.sequences
    if config.model_type == "pixtral":
        # One image at a time: of a batch the class makes one sequence, whose blocks see each other masked.
        tower_flops = sequences * flops(partial(tower, meta(1, 3, patch, patch * geometry.sequence_tokens)))
    elif hasattr(inner, "connector"):
        # The class checks a mask's content, which meta tensors lack, so its parts run one by one.
        tower_flops = flops(partial(tower.embeddings.patch_embedding, meta(sequences, 3, size, size)))
        states = meta(sequences, geometry.sequence_tokens, config.hidden_size)
        tower_flops += flops(partial(tower.encoder, inputs_embeds=states, attention_mask=None))
    else:
        tower_flops = flops(partial(tower, meta(sequences, 3, size, size)))
    projector = inner.connector if hasattr(inner, "connector") else inner.multi_modal_projector
    rows, width = geometry.sequence_tokens, config.hidden_size
    if hasattr(projector, "linear_1"):
        # Here [CLS] is gone and pixel shuffle is done before the projector is called.
        rows, width = geometry.projector_tokens // geometry.sequences, projector.linear_1.in_features
    return tower_flops, flops(partial(projector, meta(sequences, rows, width)))


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
    tower, projector, visual = 0, 0, 0
    if geometry is not None:
        tower, projector = vision_flops(model, geometry, num_images * batch_size)
        visual = num_images * geometry.visual_tokens
    prefill, by_layer, decode, held = prefill_and_decode(model, visual + text_tokens, batch_size)
    return FrameworkCounts(
        parameters=parameters(model),
        vision_tower=tower,
        projector=projector,
        prefill=prefill,
        prefill_by_layer=by_layer,
        decode_step_first=decode,
        kv_cache_bytes=held,
    )


def pruned_prefill(config: Mapping[str, Any], counts_by_layer: Sequence[int]) -> tuple[int, ...]:
    """FLOPs of each layer, ``counts_by_layer[i]`` tokens entering layer i; for Llama, Mistral and Qwen2 decoders."""
    decoder = decoder_of(build(config))

    def run(layer: Any, tokens: int) -> None:
        states = meta(1, tokens, decoder.config.hidden_size)
        positions = torch.arange(tokens, device="meta")[None]
        layer(states, attention_mask=None, position_embeddings=decoder.rotary_emb(states, positions))

    pairs = zip(decoder.layers, counts_by_layer, strict=True)
    return tuple(flops(partial(run, layer, tokens)) for layer, tokens in pairs)
