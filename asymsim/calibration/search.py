"""Least squares of log residuals with basin hopping."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from asymsim.calibration.parameters import SearchSpace
from asymsim.calibration.shape_groups import SEED, MeasuredRows
from asymsim.core.arrays import Array
from asymsim.util.errors import InputError

# Residual (log of predicted over measured) beyond which a row counts linearly, not as a square.
SCALE = 0.1
# Rows that iterations and the last descent look at.
SEARCH_ROWS, POLISH_ROWS = 4_000, 16_000
# Rows that one fitted number needs at the least.
ROWS_A_NUMBER = 5
Residuals = Callable[[Array], Array]


def descend(residuals: Residuals, space: SearchSpace, vector: Array, evaluations: int) -> tuple[float, Array]:
    """One descent from a whole vector; the cost where it ends, and the vector there."""
    from scipy.optimize import least_squares

    free = space.free
    floor, ceiling = np.log(space.low[free]), np.log(space.high[free])
    margin = 1e-3 * (ceiling - floor)

    def whole(point: Array) -> Array:
        made = space.start.copy()
        made[free] = np.exp(point)
        return made

    found = least_squares(
        lambda point: residuals(whole(point)),
        np.clip(np.log(vector[free]), floor + margin, ceiling - margin),
        loss="soft_l1",
        f_scale=SCALE,
        max_nfev=evaluations,
        diff_step=2e-3,
        bounds=(floor, ceiling),
    )
    return float(found.cost), whole(found.x)


def search(residuals: Residuals, space: SearchSpace, iterations: int, polish: Residuals | None = None) -> Array:
    """The vector of least soft-L1 squares of residuals, searched in logarithms.

    A tile that no row takes has no slope, so one descent sticks; jumps of a random part of the numbers, kept
    when a short descent from there ends lower, get it out.

    Parameters
    ----------
    residuals : callable
        Whole vector -> log of predicted over measured.
    space : Space
    iterations : int
        Jumps to try, at least 0; never a time limit, so that the same number gives the same vector.
    polish : callable, optional
        Residuals of more rows, for the last descent.
    """
    rng = np.random.default_rng(SEED)
    number = int(space.free.sum())
    cost, best = descend(residuals, space, space.start, 24)
    for _ in range(iterations):
        jump = rng.random(number) < rng.choice([0.15, 0.4, 1.0])
        point = best.copy()
        point[space.free] *= np.exp(np.where(jump, rng.normal(0.0, rng.choice([0.1, 0.3, 0.6]), number), 0.0))
        found = descend(residuals, space, point, 12)
        if found[0] < cost:
            cost, best = found
    return descend(polish or residuals, space, best, 40)[1]


def fit_parameters(table: MeasuredRows, space: SearchSpace, iterations: int, among: Array) -> Array:
    """One record of numbers, shape (1,), fitted from the class's own start.

    Parameters
    ----------
    table : Table
    space : Space
    iterations : int
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
    few, many = (some(among, number) for number in (SEARCH_ROWS, POLISH_ROWS))
    return space.record(search(residuals_of(table, space, few), space, iterations, residuals_of(table, space, many)))


def residuals_of(table: MeasuredRows, space: SearchSpace, index: Array) -> Residuals:
    """Whole vector -> log of predicted over measured of some rows."""
    measured = np.log(table.seconds[index])
    return lambda vector: np.log(table.predict(index, space.record(vector))) - measured


def some(among: Array, number: int) -> Array:
    """At most so many of the rows."""
    return np.random.default_rng(SEED).choice(among, min(len(among), number), False)
