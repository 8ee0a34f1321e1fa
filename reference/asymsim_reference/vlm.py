"""A small random vision-language model in float64: the same three parts as the real ones, nothing hidden.

A CLIP-like tower, an MLP projector, a Llama-like decoder. All matrix products are explicit, attention
included, so that torch counts every one of them. Weights come from a seed and mean nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from asymsim_reference.attention import attention
from asymsim_reference.cache import LayerCache
from asymsim_reference.layers import (
    attention_weights,
    gelu,
    join_heads,
    layer_norm,
    rms_norm,
    rotate,
    silu,
    split_heads,
)
from asymsim_reference.tokens import AttentionTrace, EncoderTokens, Prompt, PromptTokens, VisualTokens
from asymsim_reference.weights import Shape, Weights


@dataclass(frozen=True)
class SmallVlm:
    """The model's stages as functions; ``run.run`` strings them together."""

    shape: Shape
    weights: Weights

    @classmethod
    def random(cls, shape: Shape | None = None, seed: int = 0) -> SmallVlm:
        """A model with weights drawn from ``seed``."""
        shape = shape or Shape()
        return cls(shape, Weights.random(shape, seed))

    def embed_patches(self, patches_spf: Tensor) -> EncoderTokens:
        """Patch embedding, [CLS], learnt positions and CLIP's norm before the first block."""
        weights, sequences = self.weights, len(patches_spf)
        hidden = patches_spf @ weights.patch
        if self.shape.cls:
            hidden = torch.cat([weights.cls.expand(sequences, 1, -1), hidden], 1)
        hidden = layer_norm(hidden + weights.tower_positions, *weights.tower_norm)
        index = torch.arange(self.shape.patches).expand(sequences, -1)
        return EncoderTokens(hidden, index, torch.ones(index.shape, dtype=torch.float64), self.shape.extra_tokens)

    def encoder_attention(self, block: int, tokens: EncoderTokens, store: bool = False) -> AttentionTrace:
        """Self-attention of one block over each sequence, residual not yet added.

        Keys that stand for several patches weigh as many, by log(size) added to their logits (ToMe,
        arXiv 2210.09461, section 3, "proportional attention"); a size of 1 adds nothing.
        """
        part, heads = self.weights.blocks[block], self.shape.tower_heads
        normed = layer_norm(tokens.hidden, part.norm1, part.norm1_bias)
        q, k, v = (
            split_heads(normed @ matrix + bias, heads)
            for matrix, bias in ((part.q, part.q_bias), (part.k, part.k_bias), (part.v, part.v_bias))
        )
        ones = torch.ones(len(tokens.sizes), tokens.extra, dtype=torch.float64)
        log_sizes = torch.cat([ones, tokens.sizes], 1).log()[:, None, None, :]
        weights = attention_weights(q, k, log_sizes)
        output = join_heads(weights @ v) @ part.out + part.out_bias
        return AttentionTrace(q, k, k, v, weights if store else None, output)

    def encoder_mlp(self, block: int, hidden_snd: Tensor) -> Tensor:
        """FFN of one block, residual not yet added."""
        part = self.weights.blocks[block]
        normed = layer_norm(hidden_snd, part.norm2, part.norm2_bias)
        return gelu(normed @ part.up + part.up_bias) @ part.down + part.down_bias

    def all_visual(self, tokens: EncoderTokens) -> VisualTokens:
        """All patch tokens that the encoder leaves, sequence by sequence."""
        return VisualTokens.join(self.visual_by_sequence(tokens))

    def visual_by_sequence(self, tokens: EncoderTokens) -> list[VisualTokens]:
        """The patch tokens that the encoder leaves of each sequence."""
        offsets = torch.arange(len(tokens.index))[:, None] * self.shape.patches
        return [VisualTokens(*own) for own in zip(tokens.patches, tokens.index + offsets, strict=True)]

    def project(self, features_nd: Tensor) -> Tensor:
        """Two linear layers with GELU between them."""
        weights = self.weights
        hidden = gelu(features_nd @ weights.project_in + weights.project_in_bias)
        return hidden @ weights.project_out + weights.project_out_bias

    def embed_text(self, text: Tensor) -> Tensor:
        """Rows of the embedding."""
        return self.weights.embedding[text]

    def prompt_tokens(self, prompt: Prompt, projected_kd: Tensor, index_k: Tensor) -> PromptTokens:
        """Text and visual tokens at their original positions."""
        visual_count = prompt.patches.shape[0] * self.shape.patches
        order = torch.arange(len(prompt.text))
        text_at = torch.where(order < prompt.image_at, order, order + visual_count)
        positions, rows = torch.cat([text_at, index_k + prompt.image_at]).sort()
        hidden = torch.cat([self.embed_text(prompt.text), projected_kd])[rows]
        return PromptTokens(hidden, positions, rows >= len(prompt.text), torch.zeros(len(rows), dtype=torch.bool))

    def normed(self, layer: int, hidden_nd: Tensor) -> Tensor:
        """The input of a layer's attention."""
        return rms_norm(hidden_nd, self.weights.layers[layer].norm1)

    def qkv(self, layer: int, hidden_nd: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (heads, N, size), keys and values (KV heads, N, size), none of them rotated."""
        part, shape = self.weights.layers[layer], self.shape
        normed = self.normed(layer, hidden_nd)
        return (
            split_heads(normed @ part.q, shape.heads),
            split_heads(normed @ part.k, shape.kv_heads),
            split_heads(normed @ part.v, shape.kv_heads),
        )

    def prefill_attention(self, layer: int, tokens: PromptTokens, store: bool = False) -> AttentionTrace:
        """Causal attention over the prompt by original positions, residual not yet added."""
        q, raw, v = self.qkv(layer, tokens.hidden)
        q, k = rotate(q, tokens.positions), rotate(raw, tokens.positions)
        attended = attention(q, k, v, tokens.allowed())
        output = join_heads(attended.output) @ self.weights.layers[layer].out
        return AttentionTrace(q, k, raw, v, attended.weights if store else None, output)

    def decode_attention(
        self, layer: int, hidden_1d: Tensor, position: int, cache: LayerCache
    ) -> tuple[Tensor, Tensor]:
        """Attention of one new token over the cache, which it joins first.

        Returns the output, residual not yet added, and the rotated queries (heads, size).
        """
        q, raw, v = self.qkv(layer, hidden_1d)
        cache.append(raw[:, 0], v[:, 0], position)
        q = rotate(q, torch.tensor([cache.query_position(position)]))[:, 0]
        outputs = []
        for head, q_gd in enumerate(q.reshape(self.shape.kv_heads, -1, self.shape.head_size)):
            keys, values = cache.rotated_keys(head)[None], cache.values[head][None]
            outputs.append(attention(q_gd[:, None], keys, values, ~cache.masked[head][None]).output)
        return torch.cat(outputs).flatten()[None] @ self.weights.layers[layer].out, q

    def mlp(self, layer: int, hidden_nd: Tensor) -> Tensor:
        """SwiGLU FFN, residual not yet added."""
        part = self.weights.layers[layer]
        normed = rms_norm(hidden_nd, part.norm2)
        return (silu(normed @ part.gate) * (normed @ part.up)) @ part.down

    def logits(self, hidden_1d: Tensor) -> Tensor:
        """Scores of the vocabulary at one position, shape (1, vocabulary)."""
        return rms_norm(hidden_1d, self.weights.final_norm) @ self.weights.head
