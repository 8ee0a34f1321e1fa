"""PyramidDrop: image tokens leave in stages, by an attention of the last instruction token computed anew.

Xing et al., PyramidDrop, arXiv 2410.17247, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from asymsim_reference.methods.base import ReferenceMethod, register
from asymsim_reference.proof import ProofCases, same_settings, with_and_without_cls
from asymsim_reference.scores import recomputed_attention
from asymsim_reference.selection import as_fraction, floor_share, top_k
from asymsim_reference.tokens import PromptTokens


@register("pyramiddrop")
@dataclass
class PyramidDrop(ReferenceMethod):
    """floor(ratio^s N) image tokens from the s-th of ``layers`` on; without layers, at every quarter."""

    proof_cases: ClassVar[ProofCases] = with_and_without_cls(
        *same_settings({"ratio": 0.5}, {"ratio": 0.4, "layers": (1, 2, 6)})
    )

    ratio: float = 0.5
    layers: tuple[int, ...] = ()

    def before_layer(self, layer: int, tokens: PromptTokens) -> PromptTokens:
        depth = self.vlm.shape.layers
        stages = self.layers or tuple(depth * quarter // 4 for quarter in (1, 2, 3))
        if layer == 0:
            self._original = int(tokens.visual.sum())
        if layer not in stages:
            return tokens
        count = floor_share(as_fraction(self.ratio) ** (stages.index(layer) + 1), self._original)
        scores = recomputed_attention(self.vlm, layer, tokens)[tokens.visual]
        return tokens.keep_visual(top_k(scores, min(count, len(scores))))
