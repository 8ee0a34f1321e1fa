"""ToMe: in every encoder block the most similar tokens are merged in pairs.

Bolya et al., Token Merging, arXiv 2210.09461, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from asymsim_reference.merging import bipartite_pairs, merge_pairs
from asymsim_reference.methods.base import ReferenceMethod, register
from asymsim_reference.proof import ProofCases, same_settings, with_and_without_cls
from asymsim_reference.scores import patch_keys
from asymsim_reference.selection import as_fraction, floor_share
from asymsim_reference.tokens import AttentionTrace, EncoderTokens


@register("tome")
@dataclass
class ToMe(ReferenceMethod):
    """r merges a block between attention and MLP, at most half of the patches; [CLS] takes no part.

    Parameters
    ----------
    keep : float
        Share left after the last block, reached in equal steps.
    r : int, optional
        Merges a block, instead of ``keep``.
    """

    # From odd counts on, and where nothing is left to merge.
    proof_cases: ClassVar[ProofCases] = (
        *with_and_without_cls(
            *same_settings({"r": 4}, {"r": 6}, {"keep": 0.5}, {"r": 1}, {"r": 0}, {"r": 99}, {"keep": 1.0})
        ),
        *same_settings({"r": 4}, {"r": 3}, {"keep": 0.1}, shape="crops"),
    )

    keep: float = 0.5
    r: int | None = None

    def between(self, block: int, tokens: EncoderTokens, trace: AttentionTrace) -> EncoderTokens:
        present = tokens.index.shape[1]
        wanted = self.r
        if wanted is None:
            left = 1 - (1 - as_fraction(self.keep)) * (block + 1) / self.vlm.shape.tower_layers
            wanted = present - floor_share(left, self.vlm.shape.patches)
        count = min(wanted, present // 2)
        if count <= 0:
            return tokens
        source, target = bipartite_pairs(patch_keys(trace, tokens), count)
        merged, sizes, kept = merge_pairs(tokens.patches, tokens.sizes, source, target)
        return tokens.keep(kept).with_patches(merged, sizes)
