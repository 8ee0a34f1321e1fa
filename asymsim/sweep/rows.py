"""Rows as Parquet or CSV: a column for each field that varies, then the figures."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Iterable
from typing import Any

import numpy as np

from asymsim.core.arrays import Array
from asymsim.sweep.axes import Listed
from asymsim.sweep.blocks import PartStatistics, RowBlock
from asymsim.sweep.columns import FIGURES, WHOLE
from asymsim.sweep.study import Study
from asymsim.util.parquet import arrow


def parquet_bytes(study: Study, blocks: Iterable[RowBlock], statistics: PartStatistics) -> bytes:
    """A Parquet file of the rows.

    Figures are split into their bytes, which compress where a float as a whole does not; fields refer to a
    dictionary, which takes next to no space where the product is regular.
    """
    pa, parquet = arrow()
    digits, figures = _gathered(study, blocks, statistics)
    now = time.perf_counter()
    arrays, names, plain = [], [], []
    for axis, places in zip(study.grid.axes, digits, strict=True):
        for name, values in zip(axis.fields, axis.values, strict=True):
            names.append(name)
            if isinstance(values, Listed):
                dictionary = pa.array(_cells(values.values))
                column = dictionary.take(pa.array(places))
                # Names become categories; two items of an axis may share one.
                arrays.append(column.dictionary_encode() if pa.types.is_string(dictionary.type) else column)
            else:
                arrays.append(pa.array(values.take(places)))
    for name, column in figures.items():
        names.append(name)
        arrays.append(pa.array(column))
        if column.dtype.kind == "f":
            plain.append(name)
    table = pa.Table.from_arrays(arrays, names).replace_schema_metadata({"asymsim_study": study.hash})
    sink = pa.BufferOutputStream()
    parquet.write_table(
        table,
        sink,
        row_group_size=1 << 20,
        compression="zstd",
        use_dictionary=[name for name in names if name not in figures],
        column_encoding=dict.fromkeys(plain, "BYTE_STREAM_SPLIT"),
        write_statistics=True,
    )
    content: bytes = sink.getvalue().to_pybytes()
    statistics.add_time("encode", now)
    return content


def csv_bytes(study: Study, blocks: Iterable[RowBlock], statistics: PartStatistics) -> bytes:
    """The rows as CSV with a header, every digit kept; undefined figures are empty."""
    digits, figures = _gathered(study, blocks, statistics)
    now = time.perf_counter()
    columns: dict[str, list[Any]] = {}
    for axis, places in zip(study.grid.axes, digits, strict=True):
        for name, values in zip(axis.fields, axis.values, strict=True):
            if isinstance(values, Listed):
                cells = _cells(values.values)
                columns[name] = [cells[place] for place in places.tolist()]
            else:
                columns[name] = values.take(places).tolist()
    for name, column in figures.items():
        # Only nan differs from itself.
        columns[name] = [None if value != value else value for value in column.tolist()]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    content = buffer.getvalue().encode()
    statistics.add_time("encode", now)
    return content


def _cells(values: tuple[Any, ...]) -> list[Any]:
    """Values of one kind: numbers as they are, anything mixed or composed as text."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int} or kinds <= {float} or kinds <= {bool} or kinds <= {str}:
        return list(values)
    if kinds <= {int, float}:
        return [None if value is None else float(value) for value in values]
    return [value if value is None or isinstance(value, str) else json.dumps(value) for value in values]


def _gathered(
    study: Study, blocks: Iterable[RowBlock], statistics: PartStatistics
) -> tuple[list[Array], dict[str, Array]]:
    """The places on each axis, and the figures, of all rows of a part."""
    grid = study.grid
    digits: list[list[Array]] = [[] for _ in grid.axes]
    figures: dict[str, list[Array]] = {name: [] for name in study.figures}
    for block in blocks:
        now = time.perf_counter()
        outer = [np.full(len(block.rows), grid.outer_digit(axis, block.configuration)) for axis in grid.outer]
        for gathered, places in zip(digits, (*outer, *block.digits), strict=True):
            gathered.append(places)
        for name, columns in figures.items():
            columns.append(block.figures[name].astype(_type(study, name)))
        statistics.add_time("gather", now)
    empty = np.zeros(0, np.int64)
    return [np.concatenate(places) if places else empty for places in digits], {
        name: np.concatenate(columns) if columns else np.zeros(0, _type(study, name))
        for name, columns in figures.items()
    }


def _type(study: Study, name: str) -> type:
    assert name in FIGURES
    if name == "fits":
        return np.bool_
    if study.single:
        return np.float32
    return np.int64 if name in WHOLE else np.float64
