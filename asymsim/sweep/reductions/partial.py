"""Reduced parts: states of all reductions, by group, written as JSON, read and merged."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from asymsim.core.arrays import Array
from asymsim.sweep.axes import Axis
from asymsim.sweep.blocks import PartStatistics, RowBlock
from asymsim.sweep.reductions.counts import Reducer, State
from asymsim.sweep.study import Study

# For each reduction the state of each group; a group is named by its places on the axes of ``by``.
States = list[dict[tuple[int, ...], State]]


def reduce_blocks(study: Study, blocks: Iterable[RowBlock], statistics: PartStatistics) -> bytes:
    """The states of a part's rows as JSON."""
    states: States = [{} for _ in study.reducers]
    for block in blocks:
        now = time.perf_counter()
        for reducer, groups in zip(study.reducers, states, strict=True):
            for key, chosen in _groups(study, reducer, block):
                rows, values = block.rows, block.values
                chosen_values = (
                    values if chosen is None else {name: _pick(values[name], chosen) for name in reducer.needs}
                )
                rows = rows if chosen is None else rows[chosen]
                groups[key] = reducer.add(groups.get(key) or reducer.start(), rows, chosen_values)
        statistics.add_time("reduce", now)
    return dump_states(states)


def _pick(values: Any, chosen: Array) -> Any:
    return values[chosen] if isinstance(values, np.ndarray) else values


def _groups(study: Study, reducer: Reducer, block: RowBlock) -> Iterator[tuple[tuple[int, ...], Array | None]]:
    """The groups of a block with their rows; None stands for all of them."""
    grid = study.grid
    inside = (*grid.images, *grid.inner)
    axes = [next(axis for axis in grid.axes if field in axis.fields) for field in reducer.by]
    key: Any = 0
    for axis in axes:
        place = block.digits[inside.index(axis)] if axis in inside else grid.outer_digit(axis, block.configuration)
        key = key * axis.size + place
    if np.ndim(key) == 0 or int(key.min()) == int(key.max()):
        yield _places(axes, int(np.ravel(key)[0])), None
        return
    # Groups are few; NumPy sorts 16-bit numbers by counting, in one pass.
    short = key.astype(np.uint16) if int(key.max()) < 1 << 16 else key
    order = np.argsort(short, kind="stable")
    edges = np.flatnonzero(np.diff(short[order])) + 1
    for chosen in np.split(order, edges):
        yield _places(axes, int(key[chosen[0]])), chosen


def _places(axes: Sequence[Axis], key: int) -> tuple[int, ...]:
    places = []
    for axis in reversed(axes):
        key, place = divmod(key, axis.size)
        places.append(place)
    return tuple(reversed(places))


def merge_states(study: Study, one: States, other: States) -> States:
    """The states of the rows of both; ``one`` is changed."""
    for reducer, groups, more in zip(study.reducers, one, other, strict=True):
        for key, state in more.items():
            groups[key] = reducer.merge(groups[key], state) if key in groups else state
    return one


def dump_states(states: States) -> bytes:
    """States as JSON; floats in full."""

    def plain(state: State) -> dict[str, Any]:
        return {
            name: {"dtype": value.dtype.str, "values": value.tolist()} if isinstance(value, np.ndarray) else value
            for name, value in state.items()
        }

    lists = [[[list(key), plain(state)] for key, state in sorted(groups.items())] for groups in states]
    return json.dumps(lists, separators=(",", ":")).encode()


def load_states(content: bytes) -> States:
    """States from the JSON of ``dump_states``."""

    def array(value: Any) -> Any:
        return np.array(value["values"], value["dtype"]) if isinstance(value, dict) else value

    return [
        {tuple(key): {name: array(value) for name, value in state.items()} for key, state in groups}
        for groups in json.loads(content)
    ]
