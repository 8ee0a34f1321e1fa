"""Reductions to counts: histograms, quantiles and SLO counts, the same for any order and number of workers.

A state is a dictionary of integer arrays, and of floats that are only ever compared, never added.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from asymsim.core.arrays import Array
from asymsim.sweep.conditions import Condition, ValuesByName

State = dict[str, Any]


class Reducer(Protocol):
    """A reduction: the state of no rows, of more rows, of two states together, and its result."""

    @property
    def name(self) -> str:
        """Name in the result."""

    @property
    def by(self) -> tuple[str, ...]:
        """Fields whose values make groups."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Figures and fields that it reads."""

    def start(self) -> State:
        """The state of no rows."""

    def add(self, state: State, rows: Array, values: ValuesByName) -> State:
        """The state with more rows: their numbers, and fields and figures by name."""

    def merge(self, one: State, other: State) -> State:
        """The state of the rows of both."""

    def result(self, state: State) -> dict[str, Any]:
        """The result; row numbers under the key ``rows`` are replaced by their scenarios."""


@dataclass(frozen=True)
class Histogram:
    """Rows in each bin; a bin holds its lower edge. Those outside and the undefined are counted apart."""

    name: str
    by: tuple[str, ...]
    figure: str
    edges: tuple[float, ...]

    @property
    def needs(self) -> tuple[str, ...]:
        return (self.figure,)

    def start(self) -> State:
        return {"counts": np.zeros(len(self.edges) + 2, np.int64)}

    def add(self, state: State, rows: Array, values: ValuesByName) -> State:
        # nan sorts behind every edge.
        figure = values[self.figure]
        places = np.where(np.isnan(figure), len(self.edges) + 1, np.searchsorted(self.edges, figure, side="right"))
        return {"counts": state["counts"] + np.bincount(places, minlength=len(self.edges) + 2)}

    def merge(self, one: State, other: State) -> State:
        return {"counts": one["counts"] + other["counts"]}

    def result(self, state: State) -> dict[str, Any]:
        counts = state["counts"].tolist()
        return {
            "edges": list(self.edges),
            "counts": counts[1:-2],
            "below": counts[0],
            "above": counts[-2],
            "undefined": counts[-1],
        }


# Buckets of the quantiles: numbers that agree in sign, exponent and this many bits of the mantissa.
MANTISSA_BITS = 10


@dataclass(frozen=True)
class Quantiles:
    """Quantiles to a relative width of 2**-10, from a fixed sketch: a count for each bucket of equal leading bits.

    The sample of rank ceil(q n) lies between ``low`` and ``high``; the smallest and the largest are exact.
    """

    name: str
    by: tuple[str, ...]
    figure: str
    at: tuple[float, ...]

    @property
    def needs(self) -> tuple[str, ...]:
        return (self.figure,)

    def start(self) -> State:
        empty = np.zeros(0, np.int64)
        return {"first": 0, "counts": empty, "undefined": 0, "least": math.inf, "most": -math.inf}

    def add(self, state: State, rows: Array, values: ValuesByName) -> State:
        figure = values[self.figure].astype(np.float64)
        defined = figure[~np.isnan(figure)]
        more = {**self.start(), "undefined": len(figure) - len(defined)}
        if len(defined):
            # Adding 0 turns -0 into 0.
            buckets = _ordered(defined + 0.0) >> (52 - MANTISSA_BITS)
            first = int(buckets.min())
            if int(buckets.max()) - first < 1 << 22:
                counts = np.bincount(buckets - first)
                more.update(first=first, counts=counts, least=float(defined.min()), most=float(defined.max()))
            else:
                # Signs or magnitudes so far apart are rare: add each side of the middle for itself.
                middle = np.median(defined)
                low, high = defined <= middle, defined > middle
                parts = [{self.figure: defined[part]} for part in (low, high)]
                joined = self.merge(self.add(self.start(), rows, parts[0]), self.add(self.start(), rows, parts[1]))
                more = self.merge(more, joined)
        return self.merge(state, more)

    def merge(self, one: State, other: State) -> State:
        undefined = one["undefined"] + other["undefined"]
        if not len(one["counts"]) or not len(other["counts"]):
            return {**(one if len(one["counts"]) else other), "undefined": undefined}
        first = min(one["first"], other["first"])
        last = max(state["first"] + len(state["counts"]) for state in (one, other))
        counts = np.zeros(last - first, np.int64)
        for state in (one, other):
            begin = state["first"] - first
            counts[begin : begin + len(state["counts"])] += state["counts"]
        return {
            "first": first,
            "counts": counts,
            "undefined": undefined,
            "least": min(one["least"], other["least"]),
            "most": max(one["most"], other["most"]),
        }

    def result(self, state: State) -> dict[str, Any]:
        total = int(state["counts"].sum())
        result: dict[str, Any] = {"count": total, "undefined": int(state["undefined"])}
        if total:
            cumulative = np.cumsum(state["counts"])
            least, most = state["least"], state["most"]
            quantiles = []
            for share in self.at:
                rank = max(1, math.ceil(share * total))
                bucket = state["first"] + int(np.searchsorted(cumulative, rank))
                low, high = (_value_of((bucket + up) << (52 - MANTISSA_BITS)) for up in (0, 1))
                quantiles.append({"at": share, "low": max(low, least), "high": min(high, most)})
            result.update(least=least, most=most, quantiles=quantiles)
        return result


def _ordered(values: Array) -> Array:
    """The bits of float64 numbers as int64 in the order of the numbers."""
    bits = values.view(np.int64)
    return np.where(bits >= 0, bits, np.int64(-(2**63)) - bits)


def _value_of(ordered: int) -> float:
    bits = ordered if ordered >= 0 else -(2**63) - ordered
    return float(np.array(bits, np.int64).view(np.float64))


@dataclass(frozen=True)
class Objectives:
    """How many rows meet each of some conditions, and all of them."""

    name: str
    by: tuple[str, ...]
    conditions: tuple[Condition, ...]

    @property
    def needs(self) -> tuple[str, ...]:
        return tuple(condition.name for condition in self.conditions)

    def start(self) -> State:
        return {"counts": np.zeros(len(self.conditions) + 2, np.int64)}

    def add(self, state: State, rows: Array, values: ValuesByName) -> State:
        met = [condition.met(values, len(rows)) for condition in self.conditions]
        all_met = np.logical_and.reduce(met) if met else np.ones(len(rows), bool)
        counts = [len(rows), *(np.count_nonzero(column) for column in (*met, all_met))]
        return {"counts": state["counts"] + np.array(counts, np.int64)}

    def merge(self, one: State, other: State) -> State:
        return {"counts": one["counts"] + other["counts"]}

    def result(self, state: State) -> dict[str, Any]:
        counts = state["counts"].tolist()
        met = {condition.text: count for condition, count in zip(self.conditions, counts[1:-1], strict=True)}
        return {"count": counts[0], "met": met, "all": counts[-1]}
