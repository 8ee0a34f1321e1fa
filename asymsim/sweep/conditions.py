"""Comparisons such as ``ttft_s < 2`` or ``gpu != l4``, for filters and service-level objectives."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from asymsim.core.arrays import Array
from asymsim.util.errors import InputError, UnknownNameError

_COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "!=": operator.ne,
    "==": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
}
_FORM = re.compile(r"\s*([\w.+-]+)\s*(<=|>=|!=|==|<|>)\s*(.+?)\s*")


class ValuesByName(Protocol):
    """Fields and figures of some rows: an array, or one value for all of them."""

    def __getitem__(self, name: str, /) -> Any:
        """The values of a field or figure."""


@dataclass(frozen=True)
class Condition:
    """A field or figure against a number or a name; an undefined figure meets none."""

    name: str
    comparison: str
    value: float | str
    text: str

    def met(self, values: ValuesByName, rows: int) -> Array:
        """Whether each row meets it, bool of shape (rows,)."""
        value = values[self.name]
        met: Any = False
        if isinstance(value, (int, float, np.ndarray, np.number)) == isinstance(self.value, float):
            met = value is not None and _COMPARISONS[self.comparison](value, self.value)
        elif value is not None:
            met = self.comparison == "!="
        if self.comparison == "!=" and np.asarray(value).dtype.kind == "f":
            met = met & ~np.isnan(value)
        return np.broadcast_to(np.asarray(met, bool), rows)


def read_conditions(content: object, where: str, fields: Iterable[str], figures: Iterable[str]) -> list[Condition]:
    """Conditions from a list of texts.

    Raises
    ------
    InputError
        If one has another form, or compares a name with a number.
    UnknownNameError
        If there is no such field or figure.
    """
    if not isinstance(content, list):
        raise InputError(where, content, 'give a list of comparisons, such as ["ttft_s < 2", "fits"]')
    words = ("model", "gpu", "dtype", "kv_dtype", "engine", "method", "schedule")
    names = [*(field for field in fields if field != "settings"), *figures]
    result = []
    for text in content:
        form = _FORM.fullmatch(text) if isinstance(text, str) else None
        if isinstance(text, str) and text.strip() in ("fits", "memory fits"):
            result.append(Condition("fits", "==", 1.0, "fits"))
            continue
        if form is None:
            if isinstance(text, str) and text.strip().isidentifier() and text.strip() not in names:
                raise UnknownNameError(where, text.strip(), names)
            raise InputError(where, text, "write a field or figure, a comparison and a value, such as ttft_s < 2")
        name, comparison, value = form.groups()
        if name not in names:
            raise UnknownNameError(where, name, names)
        against = _value(name, value, text, where, words)
        if isinstance(against, str) and comparison not in ("==", "!="):
            raise InputError(where, text, f"{name} is a name; compare it with == or !=")
        result.append(Condition(name, comparison, against, text.strip()))
    return result


def _value(name: str, value: str, text: str, where: str, words: tuple[str, ...]) -> float | str:
    if name in words:
        return value.strip("'\"")
    try:
        number = float(value)
    except ValueError:
        if name.startswith("settings."):
            return value.strip("'\"")
        raise InputError(where, text, f"{name} is a number; compare it with one, in SI units") from None
    if math.isnan(number):
        raise InputError(where, text, "nothing compares with nan")
    return number
