"""A random CLIP-like text encoder, for methods that align images with text in a joint space."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from asymsim_reference.layers import attention_weights, gelu, join_heads, layer_norm, mask_bias, split_heads
from asymsim_reference.weights import Block, drawing

# CLIP's, in all its sizes; a narrower tower has one head.
HEAD_SIZE = 64


@dataclass(frozen=True)
class TextTower:
    """Pre-norm blocks under a causal mask, and a projection of every token into the joint space.

    The prompt is cut or padded to the context length; the last row stands for [EOS].
    """

    embedding: Tensor
    positions: Tensor
    blocks: tuple[Block, ...]
    norm: tuple[Tensor, Tensor]
    joint: Tensor

    @classmethod
    def random(cls, layers: int, width: int, context: int, vocabulary: int, joint_size: int) -> TextTower:
        """A tower with an FFN of four times the width; the last embedding row is [EOS]."""
        draw = drawing(2)
        return cls(
            embedding=draw(vocabulary + 1, width) * 8,
            positions=draw(context, width),
            blocks=tuple(Block.random(width, 4 * width, draw) for _ in range(layers)),
            norm=(1 + draw(width), draw(width)),
            joint=draw(width, joint_size),
        )

    def encode(self, text: Tensor) -> Tensor:
        """(context, joint size)."""
        context, width = self.positions.shape
        padded = torch.full((context,), len(self.embedding) - 1)
        padded[: min(len(text), context - 1)] = text[: context - 1]
        hidden = self.embedding[padded] + self.positions
        bias = mask_bias(torch.ones(context, context, dtype=torch.bool).tril())
        heads = max(1, width // HEAD_SIZE)
        for block in self.blocks:
            normed = layer_norm(hidden, block.norm1, block.norm1_bias)
            q, k, v = (
                split_heads(normed @ matrix + offset, heads)
                for matrix, offset in ((block.q, block.q_bias), (block.k, block.k_bias), (block.v, block.v_bias))
            )
            hidden = hidden + join_heads(attention_weights(q, k, bias) @ v) @ block.out + block.out_bias
            normed = layer_norm(hidden, block.norm2, block.norm2_bias)
            hidden = hidden + gelu(normed @ block.up + block.up_bias) @ block.down + block.down_bias
        return layer_norm(hidden, *self.norm) @ self.joint
