"""SnapKV: the last queries of the prompt vote for the cache entries that stay, in each head."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import model_validator

from asymsim.catalogue.model import VlmModel
from asymsim.methods.base import Examples, Family, Method, Requirements, register
from asymsim.methods.common.operations import cache_gather, cache_scores, reduce, top_k
from asymsim.methods.common.published_count import unless_keep
from asymsim.methods.common.requirements import scored_cache
from asymsim.methods.schedule import KvPolicy, Schedule
from asymsim.util.errors import InputError
from asymsim.util.fractions import share_of_all
from asymsim.util.strict import strict_dataclass


@register("snapkv")
@strict_dataclass
class SnapKV(Method):
    """Once after prefill: scores of the last queries against all keys, pooled along the sequence, top-k a head.

    Generated tokens join the cache. The queries' window itself always stays and is part of the budget.

    Parameters
    ----------
    keep : float
        Share of the prompt's entries, instead of a fixed capacity.
    capacity : int, optional
        Entries a head keeps of the prompt, instead of ``keep``; 1,024 unless ``keep`` is given (the
        paper also has 2,048 and 4,096).
    window : int
        Queries that vote, at least 1; 32.
    pooling : int
        Width of the average pooling, at least 1; 5.
    """

    family: ClassVar[Family] = "kv"
    source: ClassVar[str] = "Li et al., SnapKV, arXiv 2404.14469, section 4"
    requires: ClassVar[Requirements] = (scored_cache,)
    refused_settings: ClassVar[Examples] = ({"capacity": 8}, {"window": 0})

    capacity: int | None = None
    window: int = 32
    pooling: int = 5

    @model_validator(mode="before")
    @classmethod
    def _published(cls, data: Any) -> Any:
        return unless_keep(data, capacity=1024)

    def build_schedule(self, model: VlmModel) -> Schedule:
        if min(self.window, self.pooling) < 1:
            raise InputError("snapkv: window", self.window, "give a window and a pooling of at least 1")
        if self.capacity is None:
            policy = KvPolicy(share=(share_of_all(self.keep),))
        elif self.capacity < self.window:
            raise InputError("snapkv: capacity", self.capacity, f"give at least the window of {self.window}")
        else:
            policy = KvPolicy(share=(share_of_all(0),), plus=(self.capacity,))
        return Schedule(
            kv=policy,
            operations=(
                *cache_scores(model, str(self.window)),
                reduce("kv", rows="heads", columns="tokens", flops=self.pooling),
                top_k("kv", columns="tokens", times="kv_heads"),
                cache_gather(),
            ),
        )
