"""VisionZip: dominant tokens by [CLS] attention, and a few merged from all the others.

Yang et al., VisionZip, arXiv 2412.04467, section 3; released code.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from asymsim_reference.layers import unit
from asymsim_reference.merging import average_into
from asymsim_reference.methods.base import ReferenceMethod, register
from asymsim_reference.scores import patch_keys, saliency
from asymsim_reference.selection import complement, top_k
from asymsim_reference.tokens import AttentionTrace, EncoderTokens, VisualTokens


@register("visionzip")
@dataclass
class VisionZip(ReferenceMethod):
    """``dominant`` patch tokens and ``contextual`` cluster means, over all encoder sequences together.

    The contextual tokens are at even strides among the rest, and every other one of the rest is averaged into
    that of the most similar keys. Both scores and keys are those of the penultimate block. ([CLS] itself, which
    the released code hands to the projector besides, stays behind.)
    """

    dominant: int = 54
    contextual: int = 10

    def _block(self) -> int:
        return self.vlm.shape.tower_layers - 2

    def encoder_reads(self) -> frozenset[int]:
        return frozenset({self._block()})

    def after_block(self, block: int, tokens: EncoderTokens, trace: AttentionTrace) -> None:
        if block == self._block():
            assert trace.weights is not None
            self._saliency = saliency(trace.weights, tokens.extra).flatten()
            self._metric = patch_keys(trace, tokens).flatten(0, 1)

    def encoder_end(self, tokens: EncoderTokens) -> VisualTokens:
        everything = self.vlm.all_visual(tokens)
        count = len(everything.features)
        dominant = top_k(self._saliency, min(self.dominant, count))
        rest = complement(dominant, count)
        contextual = min(self.contextual, len(rest))
        stride = max(1, len(rest) // max(1, contextual))
        places = torch.arange(0, len(rest), stride)[:contextual]
        # Compared are all of the rest, so that each contextual token finds itself.
        directions = unit(self._metric[rest])
        similarity = directions @ directions[places].T
        others = complement(places, len(rest))
        features = everything.features[rest]
        merged = features[places]
        if contextual:
            merged = average_into(merged, features[others], similarity[others].argmax(1))
        kept, order = torch.cat([dominant, rest[places]]).sort()
        return VisualTokens(torch.cat([everything.features[dominant], merged])[order], everything.index[kept])
