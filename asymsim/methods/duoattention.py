"""DuoAttention: retrieval heads keep everything, the others sinks and a recent window."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import model_validator

from asymsim.catalogue.model import VlmModel
from asymsim.methods.base import Examples, Family, Method, register
from asymsim.methods.common.operations import cache_gather, query_group
from asymsim.methods.schedule import KvPolicy, Schedule
from asymsim.util.errors import InputError
from asymsim.util.fractions import share_of_all
from asymsim.util.strict import strict_dataclass


@register("duoattention")
@strict_dataclass
class DuoAttention(Method):
    """A share of the KV heads, found by training beforehand, is cached in full; the rest streams.

    Nothing is scored at inference. Prefill is counted dense: streaming heads attend to sinks and window
    alone in the paper, which is not modelled.

    Parameters
    ----------
    keep : float
        Share of the KV heads that keep everything, which is the share of entries kept of a long context.
        Where it is not given: 0.25 with one query head a KV head (MHA), 0.5 with several (GQA), as in the paper.
    retrieval_heads : float, optional
        The same, under the paper's name; goes before ``keep``.
    sinks, recent : int
        Entries of the other heads; 64 and 256 in the released evaluation.
    """

    family: ClassVar[Family] = "kv"
    source: ClassVar[str] = "Xiao et al., DuoAttention, arXiv 2410.10819, section 2; released code"
    refused_settings: ClassVar[Examples] = ({"sinks": -1}, {"retrieval_heads": 2.0})

    retrieval_heads: float | None = None
    sinks: int = 64
    recent: int = 256

    @model_validator(mode="before")
    @classmethod
    def _named(cls, data: Any) -> Any:
        given = getattr(data, "kwargs", None) or {}
        return data if "keep" not in given else type(data)(data.args, {"retrieval_heads": given["keep"], **given})

    def build_schedule(self, model: VlmModel) -> Schedule:
        if min(self.sinks, self.recent) < 0:
            raise InputError("duoattention: sinks", self.sinks, "give numbers of entries, 0 or more")
        heads = self.retrieval_heads
        if heads is None:
            heads = 0.25 if query_group(model) == 1 else 0.5
        return Schedule(
            kv=KvPolicy(
                share=(share_of_all(0),),
                plus=(self.sinks + self.recent,),
                full_heads=share_of_all(heads, "duoattention: retrieval_heads"),
                hold=True,
            ),
            operations=(cache_gather(),),
        )
