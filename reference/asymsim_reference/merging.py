"""Tokens merged into others: nearest kept token, bipartite pairs, clusters.

Shape suffixes: s encoder sequences, n tokens, k kept tokens, r merged ones, d features.
"""

from __future__ import annotations

import torch
from torch import Tensor

from asymsim_reference.layers import unit
from asymsim_reference.selection import ranking, top_k


def average_into(kept_kd: Tensor, dropped_rd: Tensor, target_r: Tensor) -> Tensor:
    """Each kept token becomes the mean of itself and of the dropped tokens that have it as their target."""
    total = kept_kd.index_add(0, target_r, dropped_rd)
    members = torch.ones(len(kept_kd), dtype=kept_kd.dtype)
    return total / members.index_add(0, target_r, torch.ones(len(target_r), dtype=kept_kd.dtype))[:, None]


def merge_into_nearest(features_nd: Tensor, kept_k: Tensor, dropped_r: Tensor) -> Tensor:
    """(K, D): every dropped token averaged into the kept token of the highest cosine similarity."""
    if not len(kept_k) or not len(dropped_r):
        return features_nd[kept_k]
    directions = unit(features_nd)
    similarity_rk = directions[dropped_r] @ directions[kept_k].T
    return average_into(features_nd[kept_k], features_nd[dropped_r], similarity_rk.argmax(1))


def bipartite_pairs(metric_snd: Tensor, count: int, penalty_sn: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """ToMe's matching: of the tokens at even places, the ``count`` most similar to one at an odd place.

    Parameters
    ----------
    metric_snd : Tensor
        Compared by cosine, (N/2) x (N/2) products of D a sequence.
    count : int
        Pairs, at most N // 2.
    penalty_sn : Tensor, optional
        Taken off a token's similarities, so that it is merged later (FOLDER).

    Returns
    -------
    source, target : Tensor (S, count)
        Token source[i] goes into token target[i]; sources are unique, targets need not be.
    """
    directions = unit(metric_snd)
    similarity = directions[:, ::2] @ directions[:, 1::2].transpose(1, 2)
    if penalty_sn is not None:
        similarity = similarity - penalty_sn[:, ::2, None]
    best, partner = similarity.max(-1)
    even = torch.stack([top_k(row, count) for row in best])
    return 2 * even, 2 * partner.gather(1, even) + 1


def merge_pairs(x_snd: Tensor, sizes_sn: Tensor, source_sr: Tensor, target_sr: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean of each target and its sources, weighted by the patches that they stand for.

    Returns
    -------
    merged (S, N - R, D), sizes (S, N - R), kept (S, N - R)
        ``kept`` are the places of what is left, rising. sum(sizes x merged) is what it was.
    """
    mass = x_snd * sizes_sn[..., None]
    rows = torch.arange(len(x_snd))[:, None]
    mass = mass.index_put((rows, target_sr), mass[rows, source_sr], accumulate=True)
    sizes = sizes_sn.index_put((rows, target_sr), sizes_sn[rows, source_sr], accumulate=True)
    left = torch.ones(sizes_sn.shape, dtype=torch.bool).index_put((rows, source_sr), torch.tensor(False))
    kept = left.nonzero()[:, 1].view(len(x_snd), -1)
    return mass[rows, kept] / sizes[rows, kept][..., None], sizes[rows, kept], kept


def density_peaks(features_nd: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Cluster centres and each token's centre, as places among the centres (DPC-KNN, as SparseVLM uses it).

    Density is exp(-mean squared distance to the ``count`` nearest tokens), a token itself among them; centres
    are dense and far from any denser token. Distances come from one N x N x D product.
    """
    gram = features_nd @ features_nd.T
    lengths = gram.diagonal()
    squared = (lengths[:, None] + lengths - 2 * gram).clamp_min(0).fill_diagonal_(0) / features_nd.shape[1]
    density = torch.exp(-squared.sort(1).values[:, :count].mean(1))
    distance = squared.sqrt()
    denser = density[None, :] > density[:, None]
    separation = torch.where(denser, distance, distance.max()).min(1).values
    centres = ranking(separation * density)[:count]
    nearest = distance[:, centres].argmin(1)
    # Coinciding tokens may be as near to another centre as to themselves.
    nearest[centres] = torch.arange(count)
    return centres, nearest


def cluster_means(features_nd: Tensor, nearest_n: Tensor, count: int) -> Tensor:
    """(count, D): the mean of each cluster's members."""
    total = torch.zeros(count, features_nd.shape[1], dtype=features_nd.dtype).index_add(0, nearest_n, features_nd)
    return total / torch.bincount(nearest_n, minlength=count)[:, None]
