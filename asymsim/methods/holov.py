"""HoloV: the budget is spread over contiguous crops of the image, so that no region is left out."""

from __future__ import annotations

from typing import ClassVar

from asymsim.catalogue.model import VlmModel
from asymsim.methods.base import Examples, Method, Requirements, register, tower_of
from asymsim.methods.common.operations import gather, normalise, reduce, saliency, similarity, top_k
from asymsim.methods.common.requirements import attention_layer, vision_tower
from asymsim.methods.schedule import Schedule, keep_share
from asymsim.util.errors import InputError
from asymsim.util.strict import strict_dataclass


@register("holov")
@strict_dataclass
class HoloV(Method):
    """floor(keep N) tokens over 16 crops in proportion to their scores, by [CLS] attention within each.

    Runs on projected tokens before the language model, so the projector sees all of them, and the crops are
    those of the whole prompt, not the encoder's. A crop's score combines attention with the variance of the
    cosine similarities within it: (N/16) x (N/16) x hidden for each of 16. Where N is no multiple of them the
    first have one token more, and all are charged like these. The penultimate encoder layer's attention is
    read, so it runs unfused.

    Parameters
    ----------
    keep : float
        Kept share.
    crops : int
        Contiguous crops, at least 1; 16 in the released code.
    """

    source: ClassVar[str] = (
        "HoloV: Don't Just Chase 'Highlighted Tokens' in MLLMs, NeurIPS 2025, section 3; released code (utils.py)"
    )
    requires: ClassVar[Requirements] = (vision_tower,)
    refused_settings: ClassVar[Examples] = ({"crops": 0},)

    keep: float = 1 / 9
    crops: int = 16

    def build_schedule(self, model: VlmModel) -> Schedule:
        tower = tower_of(model)
        if self.crops < 1:
            raise InputError("holov: crops", self.crops, "give at least 1")
        read = attention_layer(tower, 2)
        crop = f"visual/{self.crops}"
        return Schedule(
            steps=(keep_share(self.keep),),
            operations=(
                saliency(tower, read),
                normalise("lm", 0),
                similarity("lm", 0, rows=crop, columns=crop, times=str(self.crops)),
                # Mean and variance of each token's similarities: add; subtract, square and add.
                reduce("lm", 0, rows=crop, columns=crop, times=str(self.crops), flops=4),
                top_k("lm", 0),
                gather("lm", 0, rows="kept"),
            ),
            unfused=(("encoder", read),),
        )
