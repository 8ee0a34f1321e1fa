"""Blocks of a part's rows: token counts laid out, filtered on fields, evaluated, filtered on figures."""

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
from asymsim.sweep.columns import FIGURES, RowFigures
from asymsim.sweep.evaluator import BLOCK_ROWS
from asymsim.sweep.grid import Grid, TokenCountRows
from asymsim.sweep.study import Study
from asymsim.util.errors import InputError, UnknownNameError


@dataclass
class PartStatistics:
    """Rows of a part, rows that passed its filters, and seconds by phase of the work."""

    rows: int = 0
    kept: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    def add_time(self, phase: str, since: float) -> float:
        """Add the time since ``since`` to a phase; returns the time now."""
        now = time.perf_counter()
        self.seconds[phase] = self.seconds.get(phase, 0.0) + now - since
        return now

    def add(self, other: PartStatistics) -> None:
        """Add the statistics of another part."""
        self.rows += other.rows
        self.kept += other.kept
        for phase, seconds in other.seconds.items():
            self.seconds[phase] = self.seconds.get(phase, 0.0) + seconds


class StoppedError(Exception):
    """The run was told to stop."""


class RowValues:
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
class RowBlock:
    """Rows of one configuration that passed the filters."""

    configuration: int
    rows: Array
    digits: list[Array]
    values: RowValues
    figures: dict[str, Array]


def evaluated_blocks(
    study: Study, first: int, last: int, statistics: PartStatistics, stop: Callable[[], bool]
) -> Iterator[RowBlock]:
    """Evaluate rows ``first`` to ``last``, a block at a time.

    Raises
    ------
    StoppedError
        If ``stop`` says so between blocks.
    AsymsimError
        If a row makes no scenario.
    """
    grid = study.grid
    for number in range(first // grid.rows_per_configuration, -(-last // grid.rows_per_configuration)):
        first_row = number * grid.rows_per_configuration
        begin, end = max(first - first_row, 0), min(last - first_row, grid.rows_per_configuration)
        now = time.perf_counter()
        try:
            prepared = _prepared_configuration(study, number)
        except InputError as error:
            if not study.only_possible or isinstance(error, UnknownNameError):
                raise
            statistics.rows += end - begin
            continue
        finally:
            statistics.add_time("bind", now)
        for low in range(begin, end, BLOCK_ROWS):
            if stop():
                raise StoppedError
            block = prepared.block(low, min(low + BLOCK_ROWS, end), statistics)
            if block is not None:
                yield block


class PreparedConfiguration:
    """A configuration, resolved, with the working memory of its evaluation; for one thread."""

    def __init__(self, study: Study, number: int) -> None:
        grid = study.grid
        self._grid, self._number = grid, number
        self._scenario = grid.configuration_scenario(number)
        resolved = resolve(self._scenario)
        self._settings = resolved.settings
        self._token_counts = TokenCountRows(grid, self._scenario, resolved)
        self._figures = RowFigures(resolved, study.needed, grid.rows_per_configuration)
        # Conditions on fields alone spare the rows that fail them the evaluation.
        self._on_fields = [condition for condition in study.filters if condition.name not in FIGURES]
        self._on_figures = [condition for condition in study.filters if condition.name in FIGURES]

    def _values(self, digits: list[Array]) -> RowValues:
        return RowValues(self._grid, self._scenario, self._settings, digits)

    def block(self, low: int, high: int, statistics: PartStatistics) -> RowBlock | None:
        """Rows ``low`` to ``high`` of the configuration that pass the filters; None where none does."""
        now = time.perf_counter()
        statistics.rows += high - low
        rows, digits = (
            np.arange(low, high) + self._number * self._grid.rows_per_configuration,
            self._grid.digits(low, high),
        )
        values = self._values(digits)
        for condition in self._on_fields:
            met = condition.met(values, len(rows))
            if not met.all():
                rows, digits = rows[met], [digit[met] for digit in digits]
                values = self._values(digits)
            if not len(rows):
                return None
        token_counts = self._token_counts.at(digits)
        now = statistics.add_time("lay out", now)
        figures = self._figures.evaluate(token_counts)
        now = statistics.add_time("evaluate", now)
        for condition in self._on_figures:
            met = condition.met(figures, len(rows))
            if not met.all():
                rows, digits = rows[met], [digit[met] for digit in digits]
                figures = {name: column[met] for name, column in figures.items()}
        values = self._values(digits)
        values.add(figures)
        statistics.add_time("filter", now)
        statistics.kept += len(rows)
        return RowBlock(self._number, rows, digits, values, figures) if len(rows) else None


_this_thread = threading.local()


def _prepared_configuration(study: Study, number: int) -> PreparedConfiguration:
    """The configuration that this thread prepared last, or a new one."""
    key = (study.hash, number)
    if getattr(_this_thread, "key", None) != key:
        _this_thread.prepared, _this_thread.key = PreparedConfiguration(study, number), key
    prepared: PreparedConfiguration = _this_thread.prepared
    return prepared
