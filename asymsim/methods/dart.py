"""DART: pivots by key norm, and the image tokens that resemble them least, without any attention weights."""

from __future__ import annotations

from typing import ClassVar

from asymsim.catalogue.model import VlmModel
from asymsim.methods.base import Examples, Method, Requirements, register
from asymsim.methods.common.operations import gather, normalise, reduce, similarity, top_k
from asymsim.methods.common.requirements import check_layer, visual_tokens_in_sequence
from asymsim.methods.schedule import Schedule, keep_share
from asymsim.util.errors import InputError
from asymsim.util.strict import strict_dataclass


@register("dart")
@strict_dataclass
class DART(Method):
    """After ``layer`` layers floor(keep N) image tokens stay: pivots, and those least similar to them.

    Pivots are the image and text tokens with the largest L1 norm of their keys in the layer before; then
    cosine similarity of the normed hidden states to each pivot. Fused kernels stay. (The released code
    rounds the number down to a multiple of all pivots and keeps the image pivots besides.)

    Parameters
    ----------
    keep : float
        Kept share after that layer; the paper keeps 192, 128 and 64 of 576.
    layer : int
        Layers that see everything, at least 1; 2 in the paper.
    image_pivots, text_pivots : int
        4 and 4 in the paper.
    """

    source: ClassVar[str] = "Wen et al., Duplication Matters More (DART), arXiv 2502.11494, section 3; released code"
    requires: ClassVar[Requirements] = (visual_tokens_in_sequence,)
    refused_settings: ClassVar[Examples] = ({"layer": 0}, {"image_pivots": -1})

    keep: float = 2 / 9
    layer: int = 2
    image_pivots: int = 4
    text_pivots: int = 4

    def build_schedule(self, model: VlmModel) -> Schedule:
        check_layer(model, "dart: layer", self.layer)
        if min(self.image_pivots, self.text_pivots) < 0:
            raise InputError("dart: image_pivots", self.image_pivots, "give numbers of pivots, 0 or more")
        pivots = str(self.image_pivots + self.text_pivots)
        return Schedule(
            steps=(keep_share(self.keep, layer=self.layer),),
            operations=(
                # kv_width holds keys and values; a key alone is kv_heads x head_size wide.
                reduce("lm", self.layer, rows="tokens", columns="kv_heads*head_size", flops=2),
                top_k("lm", self.layer, columns="tokens"),
                normalise("lm", self.layer, "tokens"),
                similarity("lm", self.layer, rows=pivots, columns="visual"),
                top_k("lm", self.layer, times=pivots),
                gather("lm", self.layer),
            ),
        )
