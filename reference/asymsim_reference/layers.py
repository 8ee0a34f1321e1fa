"""The few layers that a vision-language model is made of, each as its formula.

Shape suffixes: s encoder sequences, n tokens, m queries, h heads, d features of a head or of the stream.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def layer_norm(x_nd: Tensor, weight_d: Tensor, bias_d: Tensor) -> Tensor:
    """(x - mean) / sqrt(variance + 1e-5), scaled and shifted."""
    centred = x_nd - x_nd.mean(-1, keepdim=True)
    return centred / torch.sqrt((centred**2).mean(-1, keepdim=True) + 1e-5) * weight_d + bias_d


def rms_norm(x_nd: Tensor, weight_d: Tensor) -> Tensor:
    """x / sqrt(mean(x^2) + 1e-6), scaled (Zhang and Sennrich, arXiv 1910.07467)."""
    return x_nd / torch.sqrt((x_nd**2).mean(-1, keepdim=True) + 1e-6) * weight_d


def unit(x_nd: Tensor) -> Tensor:
    """Rows divided by their length; a row of zeros stays."""
    length: Tensor = torch.linalg.vector_norm(x_nd, dim=-1, keepdim=True)
    return x_nd / length.clamp_min(1e-300)


def rotate(x_hnd: Tensor, positions_n: Tensor, base: float = 10_000.0) -> Tensor:
    """Rotary position embedding, with halves paired as Llama does (Su et al., arXiv 2104.09864).

    ``positions`` are those of the original sequence, whatever has been pruned since.
    """
    half = x_hnd.shape[-1] // 2
    frequencies = base ** (-torch.arange(half, dtype=x_hnd.dtype) / half)
    angles = positions_n.to(x_hnd.dtype)[:, None] * frequencies
    cos, sin = torch.cos(angles), torch.sin(angles)
    first, second = x_hnd[..., :half], x_hnd[..., half:]
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


def split_heads(x_nd: Tensor, heads: int) -> Tensor:
    """(..., tokens, heads * size) to (..., heads, tokens, size)."""
    return x_nd.reshape(*x_nd.shape[:-1], heads, -1).transpose(-2, -3)


def join_heads(x_hnd: Tensor) -> Tensor:
    """(..., heads, tokens, size) to (..., tokens, heads * size)."""
    return x_hnd.transpose(-2, -3).flatten(-2)


def repeat_heads(x_hnd: Tensor, times: int) -> Tensor:
    """Give every query head of a group its KV head."""
    return x_hnd.repeat_interleave(times, dim=-3)


def attention_weights(q_hmd: Tensor, k_hnd: Tensor, bias: Tensor | None = None) -> Tensor:
    """softmax(q k^T / sqrt(D) + bias) over the keys; ``bias`` holds -inf where a pair is masked."""
    logits = q_hmd @ k_hnd.transpose(-1, -2) / q_hmd.shape[-1] ** 0.5
    return torch.softmax(logits if bias is None else logits + bias, -1)


def mask_bias(allowed_mn: Tensor) -> Tensor:
    """0 where a pair is allowed, -inf elsewhere."""
    return torch.zeros(allowed_mn.shape, dtype=torch.float64).masked_fill(~allowed_mn, -torch.inf)


def gelu(x: Tensor) -> Tensor:
    """x Phi(x), Phi the normal distribution's."""
    return x * (1 + torch.erf(x / 2**0.5)) / 2


def silu(x: Tensor) -> Tensor:
    """x / (1 + exp(-x))."""
    return functional.silu(x)
