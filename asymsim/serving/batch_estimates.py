"""Counts and times of many loads at once."""

from __future__ import annotations

import numpy as np

from asymsim.core.arrays import Array
from asymsim.core.estimate import COUNT_COLUMNS, TIME_COLUMNS, evaluate_rows
from asymsim.core.schedule_arrays import ScheduleArrays
from asymsim.core.times.device import TICKS_PER_S
from asymsim.core.workspace import MEMO_ENTRIES_SWEEP, workspace
from asymsim.estimator.resolve import ResolvedScenario


def batch_estimates(
    bound: ResolvedScenario, schedule: ScheduleArrays, loads: Array
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Counts and times of each load, by name, without what an engine's host adds to a step."""
    counts, times = np.empty((len(loads), len(COUNT_COLUMNS)), np.int64), np.empty((len(loads), len(TIME_COLUMNS)))
    work = workspace(bound.model_arrays, schedule, MEMO_ENTRIES_SWEEP)
    gpu = bound.gpu_arrays._replace(host_s=0.0)
    evaluate_rows(bound.model_arrays, schedule, loads, bound.precision, gpu, work, counts, times)
    return dict(zip(COUNT_COLUMNS, counts.T, strict=True)), dict(zip(TIME_COLUMNS, times.T, strict=True))


def ticks(seconds: Array) -> Array:
    """Medians of times, which are whole ticks, as integers."""
    return np.rint(seconds * TICKS_PER_S).astype(np.int64)
