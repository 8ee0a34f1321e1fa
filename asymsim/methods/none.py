"""No pruning: the dense model, to the bit."""

from __future__ import annotations

from typing import ClassVar

from pydantic.dataclasses import dataclass

from asymsim.catalogue.model import VlmModel
from asymsim.methods.base import Method, register
from asymsim.methods.schedule import IDENTITY, Schedule
from asymsim.util.strict import STRICT


@register("none")
@dataclass(frozen=True, kw_only=True, config=STRICT)
class Unpruned(Method):
    """Every token stays."""

    source: ClassVar[str] = "the baseline of every comparison"

    keep: float = 1.0

    def schedule(self, model: VlmModel) -> Schedule:
        return IDENTITY
