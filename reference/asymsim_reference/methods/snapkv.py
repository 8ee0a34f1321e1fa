"""SnapKV: the last queries of the prompt vote for the cache entries that stay, in each head.

Li et al., SnapKV, arXiv 2404.14469, section 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from asymsim_reference.attention import column_mass
from asymsim_reference.cache import LayerCache
from asymsim_reference.methods.base import ReferenceMethod, register
from asymsim_reference.proof import ProofCases, same_settings, with_and_without_cls
from asymsim_reference.scores import query_weights
from asymsim_reference.selection import floor_share, top_k
from asymsim_reference.tokens import AttentionTrace


def window_votes(trace: AttentionTrace, window: int, pooling: int) -> Tensor:
    """(KV heads, N): weights of the last ``window`` queries, summed over them and a group's heads, average-pooled.

    Padding at both ends counts as zeros, as in the released code.
    """
    tokens, kv_heads = trace.keys.shape[1], len(trace.keys)
    weights = query_weights(trace, torch.arange(max(0, tokens - window), tokens))
    votes = column_mass(weights, kv_heads)
    left = (pooling - 1) // 2
    return functional.avg_pool1d(functional.pad(votes, (left, pooling - 1 - left)), pooling, stride=1)


def keep_voted(trace: AttentionTrace, cache: LayerCache, budget: int, window: int, pooling: int) -> None:
    """Hold the last ``window`` entries and the most voted others, ``budget`` in all, or everything if that is less."""
    votes_gn = window_votes(trace, window, pooling)
    entries = votes_gn.shape[1]
    budget = min(budget, entries)
    protected = torch.arange(entries) >= entries - min(window, budget)
    for head, votes in enumerate(votes_gn):
        cache.keep(head, top_k(votes, budget, protected))


@register("snapkv")
@dataclass
class SnapKV(ReferenceMethod):
    """Once after prefill; generated tokens join the cache.

    Parameters
    ----------
    keep : float, optional
        Share of the prompt's entries, instead of ``capacity``.
    """

    proof_cases: ClassVar[ProofCases] = with_and_without_cls(
        *same_settings({"keep": 0.25, "window": 5}, {"capacity": 40, "window": 8, "pooling": 4})
    )

    keep: float | None = None
    capacity: int = 1024
    window: int = 32
    pooling: int = 5

    def after_prefill(self, traces: Sequence[AttentionTrace], caches: Sequence[LayerCache]) -> None:
        for trace, cache in zip(traces, caches, strict=True):
            budget = self.capacity if self.keep is None else floor_share(self.keep, cache.entries[0])
            keep_voted(trace, cache, budget, self.window, self.pooling)
