"""No pruning: the dense model, to the bit."""

from __future__ import annotations

from typing import ClassVar

from asymsim.catalogue.model import VlmModel
from asymsim.methods.base import Method, register
from asymsim.methods.schedule import IDENTITY, Schedule
from asymsim.util.strict import strict_dataclass


@register("none")
@strict_dataclass
class Unpruned(Method):
    """Every token stays."""

    source: ClassVar[str] = "the baseline of every comparison"
    tokens_at_zero: ClassVar[int | None] = None

    keep: float = 1.0

    def build_schedule(self, model: VlmModel) -> Schedule:
        return IDENTITY
