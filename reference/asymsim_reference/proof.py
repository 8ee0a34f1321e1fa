"""Proof cases: settings under which a method's reference must do what its cost file declares, to the integer.

Where a budget depends on the sample, the reference runs first and the cost file gets the budget of that run. Where the
cost file rounds or bounds (its docstring says so), the sizes are such that nothing is rounded, and the case says why.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from asymsim_reference.weights import Shape

if TYPE_CHECKING:
    from asymsim_reference.methods.base import ReferenceMethod
    from asymsim_reference.run import Result

TEXT_TOKENS = 14
Settings = Mapping[str, Any]

SHAPES = {
    "cls": Shape(),
    "no_cls": Shape(cls=False, heads=4, kv_heads=4),
    "crops": Shape(crops=True, patches=16),
}


@dataclass(frozen=True)
class ProofCase:
    """Settings of both sides, and the run on which they must agree.

    Attributes
    ----------
    cost, reference : mapping
        Settings of the cost file and of the reference; ``cost`` may be made from the reference and its result.
    shape : str
        Name of the small model in ``SHAPES``; with "crops" the image has three crops.
    image_at : int
        Text tokens before the image, of ``TEXT_TOKENS``.
    output_tokens : int
    answers : tuple of (start, stop)
        Previous answers in the prompt.
    """

    cost: Settings | Callable[[ReferenceMethod, Result], Settings] = field(default_factory=dict)
    reference: Settings = field(default_factory=dict)
    shape: str = "cls"
    image_at: int = 3
    output_tokens: int = 6
    answers: tuple[tuple[int, int], ...] = ()


ProofCases = tuple[ProofCase, ...]


def same_settings(*settings: Settings, **run: Any) -> ProofCases:
    """A case for each of ``settings``, which both sides get; ``run`` are further fields of the cases."""
    return tuple(ProofCase(cost=both, reference=both, **run) for both in settings)


def with_and_without_cls(*cases: ProofCase) -> ProofCases:
    """The cases on the model with [CLS], and on the one without, whose query heads have a KV head each."""
    return tuple(replace(case, shape=shape) for case in cases for shape in ("cls", "no_cls"))
