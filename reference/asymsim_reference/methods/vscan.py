"""VScan: global and local scans at the end of the encoder, then a second pruning half-way through the model.

Zhang et al., VScan, arXiv 2505.22654, sections 3 and 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from asymsim_reference.merging import merge_into_nearest
from asymsim_reference.methods.base import ReferenceMethod, register
from asymsim_reference.proof import ProofCase, ProofCases, with_and_without_cls
from asymsim_reference.scores import recomputed_attention, saliency
from asymsim_reference.selection import complement, evenly, floor_share, top_k
from asymsim_reference.tokens import AttentionTrace, EncoderTokens, Prompt, PromptTokens, VisualTokens
from asymsim_reference.vlm import SmallVlm


@register("vscan")
@dataclass
class VScan(ReferenceMethod):
    """floor(first N) tokens after the encoder, the rest merged into them, then floor(final N) of them.

    The first ones are shared evenly by the encoder sequences, each scanned and merged by itself. Half of them have
    the most [CLS] attention in the penultimate block; the others, as many from each window of the image as there is
    room for, in a shallow block.

    Parameters
    ----------
    first, final : float
        Shares of all visual tokens.
    layer : int, optional
        Of the language model, before which the second pruning takes place; the middle one.
    local_layer : int, optional
        Encoder block of the local scan; a quarter of all.
    windows : int
        Bands of consecutive patches in each encoder sequence.
    """

    # The mean over the layers is keep: 1.5 keep N tokens, then a third of them in the second half.
    proof_cases: ClassVar[ProofCases] = (
        *with_and_without_cls(ProofCase(cost={"keep": 1 / 3}, reference={"first": 1 / 2, "final": 1 / 6})),
        ProofCase(cost={"keep": 1 / 3}, reference={"first": 1 / 2, "final": 1 / 6}, shape="crops"),
    )

    first: float = 1 / 6
    final: float = 1 / 18
    layer: int | None = None
    local_layer: int | None = None
    windows: int = 4

    def start(self, vlm: SmallVlm, prompt: Prompt) -> None:
        super().start(vlm, prompt)
        self._local = self._global = torch.empty(0)

    def _blocks(self) -> tuple[int, int]:
        blocks = self.vlm.shape.tower_layers
        return (blocks // 4 if self.local_layer is None else self.local_layer), blocks - 2

    def encoder_reads(self) -> frozenset[int]:
        return frozenset(self._blocks())

    def after_block(self, block: int, tokens: EncoderTokens, trace: AttentionTrace) -> None:
        local, last = self._blocks()
        if block in (local, last):
            assert trace.weights is not None
            scores = saliency(trace.weights, tokens.extra)
            self._local = scores if block == local else self._local
            self._global = scores if block == last else self._global

    def encoder_end(self, tokens: EncoderTokens) -> VisualTokens:
        parts = self.vlm.visual_by_sequence(tokens)
        sizes = [len(part.index) for part in parts]
        counts = evenly(floor_share(self.first, sum(sizes)), sizes)
        reduced = []
        for part, size, count, of_all, of_bands in zip(parts, sizes, counts, self._global, self._local, strict=True):
            kept = self._scan(count, of_all, of_bands)
            features = merge_into_nearest(part.features, kept, complement(kept, size))
            reduced.append(VisualTokens(features, part.index[kept]))
        return VisualTokens.join(reduced)

    def _scan(self, count: int, global_n: Tensor, local_n: Tensor) -> Tensor:
        """Of one sequence."""
        salient = top_k(global_n, count // 2)
        rest = complement(salient, len(global_n))
        bands = torch.arange(len(global_n)).tensor_split(self.windows)
        open_places = [band[torch.isin(band, rest)] for band in bands]
        counts = evenly(count - len(salient), [len(places) for places in open_places])
        local = [places[top_k(local_n[places], own)] for places, own in zip(open_places, counts, strict=True)]
        return torch.cat([salient, *local]).sort().values

    def before_layer(self, layer: int, tokens: PromptTokens) -> PromptTokens:
        if layer != (self.vlm.shape.layers // 2 if self.layer is None else self.layer):
            return tokens
        scores = recomputed_attention(self.vlm, layer, tokens)[tokens.visual]
        original = len(self.prompt.patches) * self.vlm.shape.patches
        return tokens.keep_visual(top_k(scores, min(floor_share(self.final, original), len(scores))))
