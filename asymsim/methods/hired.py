"""HiRED: a fixed budget divided over the crops of a high-resolution image by early [CLS] attention."""

from __future__ import annotations

from typing import ClassVar

from asymsim.catalogue.model import VlmModel
from asymsim.methods.base import Examples, Method, Requirements, register, tower_of
from asymsim.methods.common.operations import gather, reduce, saliency, top_k
from asymsim.methods.common.requirements import attention_layer, several_crops, vision_tower
from asymsim.methods.schedule import Schedule, keep_share
from asymsim.util.errors import InputError
from asymsim.util.strict import strict_dataclass


@register("hired")
@strict_dataclass
class HiRED(Method):
    """Part of the budget goes to the whole image, the rest to the crops; within each, top [CLS] attention.

    The crops' shares follow their [CLS] attention at encoder layer 0, the choice within a crop that at the
    penultimate layer (22 of 24), so both run unfused. The total is floor(keep N) however it is divided.

    Parameters
    ----------
    keep : float
        The budget as a share of all visual tokens; 0.2 in the paper.
    full_image_share : float
        alpha, the share of the budget that the whole image gets, in [0, 1]; 0.5 in the paper. It moves
        tokens between crops, not their number.
    """

    source: ClassVar[str] = "Arif et al., HiRED, arXiv 2408.10945, section 3"
    requires: ClassVar[Requirements] = (vision_tower, several_crops)
    refused_settings: ClassVar[Examples] = ({"full_image_share": 2.0},)

    keep: float = 0.2
    full_image_share: float = 0.5

    def build_schedule(self, model: VlmModel) -> Schedule:
        tower = tower_of(model)
        if not 0 <= self.full_image_share <= 1:
            raise InputError("hired: full_image_share", self.full_image_share, "give a share between 0 and 1")
        reads = tuple(dict.fromkeys((attention_layer(tower, len(tower.layer_pattern)), attention_layer(tower, 2))))
        return Schedule(
            steps=(keep_share(self.keep, "encoder_end"),),
            operations=(
                *(saliency(tower, layer) for layer in reads),
                reduce("encoder_end", rows="tower_tokens", columns="sequences"),
                top_k("encoder_end", columns="tower_tokens", times="sequences"),
                gather("encoder_end", rows="kept", width="tower_hidden"),
            ),
            unfused=tuple(("encoder", layer) for layer in reads),
        )
