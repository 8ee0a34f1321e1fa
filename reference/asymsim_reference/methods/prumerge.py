"""LLaVA-PruMerge and PruMerge+: outliers of [CLS] attention stay, their neighbours are merged into them.

Shang et al., LLaVA-PruMerge, arXiv 2403.15388, section 3; released code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from asymsim_reference.layers import attention_weights, join_heads, unit
from asymsim_reference.methods.base import ReferenceMethod, register
from asymsim_reference.proof import ProofCase, ProofCases, with_and_without_cls
from asymsim_reference.run import Result
from asymsim_reference.selection import complement
from asymsim_reference.tokens import AttentionTrace, EncoderTokens, VisualTokens

NEIGHBOURS = 32


def outliers(scores_n: Tensor) -> Tensor:
    """Indices above Q3 + 1.5 (Q3 - Q1), rising."""
    first, third = torch.quantile(scores_n, torch.tensor([0.25, 0.75], dtype=scores_n.dtype)).tolist()
    high: Tensor = scores_n > third + 1.5 * (third - first)
    return high.nonzero()[:, 0]


def _share_of_sample(reference: ReferenceMethod, result: Result) -> dict[str, Any]:
    return {"keep": result.visual[0] / reference.vlm.shape.patches}


def _plus_share_of_sample(reference: ReferenceMethod, result: Result) -> dict[str, Any]:
    return {**_share_of_sample(reference, result), "plus": True}


@register("prumerge")
@dataclass
class PruMerge(ReferenceMethod):
    """Each outlier becomes the mean of its 32 nearest tokens by key, weighted by attention; one more stands for all
    that were dropped.

    Attention is that of the last block's [CLS] over the whole width (one head), from the block's own q and k; without
    [CLS] the mean over all queries. Each encoder sequence is reduced by itself; its extra token stands at its last
    dropped place.

    Parameters
    ----------
    plus : bool
        PruMerge+: as many tokens at even strides join the outliers.
    """

    proof_cases: ClassVar[ProofCases] = with_and_without_cls(
        ProofCase(cost=_share_of_sample),
        ProofCase(cost=_plus_share_of_sample, reference={"plus": True}),
    )

    plus: bool = False

    def after_block(self, block: int, tokens: EncoderTokens, trace: AttentionTrace) -> None:
        if block == self.vlm.shape.tower_layers - 1:
            keys, extra = join_heads(trace.keys), tokens.extra
            queries = join_heads(trace.queries)
            asking = queries[:, :1] if extra else queries
            self._scores = attention_weights(asking, keys).mean(1)[:, extra:]
            self._keys = keys[:, extra:]

    def _chosen(self, scores_n: Tensor) -> Tensor:
        chosen = outliers(scores_n)
        taken = torch.zeros(len(scores_n), dtype=torch.bool)
        taken[chosen] = True
        if self.plus:
            taken[:: max(1, len(taken) // max(1, len(chosen)))] = True
        return taken.nonzero()[:, 0]

    def encoder_end(self, tokens: EncoderTokens) -> VisualTokens:
        own = zip(self.vlm.visual_by_sequence(tokens), self._scores, self._keys, strict=True)
        return VisualTokens.join([self._reduced(*each) for each in own])

    def _reduced(self, everything: VisualTokens, scores_n: Tensor, keys_nd: Tensor) -> VisualTokens:
        """One sequence's tokens."""
        features, count = everything.features, len(scores_n)
        kept = self._chosen(scores_n)
        dropped = complement(kept, count)
        directions = unit(keys_nd)
        # The nearest of all is the token itself.
        nearest = (directions[kept] @ directions.T).topk(min(NEIGHBOURS + 1, count)).indices
        weights = scores_n[nearest]
        merged = (features[nearest] * (weights / weights.sum(1, keepdim=True))[..., None]).sum(1)
        if not len(dropped):
            return VisualTokens(merged, everything.index[kept])
        share = scores_n[dropped] / scores_n[dropped].sum()
        one = (features[dropped] * share[:, None]).sum(0, keepdim=True)
        index, order = torch.cat([kept, dropped[-1:]]).sort()
        return VisualTokens(torch.cat([merged, one])[order], everything.index[index])
