"""DART: pivots by key norm, and the image tokens that resemble them least, without any attention weights.

Wen et al., Duplication Matters More (DART), arXiv 2502.11494, section 3; released code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from asymsim_reference.layers import unit
from asymsim_reference.methods.base import ReferenceMethod, register
from asymsim_reference.proof import ProofCases, same_settings, with_and_without_cls
from asymsim_reference.selection import complement, floor_share, ranking, top_k
from asymsim_reference.tokens import AttentionTrace, PromptTokens


@register("dart")
@dataclass
class DART(ReferenceMethod):
    """floor(keep N) image tokens from ``layer`` on: the image pivots, and for each pivot those least similar to it.

    Pivots have the largest L1 norm of their keys in the layer before. What is to be kept besides the image pivots is
    divided over all pivots as evenly as it goes; each in turn takes from what the others have left.
    """

    proof_cases: ClassVar[ProofCases] = with_and_without_cls(
        *same_settings({}, {"keep": 0.7, "layer": 3, "image_pivots": 3, "text_pivots": 2}, {"keep": 0.0})
    )

    keep: float = 2 / 9
    layer: int = 2
    image_pivots: int = 4
    text_pivots: int = 4

    def after_layer(self, layer: int, tokens: PromptTokens, trace: AttentionTrace) -> None:
        if layer == self.layer - 1:
            self._norms = trace.keys.abs().sum((0, 2))

    def before_layer(self, layer: int, tokens: PromptTokens) -> PromptTokens:
        if layer != self.layer:
            return tokens
        visual, text = tokens.visual_index, tokens.text_index
        count = floor_share(self.keep, len(visual))
        image_pivots = top_k(self._norms[visual], min(self.image_pivots, len(visual)))
        text_pivots = text[top_k(self._norms[text], min(self.text_pivots, len(text)))]
        directions = unit(self.vlm.normed(layer, tokens.hidden))
        pivots = torch.cat([visual[image_pivots], text_pivots])
        similarity_pn = directions[pivots] @ directions[visual].T
        if count < len(image_pivots):
            return tokens.keep_visual(image_pivots[top_k(self._norms[visual[image_pivots]], count)])
        kept, wanted = image_pivots, count - len(image_pivots)
        for pivot, similarity in enumerate(similarity_pn):
            share = wanted // len(pivots) + int(pivot < wanted % len(pivots))
            rest = complement(kept, len(visual))
            kept = torch.cat([kept, rest[ranking(-similarity[rest])[:share]]])
        if not len(pivots):
            kept = top_k(self._norms[visual], count)
        return tokens.keep_visual(kept.sort().values)
