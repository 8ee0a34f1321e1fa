"""VisionZip: dominant tokens by [CLS] attention, and a few merged from all the others, at the end of the encoder."""

from __future__ import annotations

from typing import ClassVar

from asymsim.catalogue.model import VlmModel
from asymsim.methods.base import Examples, Method, Requirements, register, tower_of
from asymsim.methods.common.operations import (
    average_into,
    gather,
    nearest_in_sequence,
    normalise,
    reduce,
    saliency,
    top_k,
)
from asymsim.methods.common.requirements import attention_layer, vision_tower
from asymsim.methods.schedule import Recycle, Schedule, Step
from asymsim.util.errors import InputError
from asymsim.util.fractions import exact
from asymsim.util.strict import strict_dataclass

# 54 of 64, 108 of 128, 162 of 192, 135 of 160, 270 of 320, 540 of 640: always 27/32 are dominant.
DOMINANT = exact("27/32")


@register("visionzip")
@strict_dataclass
class VisionZip(Method):
    """Dominant tokens and contextual ones, cluster means by key cosines, of each encoder sequence on its own.

    The released code hands [CLS] of each sequence to the projector besides, 54 + 1 + 10 for "64". It is left
    out here, so that ``keep`` means the same budget for all methods.

    The scores are the [CLS] row of the penultimate encoder layer's attention, which therefore runs
    unfused; without [CLS] the mean over all rows. The keys' mean over the heads is the merging metric.

    Parameters
    ----------
    keep : float
        Kept share, dominant and contextual together; 27/32 of it dominant, as in all published settings.
    dominant, contextual : int, optional
        Both numbers outright, for the whole prompt and shared evenly by its crops, instead of ``keep``. The
        paper's: 54 + 10, 108 + 20, 162 + 30 (LLaVA-1.5); 135 + 25, 270 + 50, 540 + 100 (LLaVA-NeXT).
    """

    source: ClassVar[str] = "Yang et al., VisionZip, arXiv 2412.04467, section 3"
    requires: ClassVar[Requirements] = (vision_tower,)
    refused_settings: ClassVar[Examples] = ({"dominant": 54}, {"dominant": -1, "contextual": 1})

    keep: float = 1 / 9
    dominant: int | None = None
    contextual: int | None = None

    def build_schedule(self, model: VlmModel) -> Schedule:
        tower = tower_of(model)
        read = attention_layer(tower, 2)
        return Schedule(
            steps=(self._step(),),
            operations=(
                saliency(tower, read),
                top_k("encoder_end"),
                reduce("encoder_end", rows="tower_tokens*sequences", columns="tower_hidden"),
                normalise("encoder_end", rows="dropped", width="tower_head_size"),
                *nearest_in_sequence("dropped", "merged", "tower_head_size"),
                average_into("encoder_end"),
                gather("encoder_end", rows="kept", width="tower_hidden"),
            ),
            unfused=(("encoder", read),),
        )

    def _step(self) -> Step:
        if (self.dominant is None) != (self.contextual is None):
            raise InputError("visionzip: contextual", self.contextual, "give dominant and contextual together")
        if self.dominant is not None and self.contextual is not None:
            if min(self.dominant, self.contextual) < 0:
                raise InputError("visionzip: dominant", self.dominant, "give numbers of tokens, 0 or more")
            return Step(stage="encoder_end", plus=self.dominant, recycled=Recycle(extra=self.contextual))
        share = exact(self.keep)
        kept = share * DOMINANT
        # Recycling counts in shares of the dropped: (share - kept) N of (1 - kept) N.
        recycled = Recycle(share=exact((share - kept) / (1 - kept)))
        # Rounded up, since the recycled are rounded down: a whole number of tokens is kept exactly.
        return Step(stage="encoder_end", share=exact(kept), rounding="ceil", recycled=recycled)
