"""Residual quantiles by band of predicted time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from asymsim.core.efficiency import BANDS
from asymsim.core.layout import Array

# A 5 % quantile of fewer rows is a matter of one row; bands are joined until each group has as many.
ROWS_A_GROUP = 40
GROUPS = (12, 6, 4, 3, 2, 1)


def intervals(measured: Array, predicted: Array) -> dict[str, Array]:
    """Band edges and the 5 % and 95 % quantiles of measured / predicted in each band.

    Quantiles are those that a new row falls below with that chance: the p (n + 1)-th of n ordered ratios.

    Parameters
    ----------
    measured, predicted : array, shape (rows,)
        Seconds, above 0.

    Returns
    -------
    dict
        The fields of ``core.efficiency.INTERVAL``.
    """
    groups = next((count for count in GROUPS if len(predicted) >= count * ROWS_A_GROUP), 1)
    edges = np.quantile(predicted, np.linspace(0, 1, BANDS + 1))
    group = band_of(edges, predicted) // (BANDS // groups)
    made = {"band_edges_s": edges}
    for name, quantile in (("ratio_p05", 0.05), ("ratio_p95", 0.95)):
        whole = np.quantile(measured / predicted, quantile, method="weibull")
        ratios = [measured[group == which] / predicted[group == which] for which in range(groups)]
        # Equal predictions, such as a launch's, may leave a band without rows.
        values = [np.quantile(ratio, quantile, method="weibull") if len(ratio) else whole for ratio in ratios]
        made[name] = np.repeat(values, BANDS // groups)
    return made


def band_of(edges: Any, predicted: Array) -> Array:
    """Index of the band of each predicted time, the outer ones open."""
    return np.clip(np.searchsorted(edges, predicted, side="right") - 1, 0, BANDS - 1)


def bounds(interval: Mapping[str, Any], predicted: Array) -> tuple[Array, Array]:
    """Seconds at 5 % and at 95 % of predicted times, the prediction itself between them."""
    band = band_of(interval["band_edges_s"], predicted)
    low, high = (np.asarray(interval[name])[band] for name in ("ratio_p05", "ratio_p95"))
    return predicted * np.minimum(1.0, low), predicted * np.maximum(1.0, high)
