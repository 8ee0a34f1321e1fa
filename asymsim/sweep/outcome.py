"""The result of a reduced study: groups by their values, kept rows as scenarios with their figures."""

from __future__ import annotations

import math
from typing import Any

from asymsim.estimator.resolve import resolve
from asymsim.sweep.columns import Figures
from asymsim.sweep.grid import Loads
from asymsim.sweep.reductions.counts import Reducer, State
from asymsim.sweep.reductions.partial import States
from asymsim.sweep.study import Study


def result_of(study: Study, states: States) -> dict[str, Any]:
    """The document of all reductions."""
    return {
        "study": study.name,
        "hash": study.hash,
        "scenarios": study.grid.rows,
        "reductions": [
            {
                "name": reducer.name,
                "kind": type(reducer).__name__.lower(),
                "by": list(reducer.by),
                "groups": _told(study, reducer, groups),
            }
            for reducer, groups in zip(study.reducers, states, strict=True)
        ],
    }


def _told(study: Study, reducer: Reducer, groups: dict[tuple[int, ...], Any]) -> list[dict[str, Any]]:
    axes = [next(axis for axis in study.grid.axes if field in axis.fields) for field in reducer.by]
    # Items of an axis may differ in fields that the reduction does not go by.
    joined: dict[str, tuple[dict[str, Any], State]] = {}
    for key, state in sorted(groups.items()):
        of = {field: axis.item(place).get(field) for field, axis, place in zip(reducer.by, axes, key, strict=True)}
        name = repr(of)
        joined[name] = (of, reducer.merge(joined[name][1], state) if name in joined else state)
    result = []
    for of, state in joined.values():
        told = reducer.told(state)
        if "rows" in told:
            told["rows"] = [row(study, number, reducer.needs) for number in told["rows"]]
        result.append({"of": of, **told})
    return result


def row(study: Study, number: int, figures: tuple[str, ...] = ()) -> dict[str, Any]:
    """One row: its number, the values of the axes, and figures."""
    grid = study.grid
    setting_number, place = divmod(number, grid.rows_per_setting)
    names = tuple(dict.fromkeys((*figures, *study.figures)))
    scenario = grid.setting_scenario(setting_number)
    bound = resolve(scenario)
    loads = Loads(grid, scenario, bound).of(grid.digits(place, place + 1))
    found = {name: column[0].item() for name, column in Figures(bound, names, 1).of(loads).items()}
    shown = {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in found.items()}
    return {"row": number, **grid.items(number), **shown}
