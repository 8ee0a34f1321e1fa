"""Least squares of log residuals with basin hopping, and the fit of one operator class."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import operators
from machine import Array
from scipy.optimize import least_squares
from table import SEED, Table

# Residual quantiles are kept for this many bands of predicted time, each with as many rows.
BANDS = 12


def search(
    residuals: Callable[[Array], Array],
    start: Array,
    low: Array,
    high: Array,
    seconds: float,
    scale: float,
    polish: Callable[[Array], Array] | None = None,
) -> Array:
    """Least squares of log residuals under soft-L1 in log parameters, with basin hopping for ``seconds``.

    A shape that no row takes has no slope, so one descent sticks; jumps of a random part of the
    parameters, kept when a short descent from there ends lower, get it out. The budget is wall-clock
    time, so two runs differ a little.
    """
    floor, ceiling = np.log(low), np.log(high)
    margin = 1e-3 * (ceiling - floor)
    rng = np.random.default_rng(SEED)

    def descend(point: Array, evaluations: int, function: Callable[[Array], Array] = residuals) -> Any:
        point = np.clip(point, floor + margin, ceiling - margin)
        return least_squares(
            function,
            point,
            loss="soft_l1",
            f_scale=scale,
            max_nfev=evaluations,
            diff_step=2e-3,
            bounds=(floor, ceiling),
        )

    end = time.monotonic() + seconds
    best = descend(np.log(start), 24)
    while time.monotonic() < end:
        jump = rng.random(len(start)) < rng.choice([0.15, 0.4, 1.0])
        if not jump.any():
            continue
        point = best.x.copy()
        point[jump] += rng.normal(0.0, rng.choice([0.1, 0.3, 0.6]), jump.sum())
        found = descend(point, 12)
        if found.cost < best.cost:
            best = found
    return np.exp(descend(best.x, 40, polish or residuals).x)


def fit_class(
    gpu: str, kind: str, seconds: float, rows: int = 4000, scale: float = 0.1, start: Array | None = None
) -> dict[str, Any] | None:
    """Fit one class of one GPU on vLLM's table, from ``start`` or the class's own start; its record."""
    table = operators.load(gpu, kind)
    if table is None:
        return None
    first, low, high = operators.start_of(kind)
    rng = np.random.default_rng(SEED)
    pool = np.flatnonzero(~table.held_out)
    few = rng.choice(pool, min(len(pool), rows), False)
    many = rng.choice(pool, min(len(pool), 4 * rows), False)

    def residuals_of(index: Array) -> Callable[[Array], Array]:
        measured = np.log(table.seconds[index])
        return lambda point: np.log(table.predict(index, operators.build(kind, gpu, np.exp(point)))) - measured

    begin = first if start is None else start
    vector = search(residuals_of(few), begin, low, high, seconds, scale, polish=residuals_of(many))
    fitted = operators.build(kind, gpu, vector)
    # Numbers of a class of head sizes without rows are whatever the search left there.
    sizes = (
        {"fitted_head_sizes": [int(size) for size in np.unique(table.columns["d"][pool])]}
        if "d" in table.columns
        else {}
    )
    return {
        **fitted._asdict(),
        **bands(table, fitted),
        **sizes,
        "source": f"aiconfigurator-core 0.12.0 (NVIDIA, Apache-2.0), systems/data/{table.source}",
        "rows": len(table.seconds),
        "fitted_rows": len(pool),
        "dropped": table.dropped,
    }


def bands(table: Table, fitted: Any) -> dict[str, Any]:
    """5th and 95th percentile of measured / predicted on the training sites, by predicted time."""
    index = np.flatnonzero(~table.held_out)
    predicted = table.predict(index, fitted)
    ratio = table.seconds[index] / predicted
    edges = np.quantile(predicted, np.linspace(0, 1, BANDS + 1))
    band = band_of(edges, predicted)
    return {
        "band_edges_s": edges,
        "ratio_p05": [float(np.quantile(ratio[band == which], 0.05)) for which in range(BANDS)],
        "ratio_p95": [float(np.quantile(ratio[band == which], 0.95)) for which in range(BANDS)],
    }


def band_of(edges: Any, predicted: Array) -> Array:
    """Index of the band of each predicted time, the outer ones open."""
    return np.clip(np.searchsorted(edges, predicted, side="right") - 1, 0, BANDS - 1)
