"""SparseVLM: three prunings by the attention of chosen text tokens, with some of the dropped tokens recycled.

Zhang et al., SparseVLM, arXiv 2410.04417, section 3; released code (score.py, utils.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from asymsim_reference.merging import cluster_means, density_peaks
from asymsim_reference.methods.base import ReferenceMethod, register
from asymsim_reference.proof import ProofCases, same_settings, with_and_without_cls
from asymsim_reference.selection import complement, top_k
from asymsim_reference.tokens import AttentionTrace, PromptTokens


@register("sparsevlm")
@dataclass
class SparseVLM(ReferenceMethod):
    """After each of ``layers``, ``counts`` tokens stay and a few merged ones join them.

    Text raters are chosen before layer 0: those whose softmaxed similarity, averaged over the visual
    tokens, is above the mean. Of D dropped tokens the floor(0.3 D) + 1 best are clustered into
    floor(that / 10) + 1, each of which stands where its cluster's centre stood.
    """

    # Pools of 8, 7 and 5 tokens; of a single dropped token; where nothing is dropped, and where everything is.
    proof_cases: ClassVar[ProofCases] = with_and_without_cls(
        *same_settings(
            *({"counts": counts, "layers": (1, 3, 5)} for counts in ((40, 20, 6), (63, 61, 0), (64, 64, 1), (0, 0, 0)))
        )
    )

    counts: tuple[int, int, int] = (300, 200, 110)
    layers: tuple[int, int, int] = (2, 6, 15)

    def lm_reads(self) -> frozenset[int]:
        return frozenset(self.layers)

    def after_layer(self, layer: int, tokens: PromptTokens, trace: AttentionTrace) -> None:
        if layer in self.layers:
            assert trace.weights is not None
            raters = torch.isin(tokens.positions, self._raters)
            self._scores = trace.weights.mean(0)[raters][:, tokens.visual].mean(0)

    def before_layer(self, layer: int, tokens: PromptTokens) -> PromptTokens:
        if layer == 0:
            similarity = tokens.hidden[tokens.visual] @ tokens.hidden[~tokens.visual].T
            relevance = torch.softmax(similarity / tokens.hidden.shape[1] ** 0.5, 1).mean(0)
            self._raters = tokens.positions[~tokens.visual][relevance >= relevance.mean()]
        if layer - 1 not in self.layers:
            return tokens
        visual = tokens.visual_index
        kept = top_k(self._scores, min(self.counts[self.layers.index(layer - 1)], len(visual)))
        dropped = complement(kept, len(visual))
        if not len(dropped):
            return tokens
        pool_size = min(3 * len(dropped) // 10 + 1, len(dropped))
        pool = dropped[top_k(self._scores[dropped], pool_size)]
        merged_count = min(pool_size // 10 + 1, pool_size)
        features = tokens.hidden[visual[pool]]
        centres, nearest = density_peaks(features, merged_count)
        hidden = tokens.hidden.clone()
        hidden[visual[pool[centres]]] = cluster_means(features, nearest, merged_count)
        return tokens.with_hidden(hidden).keep_visual(torch.cat([kept, pool[centres]]).sort().values)
