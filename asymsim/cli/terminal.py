"""Where results and remarks go: results to stdout or a file, all else to stderr."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from asymsim.reporting import tables
from asymsim.util.files import write_file

# The comparison needs this much; a narrower terminal breaks lines itself, better than cells broken in themselves.
NARROWEST = 108
Format = Literal["table", "json", "csv"]
_SUFFIXES: dict[str, Format] = {".json": "json", ".csv": "csv"}


def emit(
    document: Any, rows: tables.Rows, parts: Callable[[], list[Any]], format: Format | None, out: str | None
) -> None:
    """Write a result: ``document`` as JSON, ``rows`` as CSV, or ``parts`` as tables.

    The format is that asked for, or that of the file's suffix, or tables. A file's tables are not
    broken into lines; a terminal's are as wide as it is.
    """
    chosen = format or _SUFFIXES.get(Path(out or "").suffix.lower(), "table")
    if chosen == "json":
        text = tables.json_text(document)
    elif chosen == "csv":
        text = tables.csv_text(rows)
    else:
        shown = out is None and sys.stdout.isatty()
        width = max(NARROWEST, shutil.get_terminal_size().columns) if shown else None
        text = tables.render(*parts(), width=width, color=shown)
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
def progress(what: str) -> Iterator[Callable[[int, int], None] | None]:
    """A progress bar on stderr, where that is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
