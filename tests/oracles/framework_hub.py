"""What ``FlopCounterMode`` counts in Phi-3.5-vision and MiniCPM-V 2.6, whose classes live on the Hub.

They are put together here from the classes of ``transformers`` and ``torch`` that the Hub's code itself uses:
CLIP or SigLIP, linear layers or ``MultiheadAttention``, Phi-3 or Qwen2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModel, Phi3Config, Phi3ForCausalLM, Qwen2Config, Qwen2ForCausalLM
from transformers.models.siglip.configuration_siglip import SiglipVisionConfig
from transformers.models.siglip.modeling_siglip import SiglipEncoderLayer

from asymsim.catalogue.images.base import ImageTokens
from oracles.framework import FrameworkCounts, flops, meta, prefill_and_decode

DECODER_FIELDS = (
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "vocab_size",
    "tie_word_embeddings",
)


class Phi3Vision(nn.Module):
    """image_embedding_phi3_v.py: CLIP-L/336 and the projection "mlp" of four merged patches."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        clip = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
        merged, hidden = 4 * config["img_processor"]["image_dim_out"], config["hidden_size"]
        self.tower = CLIPVisionModel(CLIPVisionConfig(**clip, image_size=336, patch_size=14))
        self.projector = nn.Sequential(nn.Linear(merged, hidden), nn.GELU(), nn.Linear(hidden, hidden))
        self.projector.glb_GN = nn.Parameter(torch.empty(1, 1, merged))
        self.projector.sub_GN = nn.Parameter(torch.empty(1, 1, 1, merged))

    def count(self, geometry: ImageTokens, images: int) -> tuple[int, int]:
        """FLOPs of tower and projector; padding crops run, newlines are projected."""
        crops = meta(images * geometry.sequences, 3, 336, 336)
        rows = meta(images * geometry.projector_tokens, self.projector[0].in_features)
        return flops(lambda: self.tower(crops)), flops(lambda: self.projector(rows))


class SliceEncoder(nn.Module):
    """modeling_navit_siglip.py: SigLIP for any grid of patches, without the pooling head."""

    def __init__(self, config: SiglipVisionConfig) -> None:
        super().__init__()
        width, patch = config.hidden_size, config.patch_size
        self.patch_embedding = nn.Conv2d(3, width, kernel_size=patch, stride=patch)
        self.position_embedding = nn.Embedding((config.image_size // patch) ** 2, width)
        self.layers = nn.ModuleList(SiglipEncoderLayer(config) for _ in range(config.num_hidden_layers))
        self.post_layernorm = nn.LayerNorm(width)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        states = self.patch_embedding(pixels).flatten(2).transpose(1, 2)
        for layer in self.layers:
            states = layer(states, attention_mask=None)
        return self.post_layernorm(states)


class QueryResampler(nn.Module):
    """resampler.py: learnt queries attend to a slice."""

    def __init__(self, queries: int, width: int, hidden: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.empty(queries, hidden))
        self.kv_proj = nn.Linear(width, hidden, bias=False)
        self.attn = nn.MultiheadAttention(hidden, hidden // 128)
        self.ln_q, self.ln_kv, self.ln_post = (nn.LayerNorm(hidden) for _ in range(3))
        self.proj = nn.Parameter(torch.empty(hidden, hidden))

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        values = self.ln_kv(self.kv_proj(states)).permute(1, 0, 2)
        queries = self.ln_q(self.query)[:, None].repeat(1, states.shape[0], 1)
        keys = values + torch.zeros_like(values)
        return self.ln_post(self.attn(queries, keys, values)[0].permute(1, 0, 2)) @ self.proj


class MiniCpmVision(nn.Module):
    """modeling_minicpmv.py: slices padded to the longest, then the resampler."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        vision = SiglipVisionConfig(**{k: v for k, v in config["vision_config"].items() if k != "model_type"})
        vision._attn_implementation = "eager"
        self.tower = SliceEncoder(vision)
        self.projector = QueryResampler(config["query_num"], vision.hidden_size, config["hidden_size"])

    def count(self, geometry: ImageTokens, images: int) -> tuple[int, int]:
        """FLOPs of tower and resampler; a slice is a strip one patch high."""
        patch = self.tower.patch_embedding.kernel_size[0]
        strips = meta(images * geometry.sequences, 3, patch, patch * geometry.sequence_tokens)
        width = self.tower.patch_embedding.out_channels
        states = meta(images * geometry.sequences, geometry.sequence_tokens, width)
        return flops(lambda: self.tower(strips)), flops(lambda: self.projector(states))


MODELS = {
    "phi3_v": (Phi3Vision, Phi3Config, Phi3ForCausalLM),
    "minicpmv": (MiniCpmVision, Qwen2Config, Qwen2ForCausalLM),
}


def measure(
    config: Mapping[str, Any],
    *,
    geometry: ImageTokens | None,
    text_tokens: int,
    num_images: int = 1,
    batch_size: int = 1,
) -> FrameworkCounts:
    """All counts of one config for prompts of ``num_images`` images of this geometry and ``text_tokens``."""
    vision_class, config_class, decoder_class = MODELS[config["model_type"]]
    parsed = config_class(**{key: config[key] for key in DECODER_FIELDS}, pad_token_id=None)
    with torch.device("meta"):
        vision = vision_class(config).to(torch.bfloat16).eval()
        model = decoder_class._from_config(parsed, dtype=torch.bfloat16).eval()
    tower, projector, visual = 0, 0, 0
    if geometry is not None:
        tower, projector = vision.count(geometry, num_images * batch_size)
        visual = num_images * geometry.visual_tokens
    prefill, by_layer, decode, held = prefill_and_decode(model, visual + text_tokens, batch_size)
    counts = {
        "vision_tower": size(vision.tower),
        "projector": size(vision.projector),
        "embeddings": size(model.model.embed_tokens),
        "language_model": size(model.model) - size(model.model.embed_tokens),
        "lm_head": size(model.lm_head),
    }
    return FrameworkCounts(
        parameters={**counts, "total": sum(counts.values())},
        vision_tower=tower,
        projector=projector,
        prefill=prefill,
        prefill_by_layer=by_layer,
        decode_step_first=decode,
        kv_cache_bytes=held,
    )


def size(module: nn.Module) -> int:
    """Parameters of a module."""
    return sum(parameter.numel() for parameter in module.parameters())
