"""Output of the commands: results to stdout or a file, remarks and progress to stderr."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from asymsim.reporting import tables
from asymsim.util.files import write_file

# Columns that the comparison needs. A narrower terminal breaks whole lines, which reads better than broken cells.
MIN_WIDTH = 108
Format = Literal["table", "json", "csv"]
_SUFFIXES: dict[str, Format] = {".json": "json", ".csv": "csv"}


def emit(
    document: Any, rows: tables.Rows, parts: Callable[[], list[Any]], format: Format | None, out: str | None
) -> None:
    """Write a result: ``document`` as JSON, ``rows`` as CSV, or ``parts`` as tables.

    Without a ``format`` the file's suffix decides, and otherwise tables are written. Tables in a file keep long
    lines; tables on a terminal are as wide as it is.
    """
    chosen = format or _SUFFIXES.get(Path(out or "").suffix.lower(), "table")
    if chosen == "json":
        text = tables.json_text(document)
    elif chosen == "csv":
        text = tables.csv_text(rows)
    else:
        on_terminal = out is None and sys.stdout.isatty()
        width = max(MIN_WIDTH, shutil.get_terminal_size().columns) if on_terminal else None
        text = tables.render(*parts(), width=width, color=on_terminal)
    if out is None:
        sys.stdout.write(text)
        sys.stdout.flush()
    else:
        write_file(out, text)
        say(f"wrote {out}")


def say(line: str) -> None:
    """A remark for the person at the terminal."""
    print(line, file=sys.stderr, flush=True)


@contextmanager
def progress(unit: str) -> Iterator[Callable[[int, int], None] | None]:
    """A progress bar on stderr, where that is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(unit, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
