"""Ranges: equal steps, or points at equal distances or ratios."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from asymsim.util.errors import InputError
from asymsim.util.toml import Reader, choice, integer, need, number, table

LARGEST_LIST = 10**7
_KEYS: dict[str, Reader] = {
    **dict.fromkeys(("from", "to", "step"), number),
    "points": integer(1, LARGEST_LIST),
    "scale": choice("linear", "log"),
}


def read_range(content: Mapping[str, Any], where: str, whole: bool) -> list[Any]:
    """The numbers of a range, decimals exactly as written; ``to`` is included where a step meets it.

    Whole numbers are rounded where points fall between them, and appear once.

    Raises
    ------
    InputError
        If a key is missing or unknown, or the range is empty.
    """
    values = table(content, where, _KEYS)
    need(values, ("from", "to"), where)
    low, high = values["from"], values["to"]
    if ("step" in values) == ("points" in values):
        raise InputError(where, dict(content), "give either step or points")
    log = values.get("scale") == "log"
    if high < low or (log and low <= 0):
        raise InputError(where, dict(content), f"to must be at least from{', and from above 0' if log else ''}")
    if "step" in values:
        step = values["step"]
        if step <= 0 or log or (high - low) / step >= LARGEST_LIST:
            raise InputError(where, dict(content), "give a step above 0, not too small, and no scale")
        if whole and (low.denominator != 1 or step.denominator != 1):
            raise InputError(where, dict(content), "give whole numbers")
        numbers: list[Any] = [low + index * step for index in range(int((high - low) / step) + 1)]
    else:
        points = values["points"]
        shares = [Fraction(index, max(1, points - 1)) for index in range(points)]
        numbers = [low + (high - low) * share for share in shares]
        if log:
            numbers = [float(low) * float(high / low) ** float(share) for share in shares]
            numbers[-1], numbers[0] = high, low
    return list(dict.fromkeys(round(number) for number in numbers)) if whole else numbers
