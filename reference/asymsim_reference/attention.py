"""Attention in float64, weights and all: the oracle of the attention kernels.

Shapes: H query heads, G KV heads (H a multiple of G, head h reading KV head h // (H / G)), M queries, N keys, D head
size. One sequence at a time; a batch is a loop over sequences.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Attention(NamedTuple):
    """Result of `attention`.

    Attributes
    ----------
    output : Tensor
        H x M x D; 0 for a query that sees no key.
    lse : Tensor
        H x M, natural logarithm of the sum of the exponentials of the scaled scores; -inf for a query that sees no key.
    weights : Tensor
        H x M x N, the softmax; its rows sum to 1, or to 0 for a query that sees no key.
    scores : Tensor
        H x M x N, scaled, -inf where a query does not see a key.
    """

    output: Tensor
    lse: Tensor
    weights: Tensor
    scores: Tensor


def visible(q_positions: Tensor, k_positions: Tensor, *, causal: bool = True, window: int | None = None) -> Tensor:
    """Which keys each query sees, from the positions that tokens had before anything was pruned.

    Parameters
    ----------
    q_positions, k_positions : Tensor
        M and N positions, in any order.
    causal : bool
        A query sees no key of a later position.
    window : int, optional
        A query sees no key that lies `window` or more positions before it.

    Returns
    -------
    Tensor
        M x N, bool.
    """
    behind = q_positions.long()[:, None] - k_positions.long()[None, :]
    sees = torch.ones_like(behind, dtype=torch.bool)
    if causal:
        sees &= behind >= 0
    if window is not None:
        sees &= behind < window
    return sees


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, scale: float | None = None) -> Attention:
    """Softmax attention with grouped KV heads, computed in float64 whatever the type of the input.

    Parameters
    ----------
    q, k, v : Tensor
        H x M x D, G x N x D and G x N x D.
    mask : Tensor, optional
        True where a query sees a key: M x N, or anything that broadcasts to H x M x N. Dense attention without it.
        Keys that no query may see are left out of every sum, so NaN there changes nothing.
    scale : float, optional
        Factor of the scores, 1/sqrt(D) by default.
    """
    heads, queries, size = q.shape
    group = heads // k.shape[0]
    q = q.double()
    k = k.double().repeat_interleave(group, dim=0)
    v = v.double().repeat_interleave(group, dim=0)
    if mask is None:
        mask = torch.ones(queries, k.shape[1], dtype=torch.bool)
    mask = mask.expand(heads, queries, k.shape[1])
    scores = (q @ k.transpose(1, 2)) * (size**-0.5 if scale is None else scale)
    scores = scores.masked_fill(~mask, -torch.inf)
    lse = torch.logsumexp(scores, dim=-1)
    # exp(-inf - -inf) is NaN: a query without keys gets weights of 0 instead.
    weights = torch.where(lse[..., None] > -torch.inf, torch.exp(scores - lse[..., None]), 0.0)
    unseen = ~mask.any(dim=1)
    return Attention(weights @ v.masked_fill(unseen[..., None], 0.0), lse, weights, scores)


def column_mass(weights: Tensor, kv_heads: int, queries: slice = slice(None)) -> Tensor:
    """Attention that each key receives, summed over queries and over the query heads of each KV head.

    FastV and H2O rank tokens by it over all queries, SnapKV over the last few, and the [CLS] saliency of an encoder is
    that of the one query [CLS]. The mean over all heads is the sum over KV heads divided by the query heads.

    Parameters
    ----------
    weights : Tensor
        H x M x N, as from `attention`.
    kv_heads : int
        G.
    queries : slice
        The queries counted, such as ``slice(-32, None)`` for the last 32.

    Returns
    -------
    Tensor
        G x N.
    """
    heads, _, keys = weights.shape
    return weights[:, queries].sum(dim=1).reshape(kv_heads, heads // kv_heads, keys).sum(dim=1)


def merge(parts: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Attention over a union of disjoint key sets from the output and LSE over each.

    Parameters
    ----------
    parts : sequence of (Tensor, Tensor)
        Outputs (... x D) and LSEs (...). A set without keys is (0, -inf).

    Returns
    -------
    (Tensor, Tensor)
        Output and LSE over the union; (0, -inf) where all parts are empty.
    """
    lses = torch.stack([lse.double() for _, lse in parts])
    lse = torch.logsumexp(lses, dim=0)
    shares = torch.where(lse > -torch.inf, torch.exp(lses - lse), 0.0)
    outputs = torch.stack([output.double() for output, _ in parts])
    return (shares[..., None] * outputs).sum(dim=0), lse


def dropped_mass(lse_kept: Tensor, lse_all: Tensor) -> Tensor:
    """Share of the softmax that falls on dropped keys: m = 1 - exp(lse_S - lse_all), exact also where m is tiny."""
    return -torch.expm1(lse_kept.double() - lse_all.double())


def pruning_error_bound(mass: Tensor, values: Tensor, kept: Tensor) -> Tensor:
    """Largest change of a query's output when keys are dropped: m max ||v_i - v_j|| over i dropped and j kept.

    It follows from o - o_S = m (mu_D - mu_S), mu the weighted mean of the values over the dropped and the kept set, and
    is itself at most 2 m max ||v||. Both are attained.

    Parameters
    ----------
    mass : Tensor
        Dropped share m of each query, any shape.
    values : Tensor
        N x D, the values of one KV head.
    kept : Tensor
        N, True for the kept keys; at least one kept.

    Returns
    -------
    Tensor
        The bound, in the shape of `mass`; 0 if nothing is dropped.
    """
    values = values.double()
    if bool(kept.all()):
        return torch.zeros_like(mass)
    return mass * torch.cdist(values[~kept], values[kept], compute_mode="donot_use_mm_for_euclid_dist").max()
