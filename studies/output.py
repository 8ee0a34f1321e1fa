"""Output of the studies: one CSV, one PNG and the findings as lines of text, in out/studies/<name>/."""

from __future__ import annotations

import argparse
import csv
import io
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asymsim.reporting.plots.style import COLORS, LINES, MARKERS, png
from asymsim.util.errors import AsymsimError
from asymsim.util.files import make_folder, write_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = dict[str, Any]
ROOT = Path(__file__).resolve().parents[1]


def run(
    script: str,
    rows: Callable[..., list[Row]],
    draw: Callable[[list[Row]], Figure],
    findings: Callable[[list[Row]], list[str]],
    arguments: Sequence[str] | None = None,
    options: Callable[[argparse.ArgumentParser], None] | None = None,
) -> int:
    """Run a study from the command line: make its rows, write them and their figure, print the findings.

    Parameters
    ----------
    script : str
        The study's file; its number is dropped from the name of the folder, its docstring's first line is the help.
    rows : callable
        Makes the rows; gets the values of `options` as keywords.
    draw, findings : callable
        The figure and the lines of text that follow from the rows.
    arguments : sequence of str, optional
        Arguments of the command line by default.
    options : callable, optional
        Adds the study's own options to a parser.

    Returns
    -------
    int
        The exit code: 2 for a wrong input, explained in one line.
    """
    name = re.sub(r"^\d+_", "", Path(script).stem)
    parser = argparse.ArgumentParser(description=(sys.modules[rows.__module__].__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "studies" / name, help="folder of the results")
    if options:
        options(parser)
    option_values = vars(parser.parse_args(arguments))
    begin = time.monotonic()
    try:
        folder = make_folder(option_values.pop("out"))
        study_rows = rows(**option_values)
        write_file(folder / f"{name}.csv", csv_text(study_rows))
        write_file(folder / f"{name}.png", png(draw(study_rows)))
        lines = findings(study_rows)
        write_file(folder / "findings.txt", "\n".join(lines) + "\n")
    except AsymsimError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    print(f"{name}: {len(study_rows)} rows in {time.monotonic() - begin:.1f} s, in {folder}")
    for line in lines:
        print(f"  {line}")
    return 0


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of equal keys as CSV; None is an empty cell."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def panels(lines: int, columns: int, width: float, height: float, **options: Any) -> tuple[Figure, Any]:
    """A figure of its own canvas, which leaves pyplot's state and any display alone, and its axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(lines, columns, squeeze=False, **options)


def plain(axes: Axes, title: str = "", x: str = "", y: str = "") -> None:
    """Labels and grid as in the other figures."""
    axes.set_title(title, fontsize=9)
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)
    axes.tick_params(which="both", labelsize=8)
    axes.grid(color="0.92", linewidth=0.5)
    axes.set_axisbelow(True)


def look(index: int) -> dict[str, Any]:
    """Colour, line and marker of the nth curve: no two of 50 agree in all."""
    return {
        "color": COLORS[index % len(COLORS)],
        "linestyle": LINES[(index + index // len(COLORS)) % len(LINES)],
        "marker": MARKERS[index % len(MARKERS)],
        "markerfacecolor": "white" if index // len(MARKERS) % 2 else None,
        "markersize": 3.2,
        "linewidth": 1.1,
    }


def legend(figure: Figure, axes: Sequence[Axes], columns: int) -> None:
    """One legend below all panels, each label once."""
    entries: dict[str, Any] = {}
    for panel in axes:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    figure.legend(
        list(entries.values()), list(entries), loc="outside lower center", ncols=columns, fontsize=8, frameon=False,
        handlelength=3.0,
    )  # fmt: skip


def percent(value: float) -> str:
    """A share for people."""
    return f"{100 * value:.1f} %"
