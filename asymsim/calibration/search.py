"""Basin-hopping search of the least squares of log residuals."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from asymsim.calibration.parameters import SearchSpace
from asymsim.calibration.shape_groups import SEED, MeasuredRows
from asymsim.core.arrays import Array
from asymsim.util.errors import InputError

# Residual (log of predicted over measured) beyond which a row counts linearly, not as a square.
SCALE = 0.1
# Rows of the iterations, and of the last descent.
SEARCH_ROWS, POLISH_ROWS = 4_000, 16_000
# Least rows for each fitted parameter.
ROWS_A_PARAMETER = 5
Residuals = Callable[[Array], Array]


def descend(residuals: Residuals, space: SearchSpace, vector: Array, evaluations: int) -> tuple[float, Array]:
    """Cost and vector at the end of one descent from a vector of all parameters."""
    from scipy.optimize import least_squares

    free = space.free
    floor, ceiling = np.log(space.low[free]), np.log(space.high[free])
    margin = 1e-3 * (ceiling - floor)

    def all_parameters(log_free: Array) -> Array:
        parameters = space.start.copy()
        parameters[free] = np.exp(log_free)
        return parameters

    optimum = least_squares(
        lambda log_free: residuals(all_parameters(log_free)),
        np.clip(np.log(vector[free]), floor + margin, ceiling - margin),
        loss="soft_l1",
        f_scale=SCALE,
        max_nfev=evaluations,
        diff_step=2e-3,
        bounds=(floor, ceiling),
    )
    return float(optimum.cost), all_parameters(optimum.x)


def search(residuals: Residuals, space: SearchSpace, iterations: int, polish: Residuals | None = None) -> Array:
    """Vector of the least soft-L1 squares of residuals, searched in logarithms.

    A tile that no row takes has no slope, so a single descent stops there. Each iteration moves a random part of the
    parameters, and keeps the move if a short descent from it ends lower.

    Parameters
    ----------
    residuals : callable
        Log of predicted over measured of some rows, from a vector of all parameters.
    space : SearchSpace
    iterations : int
        At least 0; never a time limit, so that the same number gives the same vector.
    polish : callable, optional
        Residuals of more rows, for the last descent.
    """
    rng = np.random.default_rng(SEED)
    num_free = int(space.free.sum())
    least_cost, best = descend(residuals, space, space.start, 24)
    for _ in range(iterations):
        moved = rng.random(num_free) < rng.choice([0.15, 0.4, 1.0])
        start = best.copy()
        start[space.free] *= np.exp(np.where(moved, rng.normal(0.0, rng.choice([0.1, 0.3, 0.6]), num_free), 0.0))
        cost, vector = descend(residuals, space, start, 12)
        if cost < least_cost:
            least_cost, best = cost, vector
    return descend(polish or residuals, space, best, 40)[1]


def fit_parameters(rows: MeasuredRows, space: SearchSpace, iterations: int, training: Array) -> Array:
    """One record of fitted parameters, shape (1,), searched from the class's starting values.

    Parameters
    ----------
    rows : MeasuredRows
    space : SearchSpace
    iterations : int
    training : array of int64
        Index of the rows to fit on, none of them held out.

    Raises
    ------
    InputError
        If there are too few rows.
    """
    num_free = int(space.free.sum())
    needed = ROWS_A_PARAMETER * num_free
    if len(training) < needed:
        raise InputError("rows", len(training), f"too few to fit {num_free} parameters; at least {needed}")
    search_residuals, polish_residuals = (
        residuals_of(rows, space, sample_of(training, most)) for most in (SEARCH_ROWS, POLISH_ROWS)
    )
    return space.record(search(search_residuals, space, iterations, polish_residuals))


def residuals_of(rows: MeasuredRows, space: SearchSpace, index: Array) -> Residuals:
    """Log of predicted over measured of some rows, as a function of the vector of all parameters."""
    measured = np.log(rows.seconds[index])
    return lambda vector: np.log(rows.predict(index, space.record(vector))) - measured


def sample_of(index: Array, most: int) -> Array:
    """A random sample of at most so many rows."""
    return np.random.default_rng(SEED).choice(index, min(len(index), most), False)
