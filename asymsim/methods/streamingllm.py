"""StreamingLLM: attention sinks and a recent window, whatever the length."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import model_validator

from asymsim.catalogue.model import VlmModel
from asymsim.methods.base import Examples, Family, Method, register
from asymsim.methods.common.operations import cache_gather
from asymsim.methods.common.published_count import unless_keep
from asymsim.methods.schedule import KvPolicy, Operation, Schedule
from asymsim.util.errors import InputError
from asymsim.util.fractions import share_of_all
from asymsim.util.strict import strict_dataclass


@register("streamingllm")
@strict_dataclass
class StreamingLLM(Method):
    """The first ``sinks`` entries and the last ``window`` stay; each new token pushes the oldest other one out.

    Nothing is scored. Keys are cached without positions and rotated anew at each step, since positions
    count within the cache. Prefill is dense.

    Parameters
    ----------
    keep : float
        Share of the prompt's entries that stays, sinks included, instead of a fixed window.
    sinks : int
        4 in the paper. Part of the share where ``keep`` is given.
    window : int, optional
        Recent entries, instead of ``keep``; 512 unless ``keep`` is given (the paper has up to 2,000).
    """

    family: ClassVar[Family] = "kv"
    source: ClassVar[str] = "Xiao et al., StreamingLLM, arXiv 2309.17453, section 3"
    refused_settings: ClassVar[Examples] = ({"window": -1},)

    sinks: int = 4
    window: int | None = None

    @model_validator(mode="before")
    @classmethod
    def _published(cls, data: Any) -> Any:
        return unless_keep(data, window=512)

    def build_schedule(self, model: VlmModel) -> Schedule:
        if self.sinks < 0 or (self.window is not None and self.window < 0):
            raise InputError("streamingllm: window", self.window, "give numbers of entries, 0 or more")
        if self.window is None:
            kept = share_of_all(self.keep)
            policy = KvPolicy(share=(kept,), hold=kept < 1)
        else:
            policy = KvPolicy(share=(share_of_all(0),), plus=(self.sinks + self.window,), hold=True)
        rotate = Operation(
            kind="elementwise", stage="decode", rows="kv", columns="kv_heads*head_size", writes=1, flops_per_element=3
        )
        return Schedule(kv=policy, operations=(cache_gather(), rotate))
