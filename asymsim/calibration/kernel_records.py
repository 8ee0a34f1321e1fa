"""Measured times of kernels, from the CSV that ``asymsim_kernels.tools.measure`` writes, beside the simulator's own."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

from asymsim.calibration.kernel_operators import OPERATORS, kernel_rows
from asymsim.calibration.launch_shape import Shape
from asymsim.catalogue.gpu import Gpu, load_gpu, lower_snake
from asymsim.catalogue.number_format import NUMBER_FORMATS
from asymsim.core.times.parameters import MEASURED, SOURCE_NAMES
from asymsim.estimator.gpu_arrays import gpu_arrays
from asymsim.estimator.operator_table import operator_times
from asymsim.util.errors import InputError

COLUMNS = (
    "gpu", "operator", "variant", "shape", "dtype", "metric", "p20", "p50", "p80", "unit", "versions", "date",
)  # fmt: skip
VARIANTS = ("triton", "sdpa", "materialised", "copy", "matmul")
UNITS = {"seconds": "s", "flops_per_s": "FLOP/s", "bytes_per_s": "B/s", "error": "of allowed"}


@dataclass(frozen=True, kw_only=True)
class Record:
    """One line of a CSV of measurements.

    Attributes
    ----------
    line : int
        In the file, the header being 1.
    gpu : Gpu
    operator, variant, dtype, metric, versions, date : str
        An operator of `kernel_rows.OPERATORS`, one of `VARIANTS`, a number format, one of `UNITS`, ``name=value``
        joined by semicolons, an ISO date.
    shape : Shape
    p20, p50, p80 : float
        Quantiles in the unit that `UNITS` gives the metric.
    """

    line: int
    gpu: Gpu
    operator: str
    variant: str
    shape: Shape
    dtype: str
    metric: str
    p20: float
    p50: float
    p80: float
    versions: str
    date: str


def read_records(path: str, device: Gpu | None = None) -> list[Record]:
    """Read a CSV of measurements and check every column of every row.

    Parameters
    ----------
    path : str
    device : Gpu, optional
        The only GPU that the rows may be of; it need not be in the catalogue.

    Raises
    ------
    InputError
        If the file cannot be read, a column is missing or unknown, or a row is malformed or of another GPU: its line,
        column and value.
    """
    try:
        with Path(path).open(newline="", encoding="utf-8") as file:
            lines = list(csv.reader(file, strict=True))
    except OSError as error:
        raise InputError("records", path, f"cannot be read ({error.strerror or error})") from None
    # Not UTF-8 and a NUL in the path are ValueErrors.
    except (ValueError, csv.Error) as error:
        raise InputError("records", path, f"is no CSV ({error})") from None
    if not lines or tuple(lines[0]) != COLUMNS:
        raise InputError("records", path, f"the first line must be {','.join(COLUMNS)}")
    if len(lines) == 1:
        raise InputError("records", path, "holds no measurement")
    return [_record(path, number, cells, device) for number, cells in enumerate(lines[1:], start=2)]


def _record(path: str, line: int, cells: Sequence[str], device: Gpu | None) -> Record:
    where = f"{path}, line {line}"
    if len(cells) != len(COLUMNS):
        raise InputError(where, len(cells), f"must have {len(COLUMNS)} columns")
    row = dict(zip(COLUMNS, cells, strict=True))
    for column, known in (("operator", OPERATORS), ("variant", VARIANTS), ("metric", UNITS), ("dtype", NUMBER_FORMATS)):
        if row[column] not in known:
            raise InputError(f"{where}: {column}", row[column], f"must be one of {', '.join(known)}")
    if row["unit"] != UNITS[row["metric"]]:
        raise InputError(f"{where}: unit", row["unit"], f"must be {UNITS[row['metric']]} for {row['metric']}")
    if not row["versions"] or not all(name and value for name, _, value in map(_split, row["versions"].split(";"))):
        raise InputError(f"{where}: versions", row["versions"], "write name=value, joined by semicolons")
    try:
        date.fromisoformat(row["date"])
    except ValueError:
        raise InputError(f"{where}: date", row["date"], "write it as 2026-01-31") from None
    quantiles = {name: _quantile(where, name, row[name], row["metric"]) for name in ("p20", "p50", "p80")}
    if not quantiles["p20"] <= quantiles["p50"] <= quantiles["p80"]:
        raise InputError(f"{where}: p50", row["p50"], f"must lie between p20 = {row['p20']} and p80 = {row['p80']}")
    try:
        shape, product = Shape(row["shape"]), _product(row["gpu"], device)
        kernel_rows(row["operator"], shape, NUMBER_FORMATS[row["dtype"]])
    except InputError as error:
        raise InputError(f"{where}: {error.field}", error.value, error.remedy) from None
    if device is not None and NUMBER_FORMATS[row["dtype"]].peak not in device.peak_flops_per_s:
        raise InputError(f"{where}: dtype", row["dtype"], f"{device.name} has no units for it")
    kept = {name: row[name] for name in ("operator", "variant", "dtype", "metric", "versions", "date")}
    return Record(line=line, gpu=product, shape=shape, **kept, **quantiles)  # type: ignore[arg-type]


def _product(name: str, device: Gpu | None) -> Gpu:
    if device is None:
        return load_gpu(name)
    if lower_snake(name) in (device.name, *device.aliases):
        return device
    if load_gpu(name).name != device.name:
        raise InputError("gpu", name, f"must be {device.name}; give records of one GPU")
    return device


def _split(part: str) -> tuple[str, str, str]:
    return part.partition("=")


def _quantile(where: str, name: str, text: str, metric: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    # An exact result has an error of 0; a time or a rate is above it.
    if not math.isfinite(value) or value < 0 or (value == 0 and metric != "error"):
        raise InputError(f"{where}: {name}", text, "must be a finite number above 0")
    return value


def predicted(record: Record) -> tuple[float, str]:
    """The simulator's time for what a record measured, in seconds, and where it comes from.

    Raises
    ------
    InputError
        If the GPU has no units for the record's number format.
    """
    rates = gpu_arrays(record.gpu, NUMBER_FORMATS[record.dtype])
    rows = kernel_rows(
        record.operator, record.shape, NUMBER_FORMATS[record.dtype], fused=record.variant != "materialised"
    )
    seconds, sources = operator_times(rows, rates, 1)
    return math.fsum(seconds[:, 1]), SOURCE_NAMES[min(sources, default=MEASURED)]


def compare_records(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Predicted beside measured, a row for each measured time; trials of other block sizes are left out.

    Returns
    -------
    list of dict
        ``error`` is predicted / measured - 1 at the median, as a fraction.
    """
    rows = []
    for record in records:
        if record.metric != "seconds" or "blocks" in record.shape:
            continue
        seconds, source = predicted(record)
        rows.append(
            {
                "gpu": record.gpu.name,
                "operator": record.operator,
                "variant": record.variant,
                "shape": record.shape.text,
                "dtype": record.dtype,
                "measured_p20_s": record.p20,
                "measured_p50_s": record.p50,
                "measured_p80_s": record.p80,
                "predicted_s": seconds,
                "error": seconds / record.p50 - 1,
                "source": source,
            }
        )
    return rows


def error_summary(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Error of each operator class: a GPU, an operator and a way to compute it.

    Returns
    -------
    list of dict
        ``bias`` is the median error, ``median_error`` and ``worst_error`` are of its size, all as fractions.
    """
    summary = []
    columns = ("gpu", "operator", "variant", "source")
    for key in dict.fromkeys(tuple(row[name] for name in columns) for row in rows):
        errors = [row["error"] for row in rows if tuple(row[name] for name in columns) == key]
        sizes = [abs(error) for error in errors]
        summary.append(
            dict(zip(columns, key, strict=True))
            | {"records": len(errors), "bias": median(errors), "median_error": median(sizes)}
            | {"worst_error": max(sizes)}
        )
    return summary
