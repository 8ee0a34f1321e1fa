"""VisionZip: dominant tokens by [CLS] attention, and a few merged from all the others.

Yang et al., VisionZip, arXiv 2412.04467, section 3; released code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from asymsim_reference.layers import unit
from asymsim_reference.merging import average_into
from asymsim_reference.methods.base import ReferenceMethod, register
from asymsim_reference.proof import ProofCase, ProofCases, same_settings, with_and_without_cls
from asymsim_reference.scores import patch_keys, saliency
from asymsim_reference.selection import complement, evenly, top_k
from asymsim_reference.tokens import AttentionTrace, EncoderTokens, VisualTokens


@register("visionzip")
@dataclass
class VisionZip(ReferenceMethod):
    """``dominant`` patch tokens and ``contextual`` cluster means, shared evenly by the encoder sequences.

    Each sequence is reduced by itself. The contextual tokens are at even strides among the rest, and every other one
    of the rest is averaged into that of the most similar keys. Both scores and keys are those of the penultimate
    block. ([CLS] itself, which the released code hands to the projector besides, stays behind.)
    """

    proof_cases: ClassVar[ProofCases] = (
        *with_and_without_cls(
            *same_settings({"dominant": 27, "contextual": 5}),
            ProofCase(cost={"keep": 0.5}, reference={"dominant": 27, "contextual": 5}),
            # 27/32 of 16 is no whole number; the two add up to 16 all the same.
            ProofCase(cost={"keep": 0.25}, reference={"dominant": 14, "contextual": 2}),
        ),
        *same_settings({"dominant": 15, "contextual": 6}, shape="crops"),
    )

    dominant: int = 54
    contextual: int = 10

    def _block(self) -> int:
        return self.vlm.shape.tower_layers - 2

    def encoder_reads(self) -> frozenset[int]:
        return frozenset({self._block()})

    def after_block(self, block: int, tokens: EncoderTokens, trace: AttentionTrace) -> None:
        if block == self._block():
            assert trace.weights is not None
            self._saliency = saliency(trace.weights, tokens.extra)
            self._metric = patch_keys(trace, tokens)

    def encoder_end(self, tokens: EncoderTokens) -> VisualTokens:
        parts = self.vlm.visual_by_sequence(tokens)
        sizes = [len(part.index) for part in parts]
        dominant = evenly(self.dominant, sizes)
        contextual = evenly(self.contextual, [size - count for size, count in zip(sizes, dominant, strict=True)])
        own = zip(parts, self._saliency, self._metric, dominant, contextual, strict=True)
        return VisualTokens.join([self._reduced(*each) for each in own])

    @staticmethod
    def _reduced(
        everything: VisualTokens, saliency_n: Tensor, metric_nd: Tensor, dominant_count: int, contextual: int
    ) -> VisualTokens:
        """One sequence's tokens."""
        dominant = top_k(saliency_n, dominant_count)
        rest = complement(dominant, len(everything.features))
        stride = max(1, len(rest) // max(1, contextual))
        places = torch.arange(0, len(rest), stride)[:contextual]
        # Compared are all of the rest, so that each contextual token finds itself.
        directions = unit(metric_nd[rest])
        similarity = directions @ directions[places].T
        others = complement(places, len(rest))
        features = everything.features[rest]
        merged = features[places]
        if contextual:
            merged = average_into(merged, features[others], similarity[others].argmax(1))
        kept, order = torch.cat([dominant, rest[places]]).sort()
        return VisualTokens(torch.cat([everything.features[dominant], merged])[order], everything.index[kept])
