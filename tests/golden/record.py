"""Golden entries of today: each case run, its result as it is kept."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import shlex
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

from golden import command_cases, documents, estimate_cases, package, serving_cases

FOLDER = Path(__file__).parent
STUDIES = {path.stem: path for path in sorted((FOLDER / "studies").glob("*.toml"))}
ESTIMATES = estimate_cases.scenarios()
# Groups of entries, each a file: the names of their cases, and how a case is run.
Case = Callable[[str], Any]
SHOWN_EVENTS = 6


@contextlib.contextmanager
def inputs() -> Iterator[None]:
    """A folder of its own with the input files, so that no path in a result depends on where it was made."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        for path in (FOLDER / "inputs").iterdir():
            shutil.copy(path, folder)
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(before)


def of_estimate(name: str) -> Any:
    """A result document; its operators by columns."""
    fields, operators = ESTIMATES[name]
    document = package.estimate_document(fields, operators)
    if "operators" in document:
        rows = document["operators"]
        columns = dict.fromkeys(column for row in rows for column in row)
        document["operators"] = {column: [row.get(column) for row in rows] for column in columns}
    return documents.kept(document)


def of_command(line: str) -> dict[str, Any]:
    """Exit code and output of a command line, as on a terminal of 120 columns without colour."""
    return captured(tuple(shlex.split(line)))


def captured(argv: tuple[str, ...]) -> dict[str, Any]:
    """Exit code, stdout and stderr."""
    out, err = io.StringIO(), io.StringIO()
    terminal = {"COLUMNS": "120", "LINES": "40", "NO_COLOR": "1", "TERM": "dumb"}
    with (
        mock.patch.dict(os.environ, terminal),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        os.environ.pop("FORCE_COLOR", None)
        code = package.command_line(argv)
    return {"exit": code, "stdout": out.getvalue(), "stderr": err.getvalue()}


def of_plan(name: str) -> Any:
    """The document of a plan."""
    answer = captured((*command_cases.PLANS[name], "--format", "json"))
    assert answer["exit"] == 0, answer
    return documents.kept(json.loads(answer["stdout"]))


def of_sweep(name: str) -> Any:
    """The reductions of a study, or its rows: their number, some of them, and of each column a hash and the sum."""
    shutil.copy(STUDIES[name], f"{name}.toml")
    answer = captured(("sweep", f"{name}.toml", "--workers", "1", "--out", "out"))
    assert answer["exit"] == 0, answer
    (folder,) = Path("out").glob(f"{name}-*")
    if (folder / "result.json").exists():
        result = json.loads((folder / "result.json").read_text())
        # Of the version and of the files that the study names.
        del result["hash"]
        return documents.kept(result)
    columns: dict[str, list[Any]] = {}
    for part in sorted(folder.glob("part-*")):
        for column, values in _columns(part).items():
            columns.setdefault(column, []).extend(documents.kept({column: value})[column] for value in values)
    count = len(next(iter(columns.values())))
    shown = sorted({0, count // 3, count // 2, count - 1})
    return {
        "rows": count,
        # A text counts 0 in the sum.
        "columns": {column: _summary(values) for column, values in columns.items()},
        "some rows": {str(row): {column: values[row] for column, values in columns.items()} for row in shown},
    }


def _columns(part: Path) -> Mapping[str, list[Any]]:
    if part.suffix == ".parquet":
        from pyarrow import parquet

        found: dict[str, list[Any]] = parquet.read_table(part).to_pydict()
        return found
    with part.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {column: [_cell(row[column]) for row in rows] for column in rows[0]}


def _cell(text: str) -> Any:
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text


def _summary(values: list[Any]) -> dict[str, Any]:
    # Nine digits: a hash has no tolerance.
    exact = [f"{value:.9g}" if isinstance(value, float) else value for value in values]
    numbers = [documents.number(value) for value in values]
    return {"hash": documents.digest(exact), "sum": documents.kept(float(sum(numbers)))}


def of_serving(name: str) -> Any:
    """The document of a run, hashes and the first lines of its event log, and the times of each request."""
    case = serving_cases.RUNS[name]
    parts = ("scenario", "load", "server", "fleet", "limits_ms")
    document, log, rest = package.serving_run(*(case.get(part, {}) for part in parts))
    events = {column: list(map(_plain, values)) for column, values in log.items()}
    rows = list(zip(*events.values(), strict=True))
    requests = {column: documents.kept({column: values})[column] for column, values in rest["requests"].items()}
    return {
        "document": documents.kept(document),
        "log": {
            "events": len(rows),
            "of each kind": dict(sorted(Counter(events["event"]).items())),
            "hashes": {column: documents.digest(values) for column, values in events.items()},
            "hash of rows": documents.digest(rows),
            "first": [" ".join(map(str, row)) for row in rows[:SHOWN_EVENTS]],
            "last": [" ".join(map(str, row)) for row in rows[-SHOWN_EVENTS:]],
        },
        "requests": {
            column: values if column in ("ttft_s", "e2e_s") else _hashed(values) for column, values in requests.items()
        },
        "whole": documents.kept(rest["whole"]),
    }


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def _hashed(values: Any) -> dict[str, Any]:
    flat = values["runs"] if isinstance(values, dict) else values
    return {"hash": documents.digest(flat), "first": flat[:4]}


GROUPS: dict[str, tuple[tuple[str, ...], Case]] = {
    "estimates": (tuple(name for name, (_, listed) in ESTIMATES.items() if not listed), of_estimate),
    "estimates_with_operators": (tuple(name for name, (_, listed) in ESTIMATES.items() if listed), of_estimate),
    "sweeps": (tuple(STUDIES), of_sweep),
    "serving": (tuple(serving_cases.RUNS), of_serving),
    "plans": (tuple(command_cases.PLANS), of_plan),
    **{f"command_{group}": (lines, of_command) for group, lines in command_cases.COMMANDS.items()},
}


def made(group: str, name: str) -> Any:
    """The entry of a case as today's code makes it, as it would be read back."""
    with inputs():
        return json.loads(json.dumps(GROUPS[group][1](name), sort_keys=True))
