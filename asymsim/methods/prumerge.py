"""LLaVA-PruMerge and PruMerge+: outliers of [CLS] attention stay, their neighbours are merged into them."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import model_validator

from asymsim.catalogue.model import VlmModel
from asymsim.methods.base import Method, Requirements, register, tower_of
from asymsim.methods.common.operations import average_into, gather, normalise, reduce, similarity, top_k
from asymsim.methods.common.published_count import unless_keep
from asymsim.methods.common.requirements import vision_tower
from asymsim.methods.schedule import Recycle, Schedule, keep_share
from asymsim.util.strict import strict_dataclass

NEIGHBOURS = 32


@register("prumerge")
@strict_dataclass
class PruMerge(Method):
    """Tokens whose [CLS] attention is an outlier, each averaged with its 32 nearest, and one for all dropped.

    Each encoder sequence (crop) is pruned by itself and its nearest are its own. Each has a token for all
    dropped, of which one alone is told apart from the outliers, an upper bound where there are several.
    The number of outliers, above Q3 + 1.5 IQR, depends on the image; ``keep`` is its mean with the one
    extra token. [CLS] attention is computed anew from the q and k of the last encoder layer over the whole
    width, as the released code does, so the encoder stays fused; it is compared by the same keys.

    Parameters
    ----------
    keep : float
        Mean kept share. The paper reports 5.5 % (32 of 576) for PruMerge and 25 % for PruMerge+, the
        defaults.
    plus : bool
        PruMerge+: spatially uniform tokens join the outliers.
    """

    source: ClassVar[str] = "Shang et al., LLaVA-PruMerge, arXiv 2403.15388, section 3; released code"
    requires: ClassVar[Requirements] = (vision_tower,)
    tokens_at_zero: ClassVar[int | None] = 1

    keep: float = 1 / 18
    plus: bool = False

    @model_validator(mode="before")
    @classmethod
    def _keep_of_plus(cls, data: Any) -> Any:
        given = getattr(data, "kwargs", None) or {}
        # The command line hands over words.
        plus = str(given.get("plus", "")).lower() in ("true", "1", "yes", "on", "y", "t")
        return unless_keep(data, keep=0.25) if plus else data

    def build_schedule(self, model: VlmModel) -> Schedule:
        tower = tower_of(model)
        # [CLS] alone asks where there is one; without it the mean over all queries stands in.
        queries = "1" if tower.extra_tokens else "tower_tokens"
        return Schedule(
            steps=(keep_share(self.keep, "encoder_end", plus=-1, recycled=Recycle(extra=1)),),
            operations=(
                similarity(
                    "encoder_end", rows=queries, columns="tower_tokens", inner="tower_hidden", times="sequences"
                ),
                reduce("encoder_end", rows=queries, columns="tower_tokens", times="sequences", flops=5),
                # Quartiles need the scores in order.
                top_k("encoder_end", columns="tower_tokens", times="sequences"),
                normalise("encoder_end", rows="tower_tokens*sequences", width="tower_hidden"),
                similarity(
                    "encoder_end",
                    rows="kept/sequences",
                    columns="visual/sequences",
                    inner="tower_hidden",
                    times="sequences",
                ),
                top_k("encoder_end", columns="visual/sequences", times="kept"),
                average_into("encoder_end", rows=f"{NEIGHBOURS}*kept"),
                average_into("encoder_end"),
                gather("encoder_end", rows="kept", width="tower_hidden"),
            ),
        )
