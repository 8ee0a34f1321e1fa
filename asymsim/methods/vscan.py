"""VScan: global and local scans at the end of the encoder, then a second pruning half-way through the model."""

from __future__ import annotations

from typing import ClassVar

from asymsim.catalogue.model import VlmModel
from asymsim.methods.base import Examples, Method, Requirements, lm_layers, register, tower_of
from asymsim.methods.common.operations import (
    average_into,
    gather,
    nearest_in_sequence,
    normalise,
    recomputed_attention,
    saliency,
    top_k,
)
from asymsim.methods.common.requirements import attention_layer, check_layer, visual_tokens_in_sequence
from asymsim.methods.schedule import Schedule, Step, keep_share
from asymsim.util.errors import InputError
from asymsim.util.fractions import exact
from asymsim.util.strict import strict_dataclass


@register("vscan")
@strict_dataclass
class VScan(Method):
    """Tokens chosen by [CLS] attention of an output and a shallow encoder layer, the rest merged into them;
    then a third of these before the middle layer of the language model.

    The encoder's stage works on each encoder sequence (crop) by itself, and both layers that it reads run
    unfused. The second pruning is that of the whole prompt; the attention of the last instruction token is
    computed anew for it, as in PyramidDrop, on whose code the released one is built.

    Parameters
    ----------
    keep : float
        Mean kept share over the language model's layers: 1/9 is 96 then 32 of 576 tokens on LLaVA-1.5,
        and 16.7 % then a third of these on Qwen2.5-VL.
    second_share : float
        Share of the first pruning's tokens that the second leaves, in (0, 1]; a third in the paper. It
        rises towards 1 where ``keep`` is so large that the first pruning keeps everything.
    layer : int, optional
        Layer before which the second pruning takes place: half of all by default, which is 16 of 32 and
        14 of 28 as in the paper.
    local_layer : int, optional
        Encoder layer of the local scan; a quarter of all by default (our assumption).
    """

    source: ClassVar[str] = "Zhang et al., VScan, arXiv 2505.22654, sections 3 and 4"
    requires: ClassVar[Requirements] = (visual_tokens_in_sequence,)
    refused_settings: ClassVar[Examples] = ({"layer": 32}, {"second_share": 0.0}, {"local_layer": 99})

    keep: float = 1 / 9
    second_share: float = 1 / 3
    layer: int | None = None
    local_layer: int | None = None

    def build_schedule(self, model: VlmModel) -> Schedule:
        tower = tower_of(model)
        depth = lm_layers(model)
        layer = check_layer(model, "vscan: layer", depth // 2 if self.layer is None else self.layer)
        blocks = len(tower.layer_pattern)
        local = blocks // 4 if self.local_layer is None else self.local_layer
        if not 0 <= local < blocks:
            raise InputError("vscan: local_layer", local, f"give a layer from 0 to {blocks - 1}")
        if not 0 < self.second_share <= 1:
            raise InputError("vscan: second_share", self.second_share, "give a share above 0, at most 1")
        keep, second = exact(self.keep), exact(self.second_share)
        first = keep * depth / (layer + (depth - layer) * second)
        final = first * second
        if first > 1:
            first, final = exact(1), (keep * depth - layer) / (depth - layer)
        reads = tuple(dict.fromkeys((attention_layer(tower, blocks - local), attention_layer(tower, 2))))
        return Schedule(
            steps=(
                Step(stage="encoder_end", share=first.limit_denominator(10**9)),
                keep_share(final.limit_denominator(10**9), layer=layer),
            ),
            operations=(
                *(saliency(tower, read) for read in reads),
                top_k("encoder_end", times="2"),
                normalise("encoder_end", rows="tower_tokens*sequences", width="tower_hidden"),
                *nearest_in_sequence("dropped", "kept"),
                average_into("encoder_end"),
                gather("encoder_end", rows="kept", width="tower_hidden"),
                *recomputed_attention(layer),
                top_k("lm", layer),
                gather("lm", layer),
            ),
            unfused=tuple(("encoder", read) for read in reads),
        )
