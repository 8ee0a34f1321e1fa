"""Errors of predicted times and the coverage of their intervals."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from machine import Array
from search import band_of
from table import Table


class Score(NamedTuple):
    """|predicted / measured - 1|, the 90 % interval's coverage, and the share of rows where it is within +-50 %."""

    rows: int
    median: float
    mean: float
    p90: float
    bias: float
    coverage: float
    narrow: float
    roofline_median: float
    roofline_mean: float


def score(table: Table, fitted: Any, record: dict[str, Any], index: Array) -> Score:
    """Judge ``fitted`` on the rows ``index``, with the record's residual quantiles as intervals."""
    predicted = table.predict(index, fitted)
    measured = table.seconds[index]
    error = np.abs(predicted / measured - 1)
    band = band_of(record["band_edges_s"], predicted)
    low, high = (predicted * np.array(record[name])[band] for name in ("ratio_p05", "ratio_p95"))
    plain = np.abs(table.roofline[index] / measured - 1)
    return Score(
        len(index),
        float(np.median(error)),
        float(error.mean()),
        float(np.quantile(error, 0.9)),
        float(np.median(predicted / measured) - 1),
        float(((measured >= low) & (measured <= high)).mean()),
        float(((high - predicted < 0.5 * predicted) & (predicted - low < 0.5 * predicted)).mean()),
        float(np.median(plain)),
        float(plain.mean()),
    )


def show(label: str, result: Score) -> None:
    """One line of a score, in per cent."""
    print(
        f"{label:58s} {result.rows:6d} med {100 * result.median:5.1f} mean {100 * result.mean:5.1f}"
        f" p90 {100 * result.p90:5.1f} bias {100 * result.bias:+5.1f} cover {100 * result.coverage:5.1f}"
        f" narrow {100 * result.narrow:5.1f}"
        f" | roofline med {100 * result.roofline_median:4.0f} mean {100 * result.roofline_mean:4.0f}",
        flush=True,
    )
