"""Least squares of log residuals with basin hopping."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from asymsim.calibration.numbers import Space
from asymsim.calibration.table import SEED, Table
from asymsim.core.layout import Array
from asymsim.errors import InputError

# Residual (log of predicted over measured) beyond which a row counts linearly, not as a square.
SCALE = 0.1
# Rows that hops and the last descent look at.
HOP_ROWS, POLISH_ROWS = 4_000, 16_000
# Rows that one fitted number needs at the least.
ROWS_A_NUMBER = 5
Residuals = Callable[[Array], Array]


def search(residuals: Residuals, space: Space, hops: int, polish: Residuals | None = None) -> Array:
    """The vector of least soft-L1 squares of residuals, searched in logarithms.

    A tile that no row takes has no slope, so one descent sticks; jumps of a random part of the numbers, kept
    when a short descent from there ends lower, get it out.

    Parameters
    ----------
    residuals : callable
        Whole vector -> log of predicted over measured.
    space : Space
    hops : int
        Jumps to try, at least 0. The same number gives the same vector, on whatever machine.
    polish : callable, optional
        Residuals of more rows, for the last descent.
    """
    from scipy.optimize import least_squares

    free = space.free
    floor, ceiling = np.log(space.low[free]), np.log(space.high[free])
    margin = 1e-3 * (ceiling - floor)
    rng = np.random.default_rng(SEED)

    def whole(point: Array) -> Array:
        vector = space.start.copy()
        vector[free] = np.exp(point)
        return vector

    def descend(point: Array, evaluations: int, function: Residuals = residuals) -> Any:
        return least_squares(
            lambda x: function(whole(x)),
            np.clip(point, floor + margin, ceiling - margin),
            loss="soft_l1",
            f_scale=SCALE,
            max_nfev=evaluations,
            diff_step=2e-3,
            bounds=(floor, ceiling),
        )

    best = descend(np.log(space.start[free]), 24)
    for _ in range(hops):
        jump = rng.random(len(floor)) < rng.choice([0.15, 0.4, 1.0])
        point = best.x + np.where(jump, rng.normal(0.0, rng.choice([0.1, 0.3, 0.6]), len(floor)), 0.0)
        found = descend(point, 12)
        if found.cost < best.cost:
            best = found
    return whole(descend(best.x, 40, polish or residuals).x)


def fit(table: Table, space: Space, hops: int, among: Array) -> Array:
    """One record of numbers, shape (1,), fitted from the class's own start.

    Parameters
    ----------
    table : Table
    space : Space
    hops : int
    among : array of int64
        Rows to fit on, none of them held out.

    Raises
    ------
    InputError
        If there are too few rows.
    """
    needed = ROWS_A_NUMBER * int(space.free.sum())
    if len(among) < needed:
        raise InputError("rows", len(among), f"too few to fit {int(space.free.sum())} numbers; at least {needed}")
    rng = np.random.default_rng(SEED)
    few = rng.choice(among, min(len(among), HOP_ROWS), False)
    many = rng.choice(among, min(len(among), POLISH_ROWS), False)

    def residuals_of(index: Array) -> Residuals:
        measured = np.log(table.seconds[index])
        return lambda vector: np.log(table.predict(index, space.record(vector))) - measured

    return space.record(search(residuals_of(few), space, hops, residuals_of(many)))
