"""H2O: heavy hitters of accumulated attention and a recent window, held at each decode step.

Zhang et al., H2O, arXiv 2306.14048, section 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from asymsim_reference.attention import column_mass
from asymsim_reference.cache import LayerCache
from asymsim_reference.methods.base import ReferenceMethod, register
from asymsim_reference.proof import ProofCases, same_settings, with_and_without_cls
from asymsim_reference.scores import step_weights
from asymsim_reference.selection import floor_share, top_k
from asymsim_reference.tokens import AttentionTrace


@register("h2o")
@dataclass
class H2O(ReferenceMethod):
    """floor(keep n) entries of the n of the prompt, in every layer and head; the latest of them are protected.

    Scores are sums over all queries so far, and over the query heads of a KV head. Each decode step adds its weights,
    and as many entries leave as exceed the budget.
    """

    proof_cases: ClassVar[ProofCases] = with_and_without_cls(
        *same_settings({}, {"keep": 0.5, "recent_share": 0.2}, {"keep": 1.0}, {"keep": 0.0}, output_tokens=8)
    )

    keep: float = 0.2
    recent_share: float = 0.5

    def lm_reads(self) -> frozenset[int]:
        return frozenset(range(self.vlm.shape.layers))

    def after_prefill(self, traces: Sequence[AttentionTrace], caches: Sequence[LayerCache]) -> None:
        self._sums: list[list[Tensor]] = []
        self._budget: list[int] = []
        for trace, cache in zip(traces, caches, strict=True):
            assert trace.weights is not None
            self._sums.append(list(column_mass(trace.weights, self.vlm.shape.kv_heads)))
            self._budget.append(floor_share(self.keep, trace.keys.shape[1]))
            self._evict(len(self._sums) - 1, cache)

    def after_step(self, generated: int, queries: Sequence[Tensor], caches: Sequence[LayerCache]) -> None:
        # Keeping everything holds no budget: the cache grows.
        if self.keep == 1:
            return
        for layer, (query, cache) in enumerate(zip(queries, caches, strict=True)):
            for head, weights_gn in enumerate(step_weights(query, cache)):
                grown = torch.cat([self._sums[layer][head], torch.zeros(1, dtype=torch.float64)])
                self._sums[layer][head] = grown + weights_gn.sum(0)
            self._evict(layer, cache)

    def _evict(self, layer: int, cache: LayerCache) -> None:
        budget = self._budget[layer]
        recent = floor_share(self.recent_share, budget)
        for head, sums in enumerate(self._sums[layer]):
            protected = torch.arange(len(sums)) >= len(sums) - recent
            rows = top_k(sums, min(budget, len(sums)), protected)
            cache.keep(head, rows)
            self._sums[layer][head] = sums[rows]
