"""DuoAttention: retrieval heads keep everything, the others sinks and a recent window.

Xiao et al., DuoAttention, arXiv 2410.10819, section 2; released code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from asymsim_reference.cache import LayerCache
from asymsim_reference.methods.base import ReferenceMethod, register
from asymsim_reference.proof import ProofCases, same_settings, with_and_without_cls
from asymsim_reference.selection import nearest_share, top_k
from asymsim_reference.tokens import AttentionTrace


@register("duoattention")
@dataclass
class DuoAttention(ReferenceMethod):
    """round(retrieval_heads x KV heads) of each layer keep everything: those with the largest gates.

    Parameters
    ----------
    retrieval_heads : float
    sinks, recent : int
    gates : Tensor (layers, KV heads), optional
        Trained beforehand in the paper; random here.
    """

    proof_cases: ClassVar[ProofCases] = with_and_without_cls(
        *same_settings({"retrieval_heads": 0.5, "sinks": 4, "recent": 20})
    )

    retrieval_heads: float = 0.5
    sinks: int = 64
    recent: int = 256
    gates: Tensor | None = None

    def after_prefill(self, traces: Sequence[AttentionTrace], caches: Sequence[LayerCache]) -> None:
        kv_heads = self.vlm.shape.kv_heads
        gates = self.gates
        if gates is None:
            gates = torch.rand(len(caches), kv_heads, generator=torch.Generator().manual_seed(3))
        count = nearest_share(self.retrieval_heads, kv_heads)
        self._retrieval = [set(top_k(row, count).tolist()) for row in gates]
        self._evict(caches)

    def after_step(self, generated: int, queries: Sequence[Tensor], caches: Sequence[LayerCache]) -> None:
        self._evict(caches)

    def _evict(self, caches: Sequence[LayerCache]) -> None:
        for retrieval, cache in zip(self._retrieval, caches, strict=True):
            for head, entries in enumerate(cache.entries):
                if head not in retrieval:
                    rows = torch.arange(entries)
                    cache.keep(head, rows[(rows < self.sinks) | (rows >= entries - self.recent)])
