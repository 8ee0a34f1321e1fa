"""Intervals of predicted times: residual quantiles by band of predicted time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from asymsim.core.arrays import Array
from asymsim.core.times.parameters import BANDS

# Rows that a 5 % quantile needs, or a single row decides it; bands are joined until each group has as many.
ROWS_A_GROUP = 40
# Coverage that left-out folds must reach: 90 %, less the spread that the choice of folds alone makes.
COVERED = 0.89
LEVELS = (0.05, 0.045, 0.04, 0.035, 0.03, 0.025, 0.02, 0.015, 0.01)
GROUPS = (12, 6, 4, 3, 2, 1)


def intervals(ratio: Array, predicted: Array, level: float = 0.05) -> dict[str, Array]:
    """Band edges and the lower and upper quantiles of measured / predicted in each band.

    A new row falls below a quantile p with probability p: it is the p (n + 1)-th of n ordered ratios.

    Parameters
    ----------
    ratio : array, shape (rows,)
        Measured / predicted, above 0.
    predicted : array, shape (rows,)
        Seconds.
    level : float
        Share of rows on either side, in (0, 0.5).

    Returns
    -------
    dict
        The fields of ``core.times.parameters.INTERVAL``, without the scale.
    """
    num_groups = next((count for count in GROUPS if len(predicted) >= count * ROWS_A_GROUP), 1)
    edges = np.quantile(predicted, np.linspace(0, 1, BANDS + 1))
    group = band_of(edges, predicted) // (BANDS // num_groups)
    interval = {"band_edges_s": edges}
    for name, quantile in (("ratio_p05", level), ("ratio_p95", 1 - level)):
        overall = np.quantile(ratio, quantile, method="weibull")
        group_ratios = [ratio[group == index] for index in range(num_groups)]
        # Equal predictions, such as a launch's, may leave a band without rows.
        values = [
            np.quantile(ratios, quantile, method="weibull") if len(ratios) else overall for ratios in group_ratios
        ]
        interval[name] = np.repeat(values, BANDS // num_groups)
    return interval


def level_of(ratio: Array, predicted: Array, fold: Array) -> float:
    """Level, 5 % or less, at which quantiles of all folds but one cover 90 % of the left-out fold, in the mean.

    Rows of a shape group err alike, so quantiles of few groups cover less of new groups than their level says.
    Parameters are not fitted anew for each fold: some twenty of them depend little on any of thousands of rows.

    Parameters
    ----------
    ratio, predicted : array, shape (rows,)
        As in `intervals`.
    fold : array of int64, shape (rows,)
    """
    for level in LEVELS:
        covered = 0
        for index in np.unique(fold):
            left_out = fold == index
            if left_out.all():
                return level
            low, high = bounds(intervals(ratio[~left_out], predicted[~left_out], level), predicted[left_out])
            measured = ratio[left_out] * predicted[left_out]
            covered += int(((measured >= low) & (measured <= high)).sum())
        if covered >= COVERED * len(ratio):
            return level
    return LEVELS[-1]


def band_of(edges: Any, predicted: Array) -> Array:
    """Index of the band of each predicted time; the outer bands are open."""
    return np.clip(np.searchsorted(edges, predicted, side="right") - 1, 0, BANDS - 1)


def bounds(interval: Mapping[str, Any], predicted: Array) -> tuple[Array, Array]:
    """Seconds at 5 % and at 95 % of predicted times, with the prediction between them."""
    band = band_of(interval["band_edges_s"], predicted)
    low, high = (np.asarray(interval[name])[band] for name in ("ratio_p05", "ratio_p95"))
    return predicted * np.minimum(1.0, low), predicted * np.maximum(1.0, high)
