"""Errors of predicted times, the coverage of their intervals, and how far neighbours err alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from asymsim.calibration.residual_intervals import bounds
from asymsim.calibration.shape_groups import MeasuredRows
from asymsim.core.arrays import Array


class Score(NamedTuple):
    """How good predicted times are.

    Attributes
    ----------
    rows : int
    median, mean, p90 : float
        Of |predicted / measured - 1|.
    bias : float
        Median of predicted / measured, less 1.
    coverage, narrow : float
        Share of rows inside the 90 % interval; share whose interval lies within 50 % of the prediction.
    roofline_median, roofline_mean : float
        The same errors of the bound by peak and bandwidth.
    """

    rows: int
    median: float
    mean: float
    p90: float
    bias: float
    coverage: float
    narrow: float
    roofline_median: float
    roofline_mean: float


def score(table: MeasuredRows, numbers: Array, interval: Mapping[str, Any], index: Array) -> Score:
    """Judge numbers and intervals on some rows.

    Parameters
    ----------
    table : Table
    numbers : array, shape (1,)
        A record of fitted numbers.
    interval : mapping
        The fields of ``core.times.parameters.INTERVAL``.
    index : array of int64
        The rows, at least one.
    """
    predicted = table.predict(index, numbers)
    measured = table.seconds[index]
    error = np.abs(predicted / measured - 1)
    low, high = bounds(interval, predicted)
    plain = np.abs(table.roofline_s[index] / measured - 1)
    return Score(
        rows=len(index),
        median=float(np.median(error)),
        mean=float(error.mean()),
        p90=float(np.quantile(error, 0.9)),
        bias=float(np.median(predicted / measured) - 1),
        coverage=float(((measured >= low) & (measured <= high)).mean()),
        narrow=float(((high <= 1.5 * predicted) & (low >= 0.5 * predicted)).mean()),
        roofline_median=float(np.median(plain)),
        roofline_mean=float(plain.mean()),
    )


def shape_group_correlation(table: MeasuredRows, numbers: Array) -> float:
    """Correlation of the log residuals of neighbouring token counts at the same site, all else the same.

    What a pruned run takes with one token count and an unpruned one with another errs alike to this degree.
    0 where no two rows are neighbours.
    """
    residual = np.log(table.seconds / table.predict(np.arange(len(table.seconds)), numbers))
    keys = np.stack([table.columns[name] for name in table.runs])
    order = np.lexsort(keys[::-1])
    ordered = keys[:-1, order]
    together = (ordered[:, 1:] == ordered[:, :-1]).all(axis=0)
    first, second = residual[order[:-1]][together], residual[order[1:]][together]
    if len(first) < 2 or first.std() == 0.0 or second.std() == 0.0:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])
