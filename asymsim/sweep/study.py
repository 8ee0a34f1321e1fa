"""Study: the fixed fields, axes, filters, output and reductions of a sweep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from asymsim.sweep.columns import FIGURES
from asymsim.sweep.conditions import Condition
from asymsim.sweep.grid import Grid
from asymsim.sweep.reductions.counts import Reducer


@dataclass(frozen=True)
class Study:
    """A sweep, as its file describes it.

    Attributes
    ----------
    name : str
        Of the file, without its ending.
    grid : Grid
    filters : tuple of Condition
        Rows that fail one are left out.
    only_possible : bool
        Leave out configurations that cannot be, such as a number format that the GPU lacks, instead of refusing them.
    figures : tuple of str
        Columns of the rows, or those shown with rows that a reduction keeps.
    format : str
        parquet, csv or reduce.
    single : bool
        Whether figures are rounded to 32 bits; csv has all digits.
    reducers : tuple of Reducer
    part_rows : int
    hash : str
        Of all that the result depends on.
    document : dict
        The parsed file, from which another process makes the same study.
    """

    name: str
    grid: Grid
    filters: tuple[Condition, ...]
    only_possible: bool
    figures: tuple[str, ...]
    format: str
    single: bool
    reducers: tuple[Reducer, ...]
    part_rows: int
    hash: str
    document: dict[str, Any]

    @property
    def parts(self) -> int:
        """Number of parts."""
        return -(-self.grid.rows // self.part_rows)

    @property
    def needed(self) -> tuple[str, ...]:
        """Figures that must be evaluated."""
        names = [condition.name for condition in self.filters]
        if self.format == "reduce":
            names += [name for reducer in self.reducers for name in reducer.needs]
        else:
            names += self.figures
        return tuple(dict.fromkeys(name for name in names if name in FIGURES))
