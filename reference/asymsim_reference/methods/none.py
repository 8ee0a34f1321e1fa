"""No pruning: the dense model."""

from __future__ import annotations

from asymsim_reference.methods.base import ReferenceMethod, register


@register("none")
class Unpruned(ReferenceMethod):
    """Every token stays."""
