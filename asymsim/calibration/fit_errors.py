"""Errors of predicted times, coverage of their intervals, and correlation of neighbouring rows' errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from asymsim.calibration.residual_intervals import bounds
from asymsim.calibration.shape_groups import MeasuredRows
from asymsim.core.arrays import Array


class FitErrors(NamedTuple):
    """Errors of predicted times over some rows.

    Attributes
    ----------
    rows : int
    median, mean, p90 : float
        Statistics of |predicted / measured - 1|.
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


def fit_errors(rows: MeasuredRows, parameters: Array, interval: Mapping[str, Any], index: Array) -> FitErrors:
    """Errors of fitted parameters and coverage of their interval on some rows.

    Parameters
    ----------
    rows : MeasuredRows
    parameters : array, shape (1,)
        A record of fitted parameters.
    interval : mapping
        The fields of ``core.times.parameters.INTERVAL``.
    index : array of int64
        The rows, at least one.
    """
    predicted = rows.predict(index, parameters)
    measured = rows.seconds[index]
    error = np.abs(predicted / measured - 1)
    low, high = bounds(interval, predicted)
    roofline_error = np.abs(rows.roofline_s[index] / measured - 1)
    return FitErrors(
        rows=len(index),
        median=float(np.median(error)),
        mean=float(error.mean()),
        p90=float(np.quantile(error, 0.9)),
        bias=float(np.median(predicted / measured) - 1),
        coverage=float(((measured >= low) & (measured <= high)).mean()),
        narrow=float(((high <= 1.5 * predicted) & (low >= 0.5 * predicted)).mean()),
        roofline_median=float(np.median(roofline_error)),
        roofline_mean=float(roofline_error.mean()),
    )


def shape_group_correlation(rows: MeasuredRows, parameters: Array) -> float:
    """Correlation of the log residuals of neighbouring token counts in one shape group, all else the same.

    The times of a pruned and an unpruned run, which differ in token count, err alike to this degree. 0 where no two
    rows are neighbours.
    """
    residual = np.log(rows.seconds / rows.predict(np.arange(len(rows.seconds)), parameters))
    keys = np.stack([rows.columns[name] for name in rows.runs])
    order = np.lexsort(keys[::-1])
    ordered = keys[:-1, order]
    neighbours = (ordered[:, 1:] == ordered[:, :-1]).all(axis=0)
    first, second = residual[order[:-1]][neighbours], residual[order[1:]][neighbours]
    if len(first) < 2 or first.std() == 0.0 or second.std() == 0.0:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])
