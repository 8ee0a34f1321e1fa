"""Axes of a study: lists, ranges, logarithmic ranges and distributions over the fields of a scenario."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from asymsim.core.arrays import Array
from asymsim.estimator.scenario import Scenario
from asymsim.estimator.token_counts import IMAGE_BOUNDS, TOKEN_BOUNDS
from asymsim.sweep.ranges import read_range
from asymsim.util.errors import InputError, UnknownNameError
from asymsim.util.sampling import Distribution, read_sampled_axis
from asymsim.util.toml import integer

WHOLE = {**IMAGE_BOUNDS, **TOKEN_BOUNDS, "tp_size": (1, 1024)}
# Sweeps count the mask's pairs; the other conventions belong to single estimates.
FIELDS = tuple(field.name for field in dataclasses.fields(Scenario) if field.name != "convention")
SETTINGS = "settings."


@dataclass(frozen=True)
class Listed:
    """Values one by one; ``None`` leaves the field as the study's scenario has it."""

    values: tuple[Any, ...]

    def take(self, indices: Array) -> Array:
        """The values of these indices; whole numbers only."""
        return np.array(self.values, np.int64)[indices]

    def item(self, index: int) -> Any:
        """One value."""
        return self.values[index]


@dataclass(frozen=True)
class Axis:
    """One or more fields that vary together.

    Attributes
    ----------
    fields : tuple of str
        Of ``Scenario``; a single setting is written ``settings.name``.
    values : tuple of Listed or Distribution
        One a field.
    size : int
    """

    fields: tuple[str, ...]
    values: tuple[Listed | Distribution, ...]
    size: int

    @property
    def rank(self) -> int:
        """0 where the axis changes the configuration, 1 the images, 2 token counts alone."""
        return min(2 if field in TOKEN_BOUNDS else 1 if field in IMAGE_BOUNDS else 0 for field in self.fields)

    def item(self, index: int) -> dict[str, Any]:
        """The values of all its fields, without those left as they are."""
        pairs = ((field, values.item(index)) for field, values in zip(self.fields, self.values, strict=True))
        return {field: value for field, value in pairs if value is not None}


def read_axes(content: object) -> tuple[Axis, ...]:
    """The axes of a study, configuration first, then images, then token counts.

    Raises
    ------
    InputError
        If there is no such field, a value has the wrong kind or range, or an axis is empty.
    """
    if not isinstance(content, Mapping):
        raise InputError("axes", content, "give a table of fields")
    flat: dict[str, Any] = {}
    for key, value in content.items():
        nested = key == "settings" and isinstance(value, Mapping)
        flat.update({f"{SETTINGS}{name}": each for name, each in value.items()} if nested else {key: value})
    axes: list[Axis] = []
    together: dict[str, list[Axis]] = {}
    seen: set[str] = set()
    for key, value in flat.items():
        fields = tuple(part.strip() for part in key.split(","))
        for field in fields:
            _check_field(field, seen)
        where = f"axes: {key}"
        if isinstance(value, Mapping) and "distribution" in value:
            if len(fields) > 1:
                raise InputError(where, value, "give each field its own distribution; the key with joins them")
            axis, group = _sampled(fields[0], value, where)
            if group is not None:
                together.setdefault(group, []).append(axis)
                continue
        elif isinstance(value, Mapping):
            if len(fields) > 1:
                raise InputError(where, value, "give a list with one value a field for each step")
            listed = Listed(_range(fields[0], value, where))
            axis = Axis(fields, (listed,), len(listed.values))
        else:
            axis = _listed(fields, value, where)
        axes.append(axis)
    axes += [_sampled_together(name, group) for name, group in together.items()]
    return tuple(sorted(axes, key=lambda axis: axis.rank))


def _check_field(field: str, seen: set[str]) -> None:
    if field not in FIELDS and not (field.startswith(SETTINGS) and len(field) > len(SETTINGS)):
        raise UnknownNameError("axes", field, FIELDS)
    if field in seen:
        raise InputError("axes", field, "is given twice")
    seen.add(field)


def _listed(fields: tuple[str, ...], content: object, where: str) -> Axis:
    if not isinstance(content, list):
        raise InputError(where, content, "give a list, a range { from, to, step } or a distribution")
    if not content:
        raise InputError(where, content, "give one value or more: without any there is nothing to sweep")
    if len(fields) == 1:
        return Axis(fields, (Listed(tuple(_value(fields[0], each, where) for each in content)),), len(content))
    columns: list[tuple[Any, ...]] = []
    for item in content:
        if not isinstance(item, list) or not 1 <= len(item) <= len(fields):
            raise InputError(
                where, item, f"give a list of {len(fields)} values, or fewer to leave the last as they are"
            )
        values = tuple(_value(field, each, where) for field, each in zip(fields, item, strict=False))
        columns.append(values + (None,) * (len(fields) - len(values)))
    axis = Axis(fields, tuple(Listed(column) for column in zip(*columns, strict=True)), len(content))
    if axis.rank == 2 and any(None in column for column in columns):
        raise InputError(where, content, f"give each item {len(fields)} values")
    return axis


def _value(field: str, value: object, where: str) -> Any:
    if field in WHOLE:
        return integer(*WHOLE[field])(value, where)
    if field == "keep":
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
            raise InputError(where, value, "give a share between 0 and 1")
        return float(value)
    if field == "settings":
        if not isinstance(value, Mapping):
            raise InputError(where, value, "give tables of settings, such as { layer = 2 }")
        return dict(value)
    if field.startswith(SETTINGS):
        return value
    if not isinstance(value, str):
        raise InputError(where, value, "give a name in quotes")
    return value


def _range(field: str, content: Mapping[str, Any], where: str) -> tuple[Any, ...]:
    if field not in WHOLE and field != "keep" and not field.startswith(SETTINGS):
        raise InputError(where, dict(content), "is no number; give a list of names")
    numbers = read_range(content, where, whole=field in WHOLE)
    if field.startswith(SETTINGS):
        numbers = [int(number) if number == int(number) else float(number) for number in numbers]
    return tuple(_value(field, float(number) if field == "keep" else number, where) for number in numbers)


def _sampled(field: str, content: Mapping[str, Any], where: str) -> tuple[Axis, str | None]:
    if field not in WHOLE and field != "keep":
        raise InputError(where, dict(content), "only numbers can be drawn; give a list")
    distribution, samples, group = read_sampled_axis(content, where, field in WHOLE, WHOLE.get(field, (0.0, 1.0)))
    return Axis((field,), (distribution,), samples), group


def _sampled_together(name: str, group: list[Axis]) -> Axis:
    """One axis of distributions sampled together: sample ``i`` of each makes one scenario."""
    sizes = {axis.size for axis in group}
    if len(sizes) > 1:
        raise InputError(f"axes drawn with {name!r}: samples", sorted(sizes), "give all the same number")
    seeds = [axis.values[0].seed for axis in group if isinstance(axis.values[0], Distribution)]
    if len(set(seeds)) < len(seeds):
        raise InputError(f"axes drawn with {name!r}: seed", seeds, "give each its own, or they rise and fall together")
    return Axis(
        tuple(field for axis in group for field in axis.fields),
        tuple(values for axis in group for values in axis.values),
        group[0].size,
    )
