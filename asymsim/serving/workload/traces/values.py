"""Raw values of a trace's column to numbers, or an error that names the row."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

from asymsim.core.arrays import Array
from asymsim.serving.workload.traces.formats import Clock
from asymsim.serving.workload.traces.rows import Rows

_ZONE = re.compile(r"(Z|[+-]\d\d:?\d\d)$")


def whole_numbers(
    rows: Rows, lines: Array, name: str, raw: list[Any], lowest: int, highest: int, default: int | None = None
) -> Array:
    """Whole numbers within bounds, int64.

    Parameters
    ----------
    default : int, optional
        For what a row leaves out; without it every row needs a value.

    Raises
    ------
    InputError
        For the first row that is none.
    """
    if default is not None and absent(raw):
        return np.full(len(raw), default, np.int64)
    remedy = f"give a whole number from {lowest} to {highest}"
    numbers = _fast(raw, np.int64, {str}, {int})
    if numbers is not None:
        for place in np.flatnonzero((numbers < lowest) | (numbers > highest))[:1]:
            raise rows.error(lines[place], name, raw[place], remedy)
        return numbers
    numbers = np.empty(len(raw), np.int64)
    for place, value in enumerate(raw):
        if default is not None and (value is None or value == ""):
            numbers[place] = default
            continue
        number = _whole(value)
        if number is None or not lowest <= number <= highest:
            raise rows.error(lines[place], name, value, remedy)
        numbers[place] = number
    return numbers


def times(rows: Rows, lines: Array, name: str, raw: list[Any], clock: Clock) -> Array:
    """Times in units of the clock: float64, or int64 nanoseconds where they are dates.

    Raises
    ------
    InputError
        For the first row whose time is no finite number or no date.
    """
    if clock == "date":
        return _dates(rows, lines, name, raw)
    numbers = _fast(raw, np.float64, {str}, {int, float})
    if numbers is None:
        numbers = np.array([_time(value) for value in raw])
    for place in np.flatnonzero(~np.isfinite(numbers))[:1]:
        raise rows.error(lines[place], name, raw[place], "give a finite number")
    return numbers


def absent(raw: list[Any]) -> bool:
    """Whether no row has a value."""
    return raw.count(None) == len(raw)


def _fast(raw: list[Any], kind: Any, *types: set[type]) -> Array | None:
    """All values at once, where they are of one kind and well-formed."""
    found = set(map(type, raw))
    if not any(found <= allowed for allowed in types):
        return None
    try:
        return np.array(raw, dtype=kind)
    except (ValueError, OverflowError):
        return None


def _whole(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    number = _number(value)
    if isinstance(number, float):
        # As spreadsheets and pandas write whole numbers beside empty cells: 12.0.
        return int(number) if number.is_integer() else None
    return number


def _time(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return math.nan
    try:
        return float(value)
    except (ValueError, OverflowError):
        return math.nan


def _number(value: float | str) -> int | float | None:
    if not isinstance(value, str):
        return value
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return None


def _dates(rows: Rows, lines: Array, name: str, raw: list[Any]) -> Array:
    zone = _ZONE.search(raw[0].strip()) if isinstance(raw[0], str) else None
    suffix = zone[0] if zone else ""
    stamps = np.empty(len(raw), "datetime64[ns]")
    texts = [value.strip() if isinstance(value, str) else "" for value in raw]
    for place, text in enumerate(texts):
        zoned = text.endswith(suffix) if suffix else not any(sign in text[10:] for sign in "Z+-")
        if not text[:4].isdigit() or not zoned:
            remedy = "give a date and time such as 2023-11-16 18:17:03.9799600, all in one zone"
            raise rows.error(lines[place], name, raw[place], remedy)
    cut = [text[: len(text) - len(suffix)] for text in texts]
    try:
        stamps[:] = np.array(cut, "datetime64[ns]")
    except ValueError:
        for place, text in enumerate(cut):
            try:
                np.datetime64(text, "ns")
            except ValueError:
                raise rows.error(lines[place], name, raw[place], "give a date and time, all in one zone") from None
        raise
    return stamps.astype(np.int64)
