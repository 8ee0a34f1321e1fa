"""Measured times of kernels, from the CSV that ``asymsim_kernels.tools.measure`` writes."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from asymsim.calibration.kernel_operators import OPERATORS, kernel_rows
from asymsim.calibration.launch_shape import Shape
from asymsim.catalogue.gpu import Gpu, load_gpu, lower_snake
from asymsim.catalogue.number_format import NUMBER_FORMATS
from asymsim.util.errors import InputError

COLUMNS = (
    "gpu", "operator", "variant", "shape", "dtype", "metric", "p20", "p50", "p80", "unit", "versions", "date",
)  # fmt: skip
VARIANTS = ("triton", "sdpa", "materialised", "copy", "matmul")
_NAME_VALUE = re.compile("[^=]+=.+", re.DOTALL)
UNITS = {"seconds": "s", "flops_per_s": "FLOP/s", "bytes_per_s": "B/s", "error": "of allowed"}


@dataclass(frozen=True, kw_only=True)
class Record:
    """One line of a CSV of measurements.

    Attributes
    ----------
    line : int
        Line number in the file; the header is line 1.
    gpu : Gpu
    operator, variant, dtype, metric, versions, date : str
        An operator of ``kernel_operators.OPERATORS``, one of `VARIANTS`, a number format, one of `UNITS`,
        ``name=value`` pairs joined by semicolons, and an ISO date.
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


def read_records(path: str, gpu: Gpu | None = None) -> list[Record]:
    """Read a CSV of measurements and check every column of every row.

    Parameters
    ----------
    path : str
    gpu : Gpu, optional
        The GPU that all rows must be of; it need not be in the catalogue. Any GPU of the catalogue by default.

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
    return [_record(path, line, cells, gpu) for line, cells in enumerate(lines[1:], start=2)]


def _record(path: str, line: int, cells: Sequence[str], gpu: Gpu | None) -> Record:
    where = f"{path}, line {line}"
    if len(cells) != len(COLUMNS):
        raise InputError(where, len(cells), f"must have {len(COLUMNS)} columns")
    row = dict(zip(COLUMNS, cells, strict=True))
    choices = {"operator": OPERATORS, "variant": VARIANTS, "metric": UNITS, "dtype": NUMBER_FORMATS}
    for column, names in choices.items():
        if row[column] not in names:
            raise InputError(f"{where}: {column}", row[column], f"must be one of {', '.join(names)}")
    if row["unit"] != UNITS[row["metric"]]:
        raise InputError(f"{where}: unit", row["unit"], f"must be {UNITS[row['metric']]} for {row['metric']}")
    if not row["versions"] or not all(map(_NAME_VALUE.fullmatch, row["versions"].split(";"))):
        raise InputError(f"{where}: versions", row["versions"], "write name=value, joined by semicolons")
    try:
        date.fromisoformat(row["date"])
    except ValueError:
        raise InputError(f"{where}: date", row["date"], "write it as 2026-01-31") from None
    quantiles = {name: _quantile(where, name, row[name], row["metric"]) for name in ("p20", "p50", "p80")}
    if not quantiles["p20"] <= quantiles["p50"] <= quantiles["p80"]:
        raise InputError(f"{where}: p50", row["p50"], f"must lie between p20 = {row['p20']} and p80 = {row['p80']}")
    try:
        shape, measured_gpu = Shape(row["shape"]), _measured_gpu(row["gpu"], gpu)
        kernel_rows(row["operator"], shape, NUMBER_FORMATS[row["dtype"]])
    except InputError as error:
        raise InputError(f"{where}: {error.field}", error.value, error.remedy) from None
    if gpu is not None and NUMBER_FORMATS[row["dtype"]].peak not in gpu.peak_flops_per_s:
        raise InputError(f"{where}: dtype", row["dtype"], f"{gpu.name} has no units for it")
    texts = {name: row[name] for name in ("operator", "variant", "dtype", "metric", "versions", "date")}
    return Record(line=line, gpu=measured_gpu, shape=shape, **texts, **quantiles)  # type: ignore[arg-type]


def _measured_gpu(name: str, expected: Gpu | None) -> Gpu:
    if expected is None:
        return load_gpu(name)
    if lower_snake(name) in (expected.name, *expected.aliases):
        return expected
    if load_gpu(name).name != expected.name:
        raise InputError("gpu", name, f"must be {expected.name}; give records of one GPU")
    return expected


def _quantile(where: str, name: str, text: str, metric: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    # An exact result has an error of 0; a time or a rate is above it.
    if not math.isfinite(value) or value < 0 or (value == 0 and metric != "error"):
        raise InputError(f"{where}: {name}", text, "must be a finite number above 0")
    return value
