"""The product of a study's axes by row number: nothing is ever listed, any rows can be made alone."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from asymsim.core.arrays import Array
from asymsim.core.token_counts import TokenCounts
from asymsim.estimator.countable import check_countable
from asymsim.estimator.resolve import ResolvedScenario
from asymsim.estimator.scenario import Scenario
from asymsim.estimator.token_counts import IMAGE_BOUNDS, TOKEN_BOUNDS, RequestTokens, request_tokens
from asymsim.sweep.axes import SETTINGS, Axis
from asymsim.util.errors import FieldError, InputError


class Grid:
    """Rows in mixed radix: the last axis varies fastest, settings slowest.

    Parameters
    ----------
    fixed : mapping
        Fields of ``Scenario`` that no axis varies.
    axes : sequence of Axis
        Those of rank 0 first, then rank 1, then rank 2.
    """

    def __init__(self, fixed: Mapping[str, Any], axes: Sequence[Axis]) -> None:
        self.fixed = dict(fixed)
        self.axes = tuple(axes)
        self.outer = tuple(axis for axis in axes if axis.rank == 0)
        self.images = tuple(axis for axis in axes if axis.rank == 1)
        self.inner = tuple(axis for axis in axes if axis.rank == 2)
        self.settings = math.prod(axis.size for axis in self.outer)
        self.rows_per_setting = math.prod(axis.size for axis in (*self.images, *self.inner))
        self.rows = self.settings * self.rows_per_setting

    @cached_property
    def varied(self) -> tuple[str, ...]:
        """Names of all that varies, in the order of the axes."""
        return tuple(field for axis in self.axes for field in axis.fields)

    def scenario(self, row: int) -> Scenario:
        """The scenario of one row.

        Raises
        ------
        InputError
            If its fields contradict each other.
        """
        return self._made(self.items(row))

    def items(self, row: int) -> dict[str, Any]:
        """The values of the axes at one row."""
        return _items(self.axes, row)

    def outer_items(self, setting: int) -> dict[str, Any]:
        """The values of the axes that make a setting."""
        return _items(self.outer, setting)

    def image_items(self, number: int) -> dict[str, Any]:
        """The values of the image axes at one of their combinations."""
        return _items(self.images, number)

    def outer_digit(self, axis: Axis, setting: int) -> int:
        """Where a setting stands on one of the axes that make it."""
        inside = self.outer[self.outer.index(axis) + 1 :]
        return setting // math.prod(each.size for each in inside) % axis.size

    def setting_scenario(self, setting: int) -> Scenario:
        """What all rows of a setting share."""
        return self._made(self.outer_items(setting))

    def _made(self, items: Mapping[str, Any]) -> Scenario:
        values = {**self.fixed, **{key: value for key, value in items.items() if not key.startswith(SETTINGS)}}
        own = {key.removeprefix(SETTINGS): value for key, value in items.items() if key.startswith(SETTINGS)}
        if own:
            values["settings"] = {**values.get("settings", {}), **own}
        return checked_scenario(values)

    def digits(self, first: int, last: int) -> list[Array]:
        """Where rows ``first`` to ``last`` of any one setting stand on each axis of images and token counts."""
        rest = np.arange(first, last, dtype=np.int64)
        digits: list[Array] = []
        for axis in reversed((*self.images, *self.inner)):
            rest, digit = np.divmod(rest, axis.size)
            digits.append(digit)
        return digits[::-1]


def _items(axes: Sequence[Axis], number: int) -> dict[str, Any]:
    """The values at a number in mixed radix, the last axis varying fastest."""
    places = []
    for axis in reversed(axes):
        number, place = divmod(number, axis.size)
        places.append(place)
    pairs = zip(axes, reversed(places), strict=True)
    return {field: value for axis, place in pairs for field, value in axis.item(place).items()}


def checked_scenario(values: Mapping[str, Any]) -> Scenario:
    """A scenario of these fields.

    Raises
    ------
    InputError
        If one has the wrong form or is out of range.
    """
    try:
        return Scenario(**values)
    except FieldError as error:
        raise InputError(f"scenario: {error.field}", error.value, error.remedy) from None


class Loads:
    """The token counts of a setting's rows, as the compiled core takes them."""

    def __init__(self, grid: Grid, scenario: Scenario, bound: ResolvedScenario) -> None:
        self._grid, self._bound = grid, bound
        self._fixed = {field: getattr(scenario, field) for field in (*IMAGE_BOUNDS, *TOKEN_BOUNDS)}
        self._known: dict[int, tuple[RequestTokens, TokenCounts]] = {}
        # What passed the check on 64 bits; nothing smaller needs one.
        self._checked = np.full(len(TokenCounts._fields), -1)

    def of(self, digits: Sequence[Array]) -> Array:
        """The rows that stand there on the axes: int64 of shape (rows, the fields of ``Load``).

        Raises
        ------
        InputError
            If an image is too large or counts would pass 64 bits.
        """
        grid = self._grid
        inner = digits[len(grid.images) :]
        columns = {
            field: values.take(digit)
            for axis, digit in zip(grid.inner, inner, strict=True)
            for field, values in zip(axis.fields, axis.values, strict=True)
        }
        loads = np.empty((len(digits[0]) if digits else 1, len(TokenCounts._fields)), np.int64)
        numbers = np.zeros(len(loads), np.int64)
        for axis, digit in zip(grid.images, digits, strict=False):
            numbers = numbers * axis.size + digit
        # Images vary more slowly than token counts, so that equal ones stand together, also where rows were dropped.
        edges = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(loads)]
        firsts = numbers[edges[:-1]].tolist()
        for number, (begin, end) in zip(firsts, itertools.pairwise(edges), strict=True):
            loads[begin:end] = self._of_images(number)[1]
        for field, column in columns.items():
            loads[:, TokenCounts._fields.index(field)] = column
        largest = np.maximum.reduceat(loads, edges[:-1], axis=0)
        for place in np.flatnonzero((largest > self._checked).any(axis=1)).tolist():
            if (largest[place] > self._checked).any():
                self._check(self._of_images(firsts[place])[0], largest[place])
        return loads

    def _check(self, one: RequestTokens, largest: Array) -> None:
        counts: dict[str, Any] = {field: int(largest[TokenCounts._fields.index(field)]) for field in TOKEN_BOUNDS}
        check_countable(self._bound, dataclasses.replace(one, **counts))
        self._checked = largest

    def _of_images(self, number: int) -> tuple[RequestTokens, TokenCounts]:
        """What one combination of the image axes makes of the model's image rule."""
        if number not in self._known:
            if len(self._known) > 4096:
                self._known.clear()
            made = request_tokens(self._bound.model, **{**self._fixed, **self._grid.image_items(number)})
            self._known[number] = made, made.token_counts()
        return self._known[number]
