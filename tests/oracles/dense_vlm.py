"""The small model once more, by other means: PyTorch's own layers, complex rotations, no cache, nothing ever removed.

Pruning is a mask here: a token that a method has dropped is still computed, and nobody looks at it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from asymsim_reference.tokens import Prompt
from asymsim_reference.vlm import SmallVlm

# (layer) -> (query heads or 1, tokens, tokens) of bool: which keys a query sees, besides causality.
Visible = Callable[[int], Tensor]


def rotated(x_hnd: Tensor) -> Tensor:
    """Rotation of the whole sequence at positions 0, 1, 2, ... as a product of complex numbers."""
    _, tokens, size = x_hnd.shape
    pairs = torch.complex(x_hnd[..., : size // 2].contiguous(), x_hnd[..., size // 2 :].contiguous())
    exponents = torch.arange(0, size, 2, dtype=torch.float64) / size
    angles = torch.outer(torch.arange(tokens, dtype=torch.float64), 10_000.0**-exponents)
    turned = pairs * torch.polar(torch.ones_like(angles), angles)
    return torch.cat([turned.real, turned.imag], -1)


def visual_tokens(vlm: SmallVlm, patches_spf: Tensor) -> Tensor:
    """(sequences x patches, LM width) after the projector."""
    weights, shape = vlm.weights, vlm.shape
    x = F.linear(patches_spf, weights.patch.T)
    if shape.cls:
        x = torch.cat([weights.cls.reshape(1, 1, -1).repeat(len(x), 1, 1), x], 1)
    x = F.layer_norm(x + weights.tower_positions, (shape.tower_hidden,), *weights.tower_norm)
    for part in weights.blocks:
        normed = F.layer_norm(x, (shape.tower_hidden,), part.norm1, part.norm1_bias)
        q, k, v = (
            F.linear(normed, matrix.T, bias).view(*x.shape[:2], shape.tower_heads, -1).transpose(1, 2)
            for matrix, bias in ((part.q, part.q_bias), (part.k, part.k_bias), (part.v, part.v_bias))
        )
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape)
        x = x + F.linear(attended, part.out.T, part.out_bias)
        normed = F.layer_norm(x, (shape.tower_hidden,), part.norm2, part.norm2_bias)
        x = x + F.linear(F.gelu(F.linear(normed, part.up.T, part.up_bias)), part.down.T, part.down_bias)
    x = x[:, shape.extra_tokens :].flatten(0, 1)
    x = F.gelu(F.linear(x, weights.project_in.T, weights.project_in_bias))
    return F.linear(x, weights.project_out.T, weights.project_out_bias)


def dense_logits(vlm: SmallVlm, prompt: Prompt, generated: list[int], visible: Visible | None = None) -> Tensor:
    """(len(generated), vocabulary): the logits from which each generated token was chosen, all in one pass."""
    weights, shape = vlm.weights, vlm.shape
    text = F.embedding(prompt.text, weights.embedding)
    answer = F.embedding(torch.tensor(generated[:-1], dtype=torch.long), weights.embedding)
    parts = [text[: prompt.image_at], visual_tokens(vlm, prompt.patches), text[prompt.image_at :], answer]
    x = torch.cat(parts)
    tokens = len(x)
    causal = torch.ones(tokens, tokens, dtype=torch.bool).tril()
    for layer, part in enumerate(weights.layers):
        normed = F.rms_norm(x, (shape.hidden,), part.norm1, 1e-6)
        q, k, v = (
            F.linear(normed, m.T).view(tokens, -1, shape.head_size).transpose(0, 1) for m in (part.q, part.k, part.v)
        )
        mask = causal if visible is None else causal & (visible(layer) | torch.eye(tokens, dtype=torch.bool))
        attended = F.scaled_dot_product_attention(
            rotated(q)[None], rotated(k)[None], v[None], attn_mask=mask.expand(1, shape.heads, -1, -1), enable_gqa=True
        )
        x = x + F.linear(attended[0].transpose(0, 1).reshape(tokens, -1), part.out.T)
        normed = F.rms_norm(x, (shape.hidden,), part.norm2, 1e-6)
        x = x + F.linear(F.silu(F.linear(normed, part.gate.T)) * F.linear(normed, part.up.T), part.down.T)
    logits = F.linear(F.rms_norm(x, (shape.hidden,), weights.final_norm, 1e-6), weights.head.T)
    return logits[tokens - len(generated) :]
