"""FastV: after layer K-1, keep the image tokens that the last token attends to most."""

from __future__ import annotations

from typing import ClassVar

from asymsim.catalogue.model import VlmModel
from asymsim.methods.base import Examples, Method, lm_layers, register
from asymsim.methods.common.operations import gather, head_mean, top_k
from asymsim.methods.schedule import Schedule, keep_share
from asymsim.util.errors import InputError
from asymsim.util.strict import strict_dataclass


@register("fastv")
@strict_dataclass
class FastV(Method):
    """Layers 0 to K-1 see everything, the rest round(keep N) image tokens.

    The scores are layer K-1's attention weights at the last token, averaged over heads, so that layer
    must run unfused. The official masking variant shortens nothing and saves nothing.

    Parameters
    ----------
    keep : float
        1 - R of the paper.
    layer : int
        K, at least 1; 2 in the paper.
    masking : bool
        The variant that only masks.
    """

    source: ClassVar[str] = "Chen et al., An Image is Worth 1/2 Tokens After Layer 2, arXiv 2403.06764, section 4"
    refused_settings: ClassVar[Examples] = ({"layer": 0},)

    layer: int = 2
    masking: bool = False

    def build_schedule(self, model: VlmModel) -> Schedule:
        if not 1 <= self.layer < lm_layers(model):
            raise InputError("fastv: layer", self.layer, f"give a layer from 1 to {lm_layers(model) - 1}")
        return Schedule(
            steps=(keep_share(self.keep, layer=self.layer, rounding="nearest"),),
            operations=(head_mean(self.layer), top_k("lm", self.layer), gather("lm", self.layer)),
            unfused=(("lm", self.layer - 1),),
            masking=self.masking,
        )
