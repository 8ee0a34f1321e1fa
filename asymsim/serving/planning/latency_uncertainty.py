"""Uncertainty of plans from the latency model: operator times multiplied by samples of the model's error.

All times of an operator class have the same relative error, and the errors of different classes are independent, as in
`core.times.row_time.joint_interval`. A sample is therefore one standard normal for each class. It gives a factor on all
times of the class: 1 at 0, the ratios at 5 % and 95 % of the class's interval at -1.645 and 1.645, and linear between
and beyond, but not below 0. Linear, because `joint_interval` adds distances from the median in squares. The interval is
the one of the class's time in a typical batch of the fleet, without pruning; a pruned scenario and its dense baseline
get the same samples.
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


def class_ratios(resolved: ResolvedScenario, token_counts: Array) -> Array | None:
    """Ratios of the time at 5 % and at 95 % to the median, for each operator class in one batch.

    Parameters
    ----------
    resolved : ResolvedScenario
    token_counts : numpy.ndarray of int64, shape (10,)
        The fields of ``core.token_counts.TokenCounts``.

    Returns
    -------
    numpy.ndarray, shape (classes, 2)
        1 for a class without work; None where a time is a bare roofline, whose error is unknown.
    """
    work = workspace(resolved.model_arrays, resolved.dense_schedule)
    counts, times = np.empty((1, len(COUNT_COLUMNS)), np.int64), np.empty((1, len(TIME_COLUMNS)))
    arrays = (
        resolved.model_arrays,
        resolved.dense_schedule,
        token_counts[np.newaxis],
        resolved.precision,
        resolved.gpu_arrays,
    )
    evaluate_rows(*arrays, work, counts, times)
    low, middle, high = work.seconds.sum(axis=0).T
    if np.isnan(low + high).any():
        return None
    median = np.where(middle > 0.0, middle, 1.0)
    low, high = (np.where(middle > 0.0, end, 1.0) / median for end in (low, high))
    return np.stack((low, high), axis=1)


def standard_normals(samples: int, seed: int) -> Array:
    """Standard normals, shape (samples, classes): each class takes the middle of each of ``samples`` equal strata once.

    The order follows from the seed and the class's name (Latin hypercube sampling; McKay, Beckman & Conover,
    Technometrics 21, 1979), so that few samples cover each class evenly.
    """
    strata_middles = np.array([NormalDist().inv_cdf((stratum + 0.5) / samples) for stratum in range(samples)])
    normals = np.empty((samples, NUM_TIME_CLASSES))
    for class_index, name in enumerate(_STREAMS):
        order_keys = uniform_samples(seed_of(seed, f"time of {name}"), 0, np.arange(samples, dtype=np.uint64))
        normals[:, class_index] = strata_middles[np.argsort(order_keys, kind="stable")]
    return normals


def time_factors(ratios: Array, normals: Array) -> Array:
    """Factors on the times of each class, shape (samples, classes), for ``normals`` of the same shape."""
    low, high = ratios.T
    factors: Array = np.maximum(0.0, 1.0 + np.where(normals < 0.0, 1.0 - low, high - 1.0) * normals / AT_95)
    return factors


def with_time_errors(resolved: ResolvedScenario, factors: Array) -> ResolvedScenario:
    """The scenario on a GPU whose operator classes take ``factors`` (classes) times as long."""
    return replace(resolved, gpu_arrays=with_scaled_times(resolved.gpu_arrays, factors))
