"""PyramidKV: the votes of SnapKV, and budgets that fall linearly from the first layer to the last."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import model_validator

from asymsim.catalogue.model import VlmModel
from asymsim.methods.base import Examples, Family, Method, Requirements, lm_layers, register
from asymsim.methods.common.operations import cache_gather, cache_scores, reduce, top_k
from asymsim.methods.common.published_count import unless_keep
from asymsim.methods.common.requirements import scored_cache
from asymsim.methods.schedule import KvPolicy, Schedule
from asymsim.util.errors import InputError
from asymsim.util.fractions import exact, share_of_all
from asymsim.util.strict import strict_dataclass

# beta of the released code: the last layer keeps a twentieth of the mean.
FLATNESS = 20


@register("pyramidkv")
@strict_dataclass
class PyramidKV(Method):
    """Layer l keeps max - l ((max - min) // (layers - 1)) voted entries and the window of the last queries.

    With B = capacity - window: min = B // 20, max = 2 B - min. A prompt shorter than the largest budget keeps
    everything there; the released code then moves the rest to later layers, which a fixed count cannot say.

    Parameters
    ----------
    keep : float
        Mean share of the prompt's entries, instead of a capacity: layer shares fall linearly from at most
        39/20 of it (and at most 1) to what leaves this mean.
    capacity : int, optional
        Mean entries a layer keeps, window included, instead of ``keep``; 2,048 unless ``keep`` is given.
    window : int
        Queries that vote, at least 1; 32 as in SnapKV.
    pooling : int
        Width of the average pooling, at least 1; 5.
    """

    family: ClassVar[Family] = "kv"
    source: ClassVar[str] = "Cai et al., PyramidKV, arXiv 2406.02069, section 4; released code"
    requires: ClassVar[Requirements] = (scored_cache,)
    refused_settings: ClassVar[Examples] = ({"capacity": 8},)

    capacity: int | None = None
    window: int = 32
    pooling: int = 5

    @model_validator(mode="before")
    @classmethod
    def _published(cls, data: Any) -> Any:
        return unless_keep(data, capacity=2048)

    def build_schedule(self, model: VlmModel) -> Schedule:
        if min(self.window, self.pooling) < 1:
            raise InputError("pyramidkv: window", self.window, "give a window and a pooling of at least 1")
        return Schedule(
            kv=self._policy(lm_layers(model)),
            operations=(
                *cache_scores(model, str(self.window)),
                reduce("kv", rows="heads", columns="tokens", flops=self.pooling),
                top_k("kv", columns="tokens", times="kv_heads"),
                cache_gather(),
            ),
        )

    def _policy(self, layers: int) -> KvPolicy:
        falls = max(1, layers - 1)
        if self.capacity is None:
            keep = share_of_all(self.keep)
            highest = min(exact("1"), keep * (2 * FLATNESS - 1) / FLATNESS)
            lowest = 2 * keep - highest
            shares = (highest - layer * (highest - lowest) / falls for layer in range(layers))
            return KvPolicy(share=tuple(share.limit_denominator(10**9) for share in shares))
        if self.capacity < self.window:
            raise InputError("pyramidkv: capacity", self.capacity, f"give at least the window of {self.window}")
        voted = self.capacity - self.window
        lowest_count = voted // FLATNESS
        highest_count = 2 * voted - lowest_count
        fall = (highest_count - lowest_count) // falls
        return KvPolicy(
            share=(share_of_all(0),),
            plus=tuple(highest_count - layer * fall + self.window for layer in range(layers)),
        )
