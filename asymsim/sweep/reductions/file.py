"""The ``[[reduce]]`` tables of a study."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

from asymsim.sweep.axes import Axis, Listed
from asymsim.sweep.columns import FIGURES
from asymsim.sweep.conditions import read_conditions
from asymsim.sweep.reductions.counts import Histogram, Objectives, Quantiles, Reducer
from asymsim.sweep.reductions.pareto_top_k import Pareto, Top
from asymsim.util.errors import InputError, UnknownNameError
from asymsim.util.toml import Reader, choice, each, integer, need, number, share, table

LARGEST_BINS = 10**6
# Groups of a reduction: each keeps a state of its own.
LARGEST_GROUPS = 10**5
_KEYS = {
    "histogram": ("figure", "from", "to", "bins", "scale"),
    "quantiles": ("figure", "at"),
    "top": ("figure", "count", "best"),
    "pareto": ("figures", "best"),
    "slo": ("conditions",),
}


def read_reducers(content: object, axes: Sequence[Axis], fields: Sequence[str]) -> tuple[Reducer, ...]:
    """The reductions of a study.

    Raises
    ------
    InputError
        If a key is missing or unknown, or a value of the wrong kind.
    """
    if not isinstance(content, list) or not content:
        raise InputError("reduce", content, "add a [[reduce]] table: what shall be left of the rows?")
    reducers = [_reducer(entry, f"reduce {count}", axes, fields) for count, entry in enumerate(content, start=1)]
    for count, reducer in enumerate(reducers, start=1):
        if any(reducer.name == other.name for other in reducers[: count - 1]):
            raise InputError(f"reduce {count}: name", reducer.name, "is given twice")
    return tuple(reducers)


def _reducer(content: Any, where: str, axes: Sequence[Axis], fields: Sequence[str]) -> Reducer:
    kind = choice(*_KEYS)(content.get("kind") if isinstance(content, dict) else content, f"{where}: kind")
    best = choice("smallest", "largest")
    readers: dict[str, Reader] = {
        "kind": choice(*_KEYS),
        "name": _text,
        "by": each(_text, "fields"),
        "figure": _figure,
        "figures": each(_figure, "two figures"),
        "from": number,
        "to": number,
        "bins": integer(1, LARGEST_BINS),
        "scale": choice("linear", "log"),
        "at": each(share, "shares"),
        "count": integer(1, 10**5),
        "best": each(best, "smallest or largest") if kind == "pareto" else best,
        "conditions": lambda value, place: tuple(read_conditions(value, place, fields, FIGURES)),
    }
    values = table(content, where, {key: readers[key] for key in ("kind", "name", "by", *_KEYS[kind])})
    by = values.get("by", ())
    groups = 1
    for field in by:
        axis = next((axis for axis in axes if field in axis.fields), None)
        if axis is None:
            raise UnknownNameError(f"{where}: by", field, [field for axis in axes for field in axis.fields])
        if not isinstance(axis.values[axis.fields.index(field)], Listed):
            raise InputError(f"{where}: by", field, "is drawn at random; group by a list or a range")
        groups *= axis.size
    if groups > LARGEST_GROUPS:
        raise InputError(f"{where}: by", list(by), f"makes {groups} groups; give at most {LARGEST_GROUPS}")
    if kind == "slo":
        need(values, ("conditions",), where)
        return Objectives(values.get("name", "slo"), by, values["conditions"])
    if kind == "pareto":
        need(values, ("figures", "best"), where)
        if len(values["figures"]) != 2 or len(values["best"]) != 2:
            raise InputError(where, content, "give two figures, and smallest or largest for each")
        ups = tuple(each == "largest" for each in values["best"])
        name = values.get("name", "pareto of " + " and ".join(values["figures"]))
        return Pareto(name, by, values["figures"], (ups[0], ups[1]))
    need(values, ("figure",), where)
    figure = values["figure"]
    name = values.get("name", f"{kind} of {figure}")
    if kind == "quantiles":
        return Quantiles(name, by, figure, tuple(float(each) for each in values.get("at", (0.05, 0.5, 0.95, 0.99))))
    if kind == "top":
        return Top(name, by, figure, values.get("count", 10), values.get("best", "smallest") == "largest")
    need(values, ("from", "to", "bins"), where)
    return Histogram(name, by, figure, _edges(values, where))


def _edges(values: dict[str, Any], where: str) -> tuple[float, ...]:
    low, high, bins = float(values["from"]), float(values["to"]), values["bins"]
    log = values.get("scale") == "log"
    if not (0 < low < high if log else low < high) or not math.isfinite(high):
        raise InputError(f"{where}: to", high, f"must be above from{', and from above 0' if log else ''}")
    if log:
        inside = [low * (high / low) ** (index / bins) for index in range(1, bins)]
    else:
        inside = [low + (high - low) * (index / bins) for index in range(1, bins)]
    edges = (low, *inside, high)
    if any(below >= above for below, above in itertools.pairwise(edges)):
        raise InputError(f"{where}: bins", bins, "give fewer: the edges of some would be equal")
    return edges


def _text(value: object, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InputError(where, value, "give a text in quotes")
    return value


def _figure(value: object, where: str) -> str:
    if value not in FIGURES:
        raise UnknownNameError(where, str(value), FIGURES)
    return str(value)
