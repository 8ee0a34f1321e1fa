"""Grid of a study: the product of its axes by row number, of which any rows can be made alone."""

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
    """Rows in mixed radix: the last axis varies fastest.

    A configuration is a combination of the axes that change more than token counts and images; its rows share one
    resolved scenario and stand together.

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
        self.configurations = math.prod(axis.size for axis in self.outer)
        self.rows_per_configuration = math.prod(axis.size for axis in (*self.images, *self.inner))
        self.rows = self.configurations * self.rows_per_configuration

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
        return self._scenario_of(self.items(row))

    def items(self, row: int) -> dict[str, Any]:
        """The values of the axes at one row."""
        return _items_at(self.axes, row)

    def outer_items(self, configuration: int) -> dict[str, Any]:
        """The values of the axes that make a configuration."""
        return _items_at(self.outer, configuration)

    def image_items(self, number: int) -> dict[str, Any]:
        """The values of the image axes at one of their combinations."""
        return _items_at(self.images, number)

    def outer_digit(self, axis: Axis, configuration: int) -> int:
        """Place of a configuration on one of the axes that make it."""
        inside = self.outer[self.outer.index(axis) + 1 :]
        return configuration // math.prod(inner_axis.size for inner_axis in inside) % axis.size

    def configuration_scenario(self, configuration: int) -> Scenario:
        """The scenario that all rows of a configuration share."""
        return self._scenario_of(self.outer_items(configuration))

    def _scenario_of(self, items: Mapping[str, Any]) -> Scenario:
        values = {**self.fixed, **{key: value for key, value in items.items() if not key.startswith(SETTINGS)}}
        settings = {key.removeprefix(SETTINGS): value for key, value in items.items() if key.startswith(SETTINGS)}
        if settings:
            values["settings"] = {**values.get("settings", {}), **settings}
        return checked_scenario(values)

    def digits(self, first: int, last: int) -> list[Array]:
        """Places of rows ``first`` to ``last`` of any configuration on each axis of images and token counts."""
        rest = np.arange(first, last, dtype=np.int64)
        digits: list[Array] = []
        for axis in reversed((*self.images, *self.inner)):
            rest, digit = np.divmod(rest, axis.size)
            digits.append(digit)
        return digits[::-1]


def _items_at(axes: Sequence[Axis], number: int) -> dict[str, Any]:
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


class TokenCountRows:
    """Token counts of the rows of one configuration, as the compiled core takes them."""

    def __init__(self, grid: Grid, scenario: Scenario, resolved: ResolvedScenario) -> None:
        self._grid, self._resolved = grid, resolved
        self._fixed = {field: getattr(scenario, field) for field in (*IMAGE_BOUNDS, *TOKEN_BOUNDS)}
        self._by_images: dict[int, tuple[RequestTokens, TokenCounts]] = {}
        # Counts that passed the check on 64 bits; smaller ones need none.
        self._checked = np.full(len(TokenCounts._fields), -1)

    def at(self, digits: Sequence[Array]) -> Array:
        """The rows at these places on the axes: int64 of shape (rows, the fields of ``TokenCounts``).

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
        rows = np.empty((len(digits[0]) if digits else 1, len(TokenCounts._fields)), np.int64)
        numbers = np.zeros(len(rows), np.int64)
        for axis, digit in zip(grid.images, digits, strict=False):
            numbers = numbers * axis.size + digit
        # Images vary more slowly than token counts, so that equal ones stand together, also where rows were dropped.
        edges = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(rows)]
        firsts = numbers[edges[:-1]].tolist()
        for number, (begin, end) in zip(firsts, itertools.pairwise(edges), strict=True):
            rows[begin:end] = self._of_images(number)[1]
        for field, column in columns.items():
            rows[:, TokenCounts._fields.index(field)] = column
        largest = np.maximum.reduceat(rows, edges[:-1], axis=0)
        for place in np.flatnonzero((largest > self._checked).any(axis=1)).tolist():
            if (largest[place] > self._checked).any():
                self._check(self._of_images(firsts[place])[0], largest[place])
        return rows

    def _check(self, request: RequestTokens, largest: Array) -> None:
        counts: dict[str, Any] = {field: int(largest[TokenCounts._fields.index(field)]) for field in TOKEN_BOUNDS}
        check_countable(self._resolved, dataclasses.replace(request, **counts))
        self._checked = largest

    def _of_images(self, number: int) -> tuple[RequestTokens, TokenCounts]:
        """Token counts of a request at one combination of the image axes, by the model's image rule."""
        if number not in self._by_images:
            if len(self._by_images) > 4096:
                self._by_images.clear()
            request = request_tokens(self._resolved.model, **{**self._fixed, **self._grid.image_items(number)})
            self._by_images[number] = request, request.token_counts()
        return self._by_images[number]
