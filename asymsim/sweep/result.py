"""The result of a reduced study: groups by their values, kept rows as scenarios with their figures."""

from __future__ import annotations

import math
from typing import Any

from asymsim.estimator.resolve import resolve
from asymsim.sweep.columns import RowFigures
from asymsim.sweep.grid import TokenCountRows
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
                "groups": _group_documents(study, reducer, groups),
            }
            for reducer, groups in zip(study.reducers, states, strict=True)
        ],
    }


def _group_documents(study: Study, reducer: Reducer, groups: dict[tuple[int, ...], Any]) -> list[dict[str, Any]]:
    axes = [next(axis for axis in study.grid.axes if field in axis.fields) for field in reducer.by]
    # Items of an axis may differ in fields that the reduction does not go by.
    joined: dict[str, tuple[dict[str, Any], State]] = {}
    for key, state in sorted(groups.items()):
        group = {field: axis.item(place).get(field) for field, axis, place in zip(reducer.by, axes, key, strict=True)}
        name = repr(group)
        joined[name] = (group, reducer.merge(joined[name][1], state) if name in joined else state)
    documents = []
    for group, state in joined.values():
        result = reducer.result(state)
        if "rows" in result:
            result["rows"] = [row_document(study, number, reducer.needs) for number in result["rows"]]
        documents.append({"of": group, **result})
    return documents


def row_document(study: Study, number: int, figures: tuple[str, ...] = ()) -> dict[str, Any]:
    """One row: its number, the values of the axes, and figures."""
    grid = study.grid
    configuration, place = divmod(number, grid.rows_per_configuration)
    names = tuple(dict.fromkeys((*figures, *study.figures)))
    scenario = grid.configuration_scenario(configuration)
    resolved = resolve(scenario)
    token_counts = TokenCountRows(grid, scenario, resolved).at(grid.digits(place, place + 1))
    columns = RowFigures(resolved, names, 1).evaluate(token_counts)
    values = {name: column[0].item() for name, column in columns.items()}
    shown = {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in values.items()}
    return {"row": number, **grid.items(number), **shown}
