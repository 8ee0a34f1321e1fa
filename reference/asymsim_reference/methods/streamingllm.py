"""StreamingLLM: attention sinks and a recent window, whatever the length.

Xiao et al., StreamingLLM, arXiv 2309.17453, section 3.
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
from asymsim_reference.selection import floor_share
from asymsim_reference.tokens import AttentionTrace


@register("streamingllm")
@dataclass
class StreamingLLM(ReferenceMethod):
    """The first ``sinks`` entries and the last ``window`` stay; positions count within the cache.

    Parameters
    ----------
    keep : float, optional
        Share of the prompt's entries, sinks among them, instead of the window.
    """

    # 79 entries are reached at the first of seven steps, or 82 at the fourth.
    proof_cases: ClassVar[ProofCases] = with_and_without_cls(
        *same_settings({"window": 30}, {"keep": 0.25}, {"window": 75}, {"window": 78}, output_tokens=8)
    )

    keep: float | None = None
    sinks: int = 4
    window: int = 512

    def after_prefill(self, traces: Sequence[AttentionTrace], caches: Sequence[LayerCache]) -> None:
        for cache in caches:
            cache.relative = True
        self._budget = [
            self.sinks + self.window if self.keep is None else floor_share(self.keep, cache.entries[0])
            for cache in caches
        ]
        self._evict(caches)

    def after_step(self, generated: int, queries: Sequence[Tensor], caches: Sequence[LayerCache]) -> None:
        if self.keep != 1:
            self._evict(caches)

    def _evict(self, caches: Sequence[LayerCache]) -> None:
        for budget, cache in zip(self._budget, caches, strict=True):
            for head, entries in enumerate(cache.entries):
                sinks = min(self.sinks, budget)
                rows = torch.arange(entries)
                cache.keep(head, rows[(rows < sinks) | (rows >= entries - (budget - sinks))])
