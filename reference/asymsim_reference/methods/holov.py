"""HoloV: the budget is spread over contiguous crops of the image, so that no region is left out.

HoloV: Don't Just Chase 'Highlighted Tokens' in MLLMs, NeurIPS 2025, section 3; released code (utils.py).
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
from asymsim_reference.selection import apportion, floor_share, top_k
from asymsim_reference.tokens import AttentionTrace, EncoderTokens, PromptTokens

# beta of the released code: the weight of the variance, scaled to the attention's mean.
VARIANCE_WEIGHT = 0.09


def crop_score(features_nd: Tensor, attention_n: Tensor) -> float:
    """Mean over the crop's tokens of attention plus weighted variance of their similarities to the others."""
    others = len(features_nd) - 1
    directions = unit(features_nd)
    similarity = (directions @ directions.T).fill_diagonal_(0)
    if others < 1:
        return float(attention_n.mean())
    mean = similarity.sum(1, keepdim=True) / others
    variance = ((similarity - mean) ** 2).sum(1) / others
    scaled = variance * attention_n.abs().mean() / variance.abs().mean().clamp_min(1e-300)
    return float((attention_n + VARIANCE_WEIGHT * scaled).mean())


@register("holov")
@dataclass
class HoloV(ReferenceMethod):
    """floor(keep N) projected tokens; crops get shares by score, and within a crop the most attended stay.

    Attention is that of the penultimate encoder block. Where N is no multiple of ``crops`` the first ones
    have one token more.
    """

    # Contiguous crops of one size: sixteen of four tokens each, and sixteen of three across the encoder's crops.
    proof_cases: ClassVar[ProofCases] = (
        *with_and_without_cls(*same_settings({"keep": 0.25}, {"keep": 0.6, "crops": 8})),
        *same_settings({"keep": 0.25}, shape="crops"),
    )

    keep: float = 1 / 9
    crops: int = 16

    def encoder_reads(self) -> frozenset[int]:
        return frozenset({self.vlm.shape.tower_layers - 2})

    def after_block(self, block: int, tokens: EncoderTokens, trace: AttentionTrace) -> None:
        if trace.weights is not None:
            self._attention = saliency(trace.weights, tokens.extra).flatten()

    def before_layer(self, layer: int, tokens: PromptTokens) -> PromptTokens:
        if layer != 0:
            return tokens
        features = tokens.hidden[tokens.visual]
        places = torch.arange(len(features)).tensor_split(self.crops)
        scores = [crop_score(features[place], self._attention[place]) for place in places if len(place)]
        sizes = [len(place) for place in places if len(place)]
        counts = apportion(floor_share(self.keep, len(features)), scores, sizes)
        chosen = [place[top_k(self._attention[place], count)] for place, count in zip(places, counts, strict=False)]
        return tokens.keep_visual(torch.cat(chosen))
