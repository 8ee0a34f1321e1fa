"""VL-Cache: per-layer budgets from the sparsity of the attention that the text after the image pays.

Tu et al., VL-Cache, arXiv 2410.23317, section 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from asymsim_reference.attention import column_mass
from asymsim_reference.cache import LayerCache
from asymsim_reference.methods.base import ReferenceMethod, register
from asymsim_reference.proof import ProofCase, ProofCases, with_and_without_cls
from asymsim_reference.run import Result
from asymsim_reference.scores import query_weights
from asymsim_reference.selection import floor_share, top_k
from asymsim_reference.tokens import AttentionTrace, PromptTokens

# A weight below this share of its row's largest counts as zero.
THRESHOLD = 0.01
# No layer keeps less than this share.
LEAST = 0.01


def density(weights_hmn: Tensor) -> float:
    """Share of the causal pairs whose weight is at least a hundredth of the largest of their row."""
    visible = weights_hmn > 0
    heavy = weights_hmn >= THRESHOLD * weights_hmn.amax(-1, keepdim=True)
    return float((heavy & visible).sum() / visible.sum())


def _layer_shares_of_sample(reference: Any, _result: Result) -> dict[str, Any]:
    return {"layer_shares": tuple(reference.shares)}


@register("vl_cache")
@dataclass
class VLCache(ReferenceMethod):
    """In each KV head the entries with the largest sum of post-vision weights stay.

    Parameters
    ----------
    keep : float
        Mean share of the entries over the layers, before layers that would get more than all are cut to that.
    layer_shares : sequence of float, optional
        Share of each layer. Otherwise in proportion to its density, within [1 %, 100 %], as the paper has it.
    """

    # The cost file takes all text to follow the image.
    proof_cases: ClassVar[ProofCases] = (
        *with_and_without_cls(ProofCase(cost={"keep": 0.3}, reference={"layer_shares": (0.3,) * 8}, image_at=0)),
        ProofCase(cost=_layer_shares_of_sample, reference={"keep": 0.3}, image_at=0),
    )

    keep: float = 0.1
    layer_shares: Sequence[float] | None = None

    def after_layer(self, layer: int, tokens: PromptTokens, trace: AttentionTrace) -> None:
        last = int(tokens.visual_index[-1]) if len(tokens.visual_index) else -1
        self._queries = torch.arange(last + 1, len(tokens.hidden))

    def after_prefill(self, traces: Sequence[AttentionTrace], caches: Sequence[LayerCache]) -> None:
        weights = [query_weights(trace, self._queries) for trace in traces]
        shares = self.layer_shares
        if shares is None:
            densities = [density(each) for each in weights]
            total = self.keep * len(densities)
            shares = [min(1.0, max(LEAST, total * each / sum(densities))) for each in densities]
        self.shares = list(shares)
        for each, cache, share in zip(weights, caches, self.shares, strict=True):
            scores_gn = column_mass(each, self.vlm.shape.kv_heads)
            for head, scores in enumerate(scores_gn):
                cache.keep(head, top_k(scores, floor_share(share, len(scores))))
