"""Reductions in the worker: counts that add up to the same whatever the order and the number of workers.

A state is a dictionary of integer arrays, and of floats that are only ever compared, never added.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from asymsim.core.arrays import Array
from asymsim.sweep.conditions import Condition, Named

State = dict[str, Any]


class Reducer(Protocol):
    """What a reduction is: an empty state, more rows, two states in one, and what is told in the end."""

    @property
    def name(self) -> str:
        """What the result calls it."""

    @property
    def by(self) -> tuple[str, ...]:
        """Fields whose values make groups."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Figures and fields that it reads."""

    def start(self) -> State:
        """The state of no rows."""

    def add(self, state: State, rows: Array, values: Named) -> State:
        """The state with more rows: their numbers, and fields and figures by name."""

    def merge(self, one: State, other: State) -> State:
        """The state of the rows of both."""

    def told(self, state: State) -> dict[str, Any]:
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

    def add(self, state: State, rows: Array, values: Named) -> State:
        # nan sorts behind every edge.
        given = values[self.figure]
        places = np.where(np.isnan(given), len(self.edges) + 1, np.searchsorted(self.edges, given, side="right"))
        return {"counts": state["counts"] + np.bincount(places, minlength=len(self.edges) + 2)}

    def merge(self, one: State, other: State) -> State:
        return {"counts": one["counts"] + other["counts"]}

    def told(self, state: State) -> dict[str, Any]:
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

    def add(self, state: State, rows: Array, values: Named) -> State:
        given = values[self.figure].astype(np.float64)
        defined = given[~np.isnan(given)]
        more = {**self.start(), "undefined": len(given) - len(defined)}
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
        last = max(each["first"] + len(each["counts"]) for each in (one, other))
        counts = np.zeros(last - first, np.int64)
        for each in (one, other):
            begin = each["first"] - first
            counts[begin : begin + len(each["counts"])] += each["counts"]
        return {
            "first": first,
            "counts": counts,
            "undefined": undefined,
            "least": min(one["least"], other["least"]),
            "most": max(one["most"], other["most"]),
        }

    def told(self, state: State) -> dict[str, Any]:
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

    def add(self, state: State, rows: Array, values: Named) -> State:
        met = [condition.met(values, len(rows)) for condition in self.conditions]
        everything = np.logical_and.reduce(met) if met else np.ones(len(rows), bool)
        counts = [len(rows), *(np.count_nonzero(each) for each in (*met, everything))]
        return {"counts": state["counts"] + np.array(counts, np.int64)}

    def merge(self, one: State, other: State) -> State:
        return {"counts": one["counts"] + other["counts"]}

    def told(self, state: State) -> dict[str, Any]:
        counts = state["counts"].tolist()
        each = {condition.text: count for condition, count in zip(self.conditions, counts[1:-1], strict=True)}
        return {"count": counts[0], "met": each, "all": counts[-1]}
