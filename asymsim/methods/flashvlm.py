"""FlashVLM: text similarity and [CLS] saliency choose one half of the budget, diversity the other."""

from __future__ import annotations

from typing import ClassVar

from asymsim.catalogue.model import VlmModel
from asymsim.methods.base import Examples, Method, Requirements, register, tower_of
from asymsim.methods.common.operations import gather, normalise, reduce, saliency, similarity, top_k
from asymsim.methods.common.requirements import attention_layer, vision_tower
from asymsim.methods.schedule import Operation, Schedule, keep_share
from asymsim.util.errors import InputError
from asymsim.util.strict import strict_dataclass


@register("flashvlm")
@strict_dataclass
class FlashVLM(Method):
    """All tokens are projected once for cosines with the text, fused with [CLS] attention; then the residual
    tokens lose their closest duplicates, a few at a time, and what is left is projected again.

    The penultimate encoder layer runs unfused. Each removal compares the residual tokens at even and at
    odd places, (n/2) x (n/2) x width, and is counted on all tokens of a sequence, an upper bound as long as
    no more leave at once than half of them. That crops are pruned each by itself is our reading.

    Parameters
    ----------
    keep : float
        Kept share; the released scripts keep 64, 128 and 256 of 576.
    important_share : float
        Share of the budget chosen by the fused score, in [0, 1]; 0.5 in the released code.
    removed_at_once : int
        Duplicates that leave in one comparison, at least 1; 8 in the released code.
    """

    source: ClassVar[str] = "FlashVLM: Text-Guided Visual Token Selection; released code (llava_arch.py)"
    requires: ClassVar[Requirements] = (vision_tower,)
    refused_settings: ClassVar[Examples] = ({"removed_at_once": 0}, {"important_share": -1.0})

    keep: float = 1 / 9
    important_share: float = 0.5
    removed_at_once: int = 8

    def build_schedule(self, model: VlmModel) -> Schedule:
        tower = tower_of(model)
        if not 0 <= self.important_share <= 1:
            raise InputError("flashvlm: important_share", self.important_share, "give a share between 0 and 1")
        if self.removed_at_once < 1:
            raise InputError("flashvlm: removed_at_once", self.removed_at_once, "give at least 1")
        read = attention_layer(tower, 2)
        linears = model.projector.linears if model.projector else ()
        projected = (
            Operation(
                kind="projection",
                stage="encoder_end",
                rows="visual",
                columns=str(linear.outputs),
                inner=str(linear.inputs),
            )
            for linear in linears
            if linear.rows == "tokens"
        )
        half = "visual/sequences/2"
        removals = f"dropped/sequences/{self.removed_at_once}*sequences"
        compared = similarity("encoder_end", rows=half, columns=half, inner="tower_hidden", times=removals)
        return Schedule(
            steps=(keep_share(self.keep, "encoder_end"),),
            operations=(
                saliency(tower, read),
                *projected,
                normalise("encoder_end"),
                normalise("encoder_end", rows="text"),
                similarity("encoder_end", rows="visual", columns="text"),
                reduce("encoder_end", rows="visual", columns="text", flops=6),
                top_k("encoder_end"),
                normalise("encoder_end", width="tower_hidden"),
                *((compared,) if self.important_share < 1 else ()),
                gather("encoder_end", rows="kept", width="tower_hidden"),
            ),
            unfused=(("encoder", read),),
        )
