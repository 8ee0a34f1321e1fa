"""Rows of a trace file in any format: CSV with a header, or one JSON object a line; plain or gzipped."""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from asymsim.core.arrays import Array
from asymsim.util.errors import InputError

Chunk = tuple[Array, list[list[Any]]]


@dataclass(frozen=True)
class Rows:
    """Table of raw values.

    Attributes
    ----------
    path : str
    names : tuple of str
        Names in the header, or keys of the first object.
    chunks : callable
        Takes names and a chunk size in rows. Yields, for each chunk, the rows' line numbers as in an editor and a list
        of raw values for each name: text of CSV, values of JSON, None where a row has no value.
    unit : str
        Unit of the line numbers.
    """

    path: str
    names: tuple[str, ...]
    chunks: Callable[[tuple[str, ...], int], Iterator[Chunk]]
    unit: str = "line"

    def error(self, line: int, name: str, value: object, remedy: str) -> InputError:
        """Error that names one value."""
        return InputError(f"{self.path}: {self.unit} {line}: {name}", value, remedy)


def open_rows(path: str) -> Rows:
    """Rows of a CSV or JSON file, opened at its head.

    Raises
    ------
    InputError
        If the file cannot be read or is empty; the chunks raise it for errors further down.
    """
    for line_number, line in _lines(path):
        if not line.strip():
            continue
        if line.lstrip()[0] == "{":
            return _json_rows(path, line_number, line)
        if line.lstrip()[0] == "[":
            raise InputError("trace", path, "holds a JSON list; give one object a line, without brackets around them")
        return _csv_rows(path)
    raise InputError("trace", path, "is empty; give a CSV file with a header, or one JSON object a line")


def _lines(path: str) -> Iterator[tuple[int, str]]:
    """Lines of a text file with their numbers, from 1."""
    try:
        with open(path, "rb") as file:
            gzipped = file.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rb") if gzipped else open(path, "rb") as file:
            for line_number, raw in enumerate(file, start=1):
                try:
                    yield line_number, raw.decode("utf-8-sig" if line_number == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    remedy = f"not UTF-8 at its byte {error.start + 1}; save the file as UTF-8 text"
                    raise InputError(
                        f"{path}: line {line_number}", raw[error.start : error.start + 8], remedy
                    ) from None
    except (OSError, ValueError, EOFError, zlib.error) as error:
        raise InputError("trace", path, f"cannot be read ({getattr(error, 'strerror', None) or error})") from None


def _csv_rows(path: str) -> Rows:
    def rows() -> Iterator[tuple[int, list[str]]]:
        reader = csv.reader(line for _, line in _lines(path))
        try:
            for row in reader:
                if row:
                    yield reader.line_num, row
        except csv.Error as error:
            raise InputError(f"{path}: line {reader.line_num}", str(error), "give plain CSV, a row a line") from None

    header = tuple(name.strip() for name in next(rows())[1])

    def chunks(wanted: tuple[str, ...], size: int) -> Iterator[Chunk]:
        positions = [header.index(name) if name in header else None for name in wanted]
        lines: list[int] = []
        rows_read: list[list[str]] = []

        def chunk() -> Chunk:
            columns = list(zip(*rows_read, strict=True))
            empty = [None] * len(rows_read)
            return np.array(lines), [empty if position is None else list(columns[position]) for position in positions]

        reader_rows = rows()
        next(reader_rows)
        for line, row in reader_rows:
            if len(row) != len(header):
                raise InputError(f"{path}: line {line}", ",".join(row), f"give {len(header)} values, as the header has")
            lines.append(line)
            rows_read.append(row)
            if len(lines) == size:
                yield chunk()
                lines, rows_read = [], []
        if lines:
            yield chunk()

    return Rows(path, header, chunks)


def _json_rows(path: str, line_number: int, line: str) -> Rows:
    try:
        first_object = json.loads(line)
    except (ValueError, RecursionError) as error:
        # The file may be one object over many lines.
        try:
            first_object = json.loads("".join(text for _, text in _lines(path)))
        except (ValueError, RecursionError):
            raise _no_json(path, line_number, line, error) from None
    if "input_lens" in first_object:
        return _document_rows(path, first_object)

    def chunks(wanted: tuple[str, ...], size: int) -> Iterator[Chunk]:
        lines: list[int] = []
        columns: list[list[Any]] = [[] for _ in wanted]
        for line_number, line in _lines(path):
            if line.isspace():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise _no_json(path, line_number, line, error) from None
            if type(row) is not dict:
                raise InputError(f"{path}: line {line_number}", line.strip(), "give one JSON object a line")
            lines.append(line_number)
            for column, name in zip(columns, wanted, strict=True):
                column.append(row.get(name))
            if len(lines) == size:
                yield np.array(lines), columns
                lines, columns = [], [[] for _ in wanted]
        if lines:
            yield np.array(lines), columns

    return Rows(path, tuple(first_object), chunks)


def _no_json(path: str, line_number: int, line: str, error: Exception) -> InputError:
    return InputError(f"{path}: line {line_number}", line.strip(), f"is no JSON ({error}); give one object a line")


def _document_rows(path: str, document: dict[str, Any]) -> Rows:
    """Rows of a result of ``vllm bench serve --save-detailed``: one object of lists, one number for each request."""
    names = tuple(name for name in ("input_lens", "output_lens", "start_times") if name in document)
    sizes = [len(document[name]) if isinstance(document[name], list) else -1 for name in names]
    if min(sizes) < 0 or max(sizes) != min(sizes):
        raise InputError(
            f"{path}: {', '.join(names)}", sizes, "give lists of one length, as --save-detailed writes them"
        )

    def chunks(wanted: tuple[str, ...], size: int) -> Iterator[Chunk]:
        none = [None] * sizes[0]
        yield np.arange(1, sizes[0] + 1), [document[name] if name in names else none for name in wanted]

    return Rows(path, names, chunks, unit="request")
