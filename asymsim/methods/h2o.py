"""H2O: heavy hitters of accumulated attention and a recent window, held at each decode step."""

from __future__ import annotations

from typing import ClassVar

from asymsim.catalogue.model import VlmModel
from asymsim.methods.base import Examples, Family, Method, Requirements, lm_layers, register
from asymsim.methods.common.operations import cache_gather, decode_scores, reduce, top_k
from asymsim.methods.common.requirements import scored_cache
from asymsim.methods.schedule import KvPolicy, Schedule
from asymsim.util.errors import InputError
from asymsim.util.fractions import share_of_all
from asymsim.util.strict import strict_dataclass


@register("h2o")
@strict_dataclass
class H2O(Method):
    """Of the prompt's entries, per layer and head, those with the most accumulated attention and the latest.

    All prefill attention weights are summed over their queries, so every layer runs unfused. While decoding
    the budget holds: each step adds its weights to the sums and evicts the lowest, the recent half excepted.
    Fused decode kernels do not give weights away, so the scores are counted once more; where everything is kept,
    there is no budget to hold and nothing is scored.

    Parameters
    ----------
    keep : float
        Heavy and recent together over the prompt's entries; 0.1 + 0.1 by default.
    recent_share : float
        The recent part of the budget, in [0, 1]: protected, not scored. It moves no cost.
    """

    family: ClassVar[Family] = "kv"
    source: ClassVar[str] = "Zhang et al., H2O, arXiv 2306.14048, section 4"
    requires: ClassVar[Requirements] = (scored_cache,)
    refused_settings: ClassVar[Examples] = ({"recent_share": 7.0},)

    keep: float = 0.2
    recent_share: float = 0.5

    def build_schedule(self, model: VlmModel) -> Schedule:
        if not 0 <= self.recent_share <= 1:
            raise InputError("h2o: recent_share", self.recent_share, "give a share between 0 and 1")
        kept = share_of_all(self.keep)
        held = (*decode_scores(model), reduce("decode", rows="kv_heads", columns="kv")) if kept < 1 else ()
        return Schedule(
            kv=KvPolicy(share=(kept,), hold=kept < 1),
            operations=(
                reduce("kv", rows="heads*tokens", columns="tokens"),
                top_k("kv", columns="tokens", times="kv_heads"),
                cache_gather(),
                *held,
            ),
            unfused=tuple(("lm", layer) for layer in range(lm_layers(model))),
        )
