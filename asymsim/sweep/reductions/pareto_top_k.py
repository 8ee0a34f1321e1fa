"""Reductions that keep rows: the best by one figure, and the Pareto front of two. Ties go to the lowest row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from asymsim.core.arrays import Array
from asymsim.sweep.conditions import ValuesByName
from asymsim.sweep.reductions.counts import State


@dataclass(frozen=True)
class Top:
    """The rows with the smallest or largest values of a figure; undefined ones never count."""

    name: str
    by: tuple[str, ...]
    figure: str
    count: int
    largest: bool

    @property
    def needs(self) -> tuple[str, ...]:
        return (self.figure,)

    def start(self) -> State:
        return {"rows": np.zeros(0, np.int64), "costs": np.zeros(0)}

    def add(self, state: State, rows: Array, values: ValuesByName) -> State:
        costs = _costs(values[self.figure], self.largest)
        full = len(state["costs"]) == self.count
        chosen = np.flatnonzero(costs <= state["costs"][-1]) if full else np.flatnonzero(~np.isnan(costs))
        if len(chosen) > self.count:
            chosen = chosen[costs[chosen] <= np.partition(costs[chosen], self.count - 1)[self.count - 1]]
        return self.merge(state, {"rows": rows[chosen], "costs": costs[chosen]})

    def merge(self, one: State, other: State) -> State:
        rows, costs = (np.concatenate((one[key], other[key])) for key in ("rows", "costs"))
        best = np.lexsort((rows, costs))[: self.count]
        return {"rows": rows[best], "costs": costs[best]}

    def result(self, state: State) -> dict[str, Any]:
        return {"rows": state["rows"].tolist()}


@dataclass(frozen=True)
class Pareto:
    """The rows that no other beats in one of two figures without losing in the other."""

    name: str
    by: tuple[str, ...]
    figures: tuple[str, str]
    largest: tuple[bool, bool]

    @property
    def needs(self) -> tuple[str, ...]:
        return self.figures

    def start(self) -> State:
        return {"rows": np.zeros(0, np.int64), "first": np.zeros(0), "second": np.zeros(0)}

    def add(self, state: State, rows: Array, values: ValuesByName) -> State:
        first, second = (_costs(values[name], up) for name, up in zip(self.figures, self.largest, strict=True))
        open_ = ~(np.isnan(first) | np.isnan(second))
        if len(state["rows"]):
            # The front so far: what stands at or left of a row, and how low it reaches.
            place = np.searchsorted(state["first"], first, side="right") - 1
            lowest = np.where(place >= 0, state["second"][np.maximum(place, 0)], np.inf)
            # Rows equal to one of the front stay for now: the lowest row number decides.
            open_ &= (second < lowest) | ((second == lowest) & (first == state["first"][np.maximum(place, 0)]))
        return self.merge(state, {"rows": rows[open_], "first": first[open_], "second": second[open_]})

    def merge(self, one: State, other: State) -> State:
        rows, first, second = (np.concatenate((one[key], other[key])) for key in ("rows", "first", "second"))
        order = np.lexsort((rows, second, first))
        rows, first, second = rows[order], first[order], second[order]
        before = np.concatenate(([np.inf], np.minimum.accumulate(second)[:-1])) if len(rows) else second
        # An infinite cost beats nothing, so the first row of all stands by its place.
        chosen = (second < before) | (np.arange(len(rows)) == 0)
        return {"rows": rows[chosen], "first": first[chosen], "second": second[chosen]}

    def result(self, state: State) -> dict[str, Any]:
        return {"rows": state["rows"].tolist()}


def _costs(values: Array, largest: bool) -> Array:
    """As float64, the better the smaller; never -0."""
    costs = values.astype(np.float64)
    return (0.0 - costs if largest else costs) + 0.0
