"""FlashVLM: text similarity and [CLS] saliency choose one half of the budget, diversity the other.

FlashVLM: Text-Guided Visual Token Selection; released code (llava_arch.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from asymsim_reference.layers import unit
from asymsim_reference.methods.base import ReferenceMethod, register
from asymsim_reference.proof import ProofCases, same_settings, with_and_without_cls
from asymsim_reference.scores import saliency
from asymsim_reference.selection import complement, evenly, floor_share, ranking, top_k
from asymsim_reference.tokens import AttentionTrace, EncoderTokens, VisualTokens

# Temperature of the mean over the text tokens, in the released code.
TEMPERATURE = 0.05


def between_0_and_1(scores_n: Tensor) -> Tensor:
    """Shifted and scaled to [0, 1]; equal scores become 0."""
    return (scores_n - scores_n.min()) / (scores_n.max() - scores_n.min()).clamp_min(1e-300)


@register("flashvlm")
@dataclass
class FlashVLM(ReferenceMethod):
    """floor(keep N) tokens: ``important_share`` of them by the geometric mean of text relevance and saliency.

    They are shared evenly by the encoder sequences, each pruned by itself (our reading).
    All tokens are projected for their cosines with the text embeddings. Of the residual tokens the
    closest duplicates leave, a few at a time, until the budget is met: each at an even place is compared with
    all at odd places. (The released code sharpens the contrast of the text relevance besides.)
    """

    # Without a diverse half: what that costs is bounded, not counted (test_bounds).
    proof_cases: ClassVar[ProofCases] = (
        *with_and_without_cls(*same_settings({"keep": 0.25, "important_share": 1.0})),
        *same_settings({"keep": 0.25, "important_share": 1.0}, shape="crops"),
    )

    keep: float = 1 / 9
    important_share: float = 0.5
    removed_at_once: int = 8

    def encoder_reads(self) -> frozenset[int]:
        return frozenset({self.vlm.shape.tower_layers - 2})

    def after_block(self, block: int, tokens: EncoderTokens, trace: AttentionTrace) -> None:
        if trace.weights is not None:
            self._saliency = saliency(trace.weights, tokens.extra)

    def encoder_end(self, tokens: EncoderTokens) -> VisualTokens:
        parts = self.vlm.visual_by_sequence(tokens)
        sizes = [len(part.index) for part in parts]
        counts = evenly(floor_share(self.keep, sum(sizes)), sizes)
        own = zip(parts, self._saliency, counts, strict=True)
        return VisualTokens.join([self._reduced(*each) for each in own])

    def _reduced(self, everything: VisualTokens, saliency_n: Tensor, count: int) -> VisualTokens:
        """One sequence's tokens."""
        projected = unit(self.vlm.project(everything.features))
        cosine_nl = projected @ unit(self.vlm.embed_text(self.prompt.text)).T
        relevance = (torch.softmax(cosine_nl / TEMPERATURE, 1) * cosine_nl).sum(1)
        fused = (between_0_and_1(saliency_n) * between_0_and_1(relevance)).sqrt()
        important = top_k(fused, floor_share(self.important_share, count))
        rest = complement(important, len(fused))
        rest = rest[ranking(fused[rest])]
        diverse = self._without_duplicates(unit(everything.features), rest, count - len(important))
        kept = torch.cat([important, diverse]).sort().values
        return VisualTokens(everything.features[kept], everything.index[kept])

    def _without_duplicates(self, directions_nd: Tensor, rest: Tensor, count: int) -> Tensor:
        if not count:
            return rest[:0]
        while len(rest) > count:
            even, odd = rest[::2], rest[1::2]
            closest = (directions_nd[even] @ directions_nd[odd].T).max(1).values
            leaving = min(self.removed_at_once, len(rest) - count, len(odd))
            rest = torch.cat([even[ranking(closest)[leaving:]], odd])
        return rest
