"""FastV: after layer K - 1 the image tokens that the last token attends to least are dropped.

Chen et al., An Image is Worth 1/2 Tokens After Layer 2, arXiv 2403.06764, section 4.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from asymsim_reference.methods.base import ReferenceMethod, register
from asymsim_reference.proof import ProofCase, ProofCases, same_settings, with_and_without_cls
from asymsim_reference.selection import nearest_share, top_k
from asymsim_reference.tokens import AttentionTrace, PromptTokens


@register("fastv")
@dataclass
class FastV(ReferenceMethod):
    """round(keep N) image tokens from layer ``layer`` on, by the head mean of the last query's weights before it.

    With ``masking`` nothing is removed: the others are only no longer attended to.
    """

    proof_cases: ClassVar[ProofCases] = (
        *with_and_without_cls(
            *same_settings({}, {"keep": 0.29, "layer": 3}, {"keep": 0.0}, {"keep": 1.0}, {"masking": True})
        ),
        ProofCase(shape="crops"),
    )

    keep: float = 0.5
    layer: int = 2
    masking: bool = False

    def lm_reads(self) -> frozenset[int]:
        return frozenset({self.layer - 1})

    def after_layer(self, layer: int, tokens: PromptTokens, trace: AttentionTrace) -> None:
        if layer == self.layer - 1:
            assert trace.weights is not None
            self._scores = trace.weights[:, -1].mean(0)

    def before_layer(self, layer: int, tokens: PromptTokens) -> PromptTokens:
        if layer != self.layer:
            return tokens
        visual = tokens.visual_index
        chosen = top_k(self._scores[visual], nearest_share(self.keep, len(visual)))
        if not self.masking:
            return tokens.keep_visual(chosen)
        masked = tokens.visual.clone()
        masked[visual[chosen]] = False
        return replace(tokens, masked=masked)
