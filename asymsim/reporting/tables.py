"""Results as text: tables for people, CSV and JSON in SI units for programs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from asymsim.util.units import human_seconds

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

DASH = "-"
Rows = Sequence[Mapping[str, Any]]


def json_text(document: Any) -> str:
    """A document as indented JSON."""
    return json.dumps(document, indent=2, allow_nan=False) + "\n"


def csv_text(rows: Rows) -> str:
    """Rows as CSV with a header; an undefined value is an empty cell, a list is joined by spaces."""
    buffer = io.StringIO()
    columns = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    return buffer.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return " ".join(map(str, value))
    return json.dumps(value) if isinstance(value, dict) else value


def plain(value: Any) -> str:
    """A value unchanged, or a dash for none."""
    if value is None or value == "":
        return DASH
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def percent(fraction: float | None) -> str:
    """A fraction in per cent."""
    if fraction is None:
        return DASH
    shown = f"{100 * fraction:.1f} %"
    return "0.0 %" if shown == "-0.0 %" else shown


def seconds(value: float | None) -> str:
    """A time, or a dash."""
    return DASH if value is None else human_seconds(value)


def share(value: float | None) -> str:
    """A kept share or another small number, to four digits."""
    return DASH if value is None else f"{value:.4g}"


def number(value: float | None) -> str:
    """A count that may be a mean."""
    return DASH if value is None else f"{value:,.1f}"


def heading(text: str) -> Text:
    """A line above a table. Rich would break a title of the table itself at the table's width."""
    from rich.text import Text

    return Text(text, style="bold")


def table(columns: Iterable[tuple[str, str]], rows: Iterable[Sequence[str]]) -> Table:
    """Columns as (heading, "left" or "right") and their cells."""
    from rich import box
    from rich.table import Table

    result = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name, side in columns:
        result.add_column(name, justify=side, overflow="fold")  # type: ignore[arg-type]
    for row in rows:
        result.add_row(*row)
    return result


def records_table(rows: Rows) -> Table:
    """Rows of any keys, a column a key, numbers aligned right."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    numeric = {name for name in names if any(isinstance(row.get(name), (int, float)) for row in rows)}
    columns = [(name.replace("_", " "), "right" if name in numeric else "left") for name in names]
    return table(columns, [[_short(row.get(name)) for name in names] for row in rows])


def _short(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or DASH
    return f"{value:.4g}" if isinstance(value, float) else plain(value)


def render(*parts: Any, width: int | None = None, color: bool = False) -> str:
    """Rich tables and plain lines as text; without a width no line is broken."""
    from rich.console import Console
    from rich.text import Text

    buffer = io.StringIO()
    console = Console(file=buffer, width=width or 10_000, force_terminal=color, highlight=False, legacy_windows=False)
    for part in parts:
        console.print(Text(part) if isinstance(part, str) else part)
    return "".join(f"{line.rstrip()}\n" for line in buffer.getvalue().splitlines())
