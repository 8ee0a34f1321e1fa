"""Residual quantiles by band of predicted time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from asymsim.core.arrays import Array
from asymsim.core.times.parameters import BANDS

# A 5 % quantile of fewer rows is a matter of one row; bands are joined until each group has as many.
ROWS_A_GROUP = 40
# 90 %, less what the choice of folds alone moves it.
COVERED = 0.89
LEVELS = (0.05, 0.045, 0.04, 0.035, 0.03, 0.025, 0.02, 0.015, 0.01)
GROUPS = (12, 6, 4, 3, 2, 1)


def intervals(ratio: Array, predicted: Array, level: float = 0.05) -> dict[str, Array]:
    """Band edges and the lower and upper quantiles of measured / predicted in each band.

    Quantiles are those that a new row falls below with that chance: the p (n + 1)-th of n ordered ratios.

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
        The fields of ``core.times.parameters.INTERVAL`` but the scale.
    """
    groups = next((count for count in GROUPS if len(predicted) >= count * ROWS_A_GROUP), 1)
    edges = np.quantile(predicted, np.linspace(0, 1, BANDS + 1))
    group = band_of(edges, predicted) // (BANDS // groups)
    made = {"band_edges_s": edges}
    for name, quantile in (("ratio_p05", level), ("ratio_p95", 1 - level)):
        whole = np.quantile(ratio, quantile, method="weibull")
        parts = [ratio[group == which] for which in range(groups)]
        # Equal predictions, such as a launch's, may leave a band without rows.
        values = [np.quantile(part, quantile, method="weibull") if len(part) else whole for part in parts]
        made[name] = np.repeat(values, BANDS // groups)
    return made


def level_of(ratio: Array, predicted: Array, fold: Array) -> float:
    """The level, 5 % or less, at which quantiles of all folds but one cover 90 % of the one, in the mean.

    Rows of a site err alike, so quantiles of few sites reach less far on new sites than their level says. Numbers
    are not fitted anew for each fold: some twenty of them on thousands of rows hardly know the rows.

    Parameters
    ----------
    ratio, predicted : array, shape (rows,)
        As in `intervals`.
    fold : array of int64, shape (rows,)
    """
    for level in LEVELS:
        covered = 0
        for left in np.unique(fold):
            out = fold == left
            if out.all():
                return level
            low, high = bounds(intervals(ratio[~out], predicted[~out], level), predicted[out])
            measured = ratio[out] * predicted[out]
            covered += int(((measured >= low) & (measured <= high)).sum())
        if covered >= COVERED * len(ratio):
            return level
    return LEVELS[-1]


def band_of(edges: Any, predicted: Array) -> Array:
    """Index of the band of each predicted time, the outer ones open."""
    return np.clip(np.searchsorted(edges, predicted, side="right") - 1, 0, BANDS - 1)


def bounds(interval: Mapping[str, Any], predicted: Array) -> tuple[Array, Array]:
    """Seconds at 5 % and at 95 % of predicted times, the prediction itself between them."""
    band = band_of(interval["band_edges_s"], predicted)
    low, high = (np.asarray(interval[name])[band] for name in ("ratio_p05", "ratio_p95"))
    return predicted * np.minimum(1.0, low), predicted * np.maximum(1.0, high)
