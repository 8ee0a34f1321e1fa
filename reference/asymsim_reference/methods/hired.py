"""HiRED: a fixed budget divided over the crops of a high-resolution image by early [CLS] attention.

Arif et al., HiRED, arXiv 2408.10945, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from asymsim_reference.methods.base import ReferenceMethod, register
from asymsim_reference.proof import ProofCases, same_settings
from asymsim_reference.scores import saliency
from asymsim_reference.selection import apportion, floor_share, top_k
from asymsim_reference.tokens import AttentionTrace, EncoderTokens, VisualTokens


@register("hired")
@dataclass
class HiRED(ReferenceMethod):
    """floor(keep N) tokens: ``full_image_share`` of them from the whole image, the rest from the crops.

    A crop's weight is the attention that its [CLS] pays to the most attended tenth of its patches in
    the first block; within a crop the most attended of the penultimate block stay. The excess of a full crop goes
    to the others.
    """

    proof_cases: ClassVar[ProofCases] = (*same_settings({}, {"keep": 0.7, "full_image_share": 0.2}, shape="crops"),)

    keep: float = 0.2
    full_image_share: float = 0.5

    def encoder_reads(self) -> frozenset[int]:
        return frozenset({0, self.vlm.shape.tower_layers - 2})

    def after_block(self, block: int, tokens: EncoderTokens, trace: AttentionTrace) -> None:
        if block not in self.encoder_reads():
            return
        assert trace.weights is not None
        scores = saliency(trace.weights, tokens.extra)
        if block == 0:
            self._weights = scores.topk(max(1, scores.shape[1] // 10)).values.sum(1)
        if block == self.vlm.shape.tower_layers - 2:
            self._scores = scores

    def encoder_end(self, tokens: EncoderTokens) -> VisualTokens:
        everything = self.vlm.all_visual(tokens)
        crops, patches = self._scores.shape
        budget = floor_share(self.keep, crops * patches)
        whole = min(floor_share(self.full_image_share, budget), patches)
        # With the crops full, what is left goes back to the whole image.
        whole = max(whole, budget - (crops - 1) * patches)
        counts = [whole, *apportion(budget - whole, self._weights[1:].tolist(), [patches] * (crops - 1))]
        chosen = [crop * patches + top_k(self._scores[crop], count) for crop, count in enumerate(counts)]
        kept = torch.cat(chosen)
        return VisualTokens(everything.features[kept], everything.index[kept])
