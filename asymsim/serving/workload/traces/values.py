"""Numbers and times from the raw values of a trace's column, with errors that name the row."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

from asymsim.core.arrays import Array
from asymsim.serving.workload.traces.formats import TimeUnit
from asymsim.serving.workload.traces.rows import Rows

_ZONE = re.compile(r"(Z|[+-]\d\d:?\d\d)$")


def whole_numbers(
    rows: Rows, lines: Array, name: str, raw: list[Any], lowest: int, highest: int, default: int | None = None
) -> Array:
    """Whole numbers within bounds, as int64.

    Parameters
    ----------
    default : int, optional
        Value of a row that has none; without a default every row needs a value.

    Raises
    ------
    InputError
        For the first row without such a number.
    """
    if default is not None and absent(raw):
        return np.full(len(raw), default, np.int64)
    remedy = f"give a whole number from {lowest} to {highest}"
    values = _as_array(raw, np.int64, {str}, {int})
    if values is not None:
        for index in np.flatnonzero((values < lowest) | (values > highest))[:1]:
            raise rows.error(lines[index], name, raw[index], remedy)
        return values
    values = np.empty(len(raw), np.int64)
    for index, value in enumerate(raw):
        if default is not None and (value is None or value == ""):
            values[index] = default
            continue
        number = _as_whole(value)
        if number is None or not lowest <= number <= highest:
            raise rows.error(lines[index], name, value, remedy)
        values[index] = number
    return values


def times(rows: Rows, lines: Array, name: str, raw: list[Any], time_unit: TimeUnit) -> Array:
    """Times in their unit as float64, or dates as int64 nanoseconds.

    Raises
    ------
    InputError
        For the first row whose time is no finite number or no date.
    """
    if time_unit == "date":
        return _dates(rows, lines, name, raw)
    values = _as_array(raw, np.float64, {str}, {int, float})
    if values is None:
        values = np.array([_as_float(value) for value in raw])
    for index in np.flatnonzero(~np.isfinite(values))[:1]:
        raise rows.error(lines[index], name, raw[index], "give a finite number")
    return values


def absent(raw: list[Any]) -> bool:
    """Whether no row has a value."""
    return raw.count(None) == len(raw)


def _as_array(raw: list[Any], dtype: Any, *allowed_types: set[type]) -> Array | None:
    """All values at once, where they have one of the allowed types and are well-formed; else None."""
    types = set(map(type, raw))
    if not any(types <= allowed for allowed in allowed_types):
        return None
    try:
        return np.array(raw, dtype=dtype)
    except (ValueError, OverflowError):
        return None


def _as_whole(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    number = _as_number(value)
    if isinstance(number, float):
        # As spreadsheets and pandas write whole numbers beside empty cells: 12.0.
        return int(number) if number.is_integer() else None
    return number


def _as_float(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return math.nan
    try:
        return float(value)
    except (ValueError, OverflowError):
        return math.nan


def _as_number(value: float | str) -> int | float | None:
    if not isinstance(value, str):
        return value
    for parse in (int, float):
        try:
            return parse(value)
        except ValueError:
            continue
    return None


def _dates(rows: Rows, lines: Array, name: str, raw: list[Any]) -> Array:
    zone = _ZONE.search(raw[0].strip()) if isinstance(raw[0], str) else None
    suffix = zone[0] if zone else ""
    stamps = np.empty(len(raw), "datetime64[ns]")
    texts = [value.strip() if isinstance(value, str) else "" for value in raw]
    for index, text in enumerate(texts):
        zoned = text.endswith(suffix) if suffix else not any(sign in text[10:] for sign in "Z+-")
        if not text[:4].isdigit() or not zoned:
            remedy = "give a date and time such as 2023-11-16 18:17:03.9799600, all in one zone"
            raise rows.error(lines[index], name, raw[index], remedy)
    unzoned = [text[: len(text) - len(suffix)] for text in texts]
    try:
        stamps[:] = np.array(unzoned, "datetime64[ns]")
    except ValueError:
        for index, text in enumerate(unzoned):
            try:
                np.datetime64(text, "ns")
            except ValueError:
                raise rows.error(lines[index], name, raw[index], "give a date and time, all in one zone") from None
        raise
    return stamps.astype(np.int64)
