"""No pruning: the dense model."""

from __future__ import annotations

from typing import ClassVar

from asymsim_reference.methods.base import ReferenceMethod, register
from asymsim_reference.proof import ProofCase, ProofCases, with_and_without_cls


@register("none")
class Unpruned(ReferenceMethod):
    """Every token stays."""

    proof_cases: ClassVar[ProofCases] = (
        *with_and_without_cls(ProofCase()),
        ProofCase(shape="crops"),
        ProofCase(image_at=0, output_tokens=1),
    )
