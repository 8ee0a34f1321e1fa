"""Studies read from TOML."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from asymsim.methods.base import registered_methods
from asymsim.sweep.axes import FIELDS, SETTINGS, read_axes
from asymsim.sweep.columns import FIGURES
from asymsim.sweep.conditions import read_conditions
from asymsim.sweep.grid import Grid
from asymsim.sweep.identity import study_hash
from asymsim.sweep.reductions.file import read_reducers
from asymsim.sweep.study import Study
from asymsim.util.errors import InputError, UnknownNameError
from asymsim.util.toml import Reader, choice, each, integer, table

# Least and most rows of a part, and the number of parts in between. A run that is killed loses a part of each worker;
# there should be enough parts for all workers.
PART_ROWS = {"parquet": (1 << 17, 1 << 20, 64), "csv": (1 << 16, 1 << 18, 64), "reduce": (1 << 16, 1 << 26, 256)}


LARGEST_PART = 1 << 26
LARGEST_PRODUCT = 10**18
# A filter on the configuration itself.
POSSIBLE = "possible"

DEFAULT_FIGURES = ("ttft_s", "tpot_s", "peak_bytes")


def read_study(path: str | Path) -> Study:
    """Read a study; ``docs/sweeps.md`` lists the keys.

    Raises
    ------
    InputError
        If the file cannot be read, is no TOML, or has an unknown key or a value of the wrong kind or range.
    """
    shown = str(path)
    try:
        content = tomllib.loads(Path(path).read_bytes().decode())
    except FileNotFoundError:
        raise InputError("study", shown, "no such file; give the path of a TOML file") from None
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise InputError("study", shown, f"{reason}; give a TOML file") from None
    return parse_study(content, Path(path).stem)


def parse_study(content: Mapping[str, Any], name: str) -> Study:
    """The study that a parsed file describes."""
    readers: dict[str, Reader] = dict.fromkeys(("scenario", "axes", "filters", "output", "reduce"), _unchecked)
    values = table(content, "study", readers)
    fixed = values.get("scenario", {})
    if not isinstance(fixed, Mapping):
        raise InputError("scenario", fixed, "give a table of fields")
    for key in fixed:
        if key not in FIELDS:
            raise UnknownNameError("scenario", key, FIELDS)
    axes = read_axes(values.get("axes", {}))
    grid = Grid(fixed, axes)
    for field in grid.varied:
        if field in fixed:
            raise InputError("axes", field, "is fixed under [scenario] as well; give it once")
    if "model" not in (*fixed, *grid.varied):
        raise InputError("scenario", dict(fixed), "name a model here or under [axes]")
    if grid.rows > LARGEST_PRODUCT:
        raise InputError("axes", f"{grid.rows:.3g} scenarios", f"give at most {LARGEST_PRODUCT:.0e}")
    output = table(values.get("output", {}), "output", _OUTPUT)
    format = output.get("format", "reduce" if "reduce" in values else "parquet")
    if format != "reduce" and "reduce" in values:
        raise InputError("output: format", format, 'rows or reductions: leave out [[reduce]], or write "reduce"')
    comparable = _comparable_names(grid)
    conditions = values.get("filters", [])
    only_possible = isinstance(conditions, list) and POSSIBLE in conditions
    if only_possible:
        conditions = [condition for condition in conditions if condition != POSSIBLE]
    study = Study(
        name=name,
        grid=grid,
        filters=tuple(read_conditions(conditions, "filters", comparable, FIGURES)),
        only_possible=only_possible,
        figures=output.get("figures", DEFAULT_FIGURES),
        format=format,
        single=output.get("precision", "single") == "single" and format != "csv",
        reducers=read_reducers(values.get("reduce"), axes, comparable) if format == "reduce" else (),
        part_rows=output.get("part_rows") or _part_rows(format, grid.rows),
        hash="",
        document=dict(content),
    )
    return dataclasses.replace(study, hash=study_hash(study))


def _part_rows(format: str, rows: int) -> int:
    least, most, parts = PART_ROWS[format]
    return min(max(least, 1 << (rows // parts).bit_length()), most)


def _comparable_names(grid: Grid) -> tuple[str, ...]:
    """All fields, and all settings that a method has or the study names."""
    names = {SETTINGS + field.name for kind in registered_methods().values() for field in dataclasses.fields(kind)}
    tables = [
        grid.fixed.get("settings"),
        *(
            axis.item(place).get("settings")
            for axis in grid.outer
            if "settings" in axis.fields
            for place in range(axis.size)
        ),
    ]
    names.update(SETTINGS + name for each in tables if isinstance(each, Mapping) for name in each)
    return (*FIELDS, *sorted(names), *grid.varied)


def _unchecked(value: object, _where: str) -> object:
    return value


def _figure(value: object, where: str) -> str:
    if value not in FIGURES:
        raise UnknownNameError(where, str(value), FIGURES)
    return str(value)


_OUTPUT: dict[str, Reader] = {
    "format": choice("parquet", "csv", "reduce"),
    "figures": each(_figure, "figures"),
    "precision": choice("single", "double"),
    "part_rows": integer(1, LARGEST_PART),
}
