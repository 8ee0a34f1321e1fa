"""GPUs as they might be: operator times drawn from the latency model's error.

A class of operators errs alike wherever it occurs, and classes err independently, as
`core.times.row_time.joint_interval` has it. So a draw is one standard normal a class. It becomes a factor on all of the
class's times: 1 at 0, the ratios at 5 % and 95 % of the class's interval at -1.645 and 1.645, and linear between and
beyond, not below 0: distances from the
median are what that rule joins. The interval is that of the class's time in a batch as the fleet serves it, dense; a
pruned run and its twin are drawn together.
"""

from __future__ import annotations

from dataclasses import replace
from statistics import NormalDist

import numpy as np

from asymsim.core.arrays import Array
from asymsim.core.estimate import COUNT_COLUMNS, TIME_COLUMNS, evaluate_rows
from asymsim.core.times.parameters import NUM_TIME_CLASSES, with_scaled_times
from asymsim.core.workspace import workspace
from asymsim.estimator.resolve import ResolvedScenario
from asymsim.util.sampling import uniform_samples
from asymsim.util.seeds import seed_of

AT_95 = NormalDist().inv_cdf(0.95)
# Names that seed the random order of each operator class; another name would give another sample of the same seed.
_STREAMS = (
    "gemm",
    "context_attention",
    "generation_attention",
    "encoder_attention",
    "memory_bound",
    "all_reduce",
    "grouped_gemm",
    "host",
)


def class_ratios(bound: ResolvedScenario, load: Array) -> Array | None:
    """Time at 5 % and at 95 % over the median of each operator class, for one load.

    Parameters
    ----------
    bound : Setting
    load : numpy.ndarray of int64, shape (10,)
        The fields of ``core.token_counts.TokenCounts``.

    Returns
    -------
    numpy.ndarray, shape (classes, 2)
        1 for a class without work; None where a time is a bare roofline, whose error nobody knows.
    """
    work = workspace(bound.model_arrays, bound.dense_schedule)
    counts, times = np.empty((1, len(COUNT_COLUMNS)), np.int64), np.empty((1, len(TIME_COLUMNS)))
    arrays = bound.model_arrays, bound.dense_schedule, load[np.newaxis], bound.precision, bound.gpu_arrays
    evaluate_rows(*arrays, work, counts, times)
    low, middle, high = work.seconds.sum(axis=0).T
    if np.isnan(low + high).any():
        return None
    median = np.where(middle > 0.0, middle, 1.0)
    low, high = (np.where(middle > 0.0, end, 1.0) / median for end in (low, high))
    return np.stack((low, high), axis=1)


def standard_normals(draws: int, seed: int) -> Array:
    """Standard normals, shape (draws, classes): each class takes the middle of each of ``draws`` equal strata once.

    In which order follows from the seed and the class's name (Latin hypercube sampling; McKay, Beckman & Conover,
    Technometrics 21, 1979), so that few draws cover each class evenly.
    """
    middles = np.array([NormalDist().inv_cdf((stratum + 0.5) / draws) for stratum in range(draws)])
    made = np.empty((draws, NUM_TIME_CLASSES))
    for of, name in enumerate(_STREAMS):
        luck = uniform_samples(seed_of(seed, f"time of {name}"), 0, np.arange(draws, dtype=np.uint64))
        made[:, of] = middles[np.argsort(luck, kind="stable")]
    return made


def time_factors(ratios: Array, normal: Array) -> Array:
    """What each class's times are multiplied by: shape (draws, classes), of ``normals`` of that shape."""
    low, high = ratios.T
    made: Array = np.maximum(0.0, 1.0 + np.where(normal < 0.0, 1.0 - low, high - 1.0) * normal / AT_95)
    return made


def with_time_errors(bound: ResolvedScenario, by_class: Array) -> ResolvedScenario:
    """The setting on a GPU whose operator classes take ``by_class`` (classes) times as long."""
    return replace(bound, gpu_arrays=with_scaled_times(bound.gpu_arrays, by_class))
