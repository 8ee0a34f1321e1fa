"""Predicted times of measured kernels, and their errors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import Any

from asymsim.calibration.kernel_operators import kernel_rows
from asymsim.calibration.kernel_records import Record
from asymsim.catalogue.number_format import NUMBER_FORMATS
from asymsim.core.times.parameters import MEASURED, SOURCE_NAMES
from asymsim.estimator.gpu_arrays import gpu_arrays
from asymsim.estimator.operator_table import operator_times


def predicted_seconds(record: Record) -> tuple[float, str]:
    """Predicted seconds of a record's kernel, and the source of the prediction.

    Raises
    ------
    InputError
        If the GPU has no units for the record's number format.
    """
    dtype = NUMBER_FORMATS[record.dtype]
    operators = kernel_rows(record.operator, record.shape, dtype, fused=record.variant != "materialised")
    seconds, sources = operator_times(operators, gpu_arrays(record.gpu, dtype), 1)
    return math.fsum(seconds[:, 1]), SOURCE_NAMES[min(sources, default=MEASURED)]


def compare_records(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Predicted beside measured seconds, a row for each record; trials of other block sizes are left out.

    Returns
    -------
    list of dict
        ``error`` is predicted / measured - 1 at the median, as a fraction.
    """
    rows = []
    for record in records:
        if record.metric != "seconds" or "blocks" in record.shape:
            continue
        seconds, source = predicted_seconds(record)
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
    """Errors by GPU, operator, variant and source of the prediction.

    Returns
    -------
    list of dict
        ``bias`` is the median error, ``median_error`` and ``worst_error`` are of its absolute value, all fractions.
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
