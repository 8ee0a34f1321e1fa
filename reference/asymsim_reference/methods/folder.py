"""FOLDER: many bipartite merges at once in one of the last encoder blocks.

Wang et al., FOLDER, arXiv 2501.02430, section 3; released code (patch/folder.py, merge.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from asymsim_reference.merging import bipartite_pairs, merge_pairs
from asymsim_reference.methods.base import ReferenceMethod, register
from asymsim_reference.proof import ProofCases, same_settings, with_and_without_cls
from asymsim_reference.scores import patch_keys, saliency
from asymsim_reference.selection import floor_share
from asymsim_reference.tokens import AttentionTrace, EncoderTokens

# alpha of the released code, times 100: the weight by which a token's [CLS] attention lowers its similarities.
SALIENCY_WEIGHT = 100.0


@register("folder")
@dataclass
class Folder(ReferenceMethod):
    """Folds between attention and MLP until floor(keep N) tokens are left, each merging at most half of them.

    After a fold the metric is merged like the tokens, and a merged token's [CLS] attention is the mean of its parts.
    """

    proof_cases: ClassVar[ProofCases] = (
        *with_and_without_cls(
            *same_settings(*({"keep": keep} for keep in (0.34, 0.1, 0.0, 1.0)), {"keep": 0.75, "blocks_from_end": 1})
        ),
        *same_settings({"keep": 0.34}, shape="crops"),
    )

    keep: float = 0.34
    blocks_from_end: int = 2

    def _block(self) -> int:
        return self.vlm.shape.tower_layers - self.blocks_from_end

    def encoder_reads(self) -> frozenset[int]:
        return frozenset({self._block()})

    def between(self, block: int, tokens: EncoderTokens, trace: AttentionTrace) -> EncoderTokens:
        if block != self._block():
            return tokens
        assert trace.weights is not None
        target_count = floor_share(self.keep, self.vlm.shape.patches)
        metric, attended = patch_keys(trace, tokens), saliency(trace.weights, tokens.extra)
        while (present := tokens.index.shape[1]) > max(target_count, 1):
            count = min(present - target_count, present // 2)
            pairs = bipartite_pairs(metric, count, SALIENCY_WEIGHT * attended)
            metric = merge_pairs(metric, tokens.sizes, *pairs)[0]
            attended = merge_pairs(attended[..., None], tokens.sizes, *pairs)[0][..., 0]
            merged, sizes, kept = merge_pairs(tokens.patches, tokens.sizes, *pairs)
            tokens = tokens.keep(kept).with_patches(merged, sizes)
        return tokens
