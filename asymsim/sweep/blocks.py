"""One part of a study: consecutive rows, evaluated and turned into the bytes of its file."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from asymsim.core.arrays import Array
from asymsim.estimator.resolve import resolve
from asymsim.estimator.scenario import Scenario
from asymsim.sweep.axes import SETTINGS
from asymsim.sweep.block import BLOCK_ROWS
from asymsim.sweep.columns import FIGURES, Figures
from asymsim.sweep.grid import Grid, Loads
from asymsim.sweep.study import Study
from asymsim.util.errors import InputError, UnknownNameError


@dataclass
class Work:
    """What a part took and gave."""

    rows: int = 0
    kept: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    def timed(self, phase: str, since: float) -> float:
        """Book the time since then to a phase; gives the time now."""
        now = time.perf_counter()
        self.seconds[phase] = self.seconds.get(phase, 0.0) + now - since
        return now

    def join(self, other: Work) -> None:
        """Add another part's."""
        self.rows += other.rows
        self.kept += other.kept
        for phase, seconds in other.seconds.items():
            self.seconds[phase] = self.seconds.get(phase, 0.0) + seconds


class StoppedError(Exception):
    """The run was told to stop."""


class Values:
    """Fields and figures of some rows by name: arrays, or one value for all of them."""

    def __init__(self, grid: Grid, scenario: Scenario, settings: Mapping[str, Any], digits: list[Array]) -> None:
        self._scenario, self._settings, self._figures = scenario, settings, dict[str, Array]()
        self._columns = {
            name: (values, digit)
            for axis, digit in zip((*grid.images, *grid.inner), digits, strict=True)
            for name, values in zip(axis.fields, axis.values, strict=True)
        }

    def add(self, figures: dict[str, Array]) -> None:
        """Put figures beside the fields."""
        self._figures.update(figures)

    def __getitem__(self, name: str) -> Any:
        if name in self._figures:
            return self._figures[name]
        if name in self._columns:
            values, digits = self._columns[name]
            return values.take(digits)
        if name.startswith(SETTINGS):
            return self._settings.get(name.removeprefix(SETTINGS))
        return getattr(self._scenario, name)


@dataclass
class Block:
    """Rows of one setting that passed the filters."""

    setting: int
    rows: Array
    digits: list[Array]
    values: Values
    figures: dict[str, Array]


def blocks(study: Study, first: int, last: int, work: Work, stop: Callable[[], bool]) -> Iterator[Block]:
    """Evaluate rows ``first`` to ``last``, a block at a time.

    Raises
    ------
    StoppedError
        If ``stop`` says so between blocks.
    AsymsimError
        If a row makes no scenario.
    """
    grid = study.grid
    for number in range(first // grid.rows_per_setting, -(-last // grid.rows_per_setting)):
        start = number * grid.rows_per_setting
        begin, end = max(first - start, 0), min(last - start, grid.rows_per_setting)
        now = time.perf_counter()
        try:
            prepared = _prepared(study, number)
        except InputError as error:
            if not study.only_possible or isinstance(error, UnknownNameError):
                raise
            work.rows += end - begin
            continue
        finally:
            work.timed("bind", now)
        for low in range(begin, end, BLOCK_ROWS):
            if stop():
                raise StoppedError
            block = prepared.block(low, min(low + BLOCK_ROWS, end), work)
            if block is not None:
                yield block


class Prepared:
    """A setting, bound and with its working memory; for one thread."""

    def __init__(self, study: Study, number: int) -> None:
        grid = study.grid
        self._grid, self._number = grid, number
        self._scenario = grid.setting_scenario(number)
        bound = resolve(self._scenario)
        self._settings = bound.settings
        self._loads = Loads(grid, self._scenario, bound)
        self._figures = Figures(bound, study.needed, grid.rows_per_setting)
        # What compares fields alone spares its rows the evaluation.
        self._early = [each for each in study.filters if each.name not in FIGURES]
        self._late = [each for each in study.filters if each.name in FIGURES]

    def _values(self, digits: list[Array]) -> Values:
        return Values(self._grid, self._scenario, self._settings, digits)

    def block(self, low: int, high: int, work: Work) -> Block | None:
        """Rows ``low`` to ``high`` of the setting, those that pass; None where none does."""
        now = time.perf_counter()
        work.rows += high - low
        rows, digits = np.arange(low, high) + self._number * self._grid.rows_per_setting, self._grid.digits(low, high)
        values = self._values(digits)
        for condition in self._early:
            met = condition.met(values, len(rows))
            if not met.all():
                rows, digits = rows[met], [digit[met] for digit in digits]
                values = self._values(digits)
            if not len(rows):
                return None
        loads = self._loads.of(digits)
        now = work.timed("lay out", now)
        figures = self._figures.of(loads)
        now = work.timed("evaluate", now)
        for condition in self._late:
            met = condition.met(figures, len(rows))
            if not met.all():
                rows, digits = rows[met], [digit[met] for digit in digits]
                figures = {name: column[met] for name, column in figures.items()}
        values = self._values(digits)
        values.add(figures)
        work.timed("filter", now)
        work.kept += len(rows)
        return Block(self._number, rows, digits, values, figures) if len(rows) else None


_own = threading.local()


def _prepared(study: Study, number: int) -> Prepared:
    """The setting that this thread had last, or another."""
    key = (study.hash, number)
    if getattr(_own, "key", None) != key:
        _own.prepared, _own.key = Prepared(study, number), key
    prepared: Prepared = _own.prepared
    return prepared
