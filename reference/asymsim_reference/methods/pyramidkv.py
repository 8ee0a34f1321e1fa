"""PyramidKV: the votes of SnapKV, and budgets that fall linearly from the first layer to the last.

Cai et al., PyramidKV, arXiv 2406.02069, section 4; released code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from asymsim_reference.cache import LayerCache
from asymsim_reference.methods.base import ReferenceMethod, register
from asymsim_reference.methods.snapkv import keep_voted
from asymsim_reference.proof import ProofCases, same_settings, with_and_without_cls
from asymsim_reference.selection import as_fraction, floor_share
from asymsim_reference.tokens import AttentionTrace

# beta of the released code.
FLATNESS = 20


@register("pyramidkv")
@dataclass
class PyramidKV(ReferenceMethod):
    """With B = capacity - window: max - l ((max - min) // (layers - 1)) voted entries in layer l, and the window.

    min = B // 20 and max = 2 B - min.

    Parameters
    ----------
    keep : float, optional
        Mean share of the prompt's entries, instead of ``capacity``: at most 39/20 of it in layer 0.
    """

    proof_cases: ClassVar[ProofCases] = with_and_without_cls(
        *same_settings({"keep": 0.3, "window": 5}, {"capacity": 36, "window": 8})
    )

    keep: float | None = None
    capacity: int = 2048
    window: int = 32
    pooling: int = 5

    def budgets(self, entries: Sequence[int]) -> list[int]:
        """Entries that each layer keeps of those it has."""
        falls = max(1, len(entries) - 1)
        if self.keep is not None:
            keep = as_fraction(self.keep)
            highest = min(as_fraction(1.0), keep * (2 * FLATNESS - 1) / FLATNESS)
            step = (highest - (2 * keep - highest)) / falls
            return [floor_share(highest - layer * step, count) for layer, count in enumerate(entries)]
        voted = self.capacity - self.window
        lowest = voted // FLATNESS
        highest_count = 2 * voted - lowest
        fall = (highest_count - lowest) // falls
        return [highest_count - layer * fall + self.window for layer in range(len(entries))]

    def after_prefill(self, traces: Sequence[AttentionTrace], caches: Sequence[LayerCache]) -> None:
        budgets = self.budgets([cache.entries[0] for cache in caches])
        for trace, cache, budget in zip(traces, caches, budgets, strict=True):
            keep_voted(trace, cache, budget, self.window, self.pooling)
