"""Counts and times of many loads at once."""

from __future__ import annotations

import numpy as np

from asymsim.core.estimate import COUNTS, MANY, TIMES, evaluate_rows, workspace
from asymsim.core.layout import Array, ScheduleArrays
from asymsim.core.machine import TICKS_PER_S
from asymsim.estimation import Setting


def evaluated(bound: Setting, schedule: ScheduleArrays, loads: Array) -> tuple[dict[str, Array], dict[str, Array]]:
    """Counts and times of each load, by name, without what an engine's host adds to a step."""
    counts, times = np.empty((len(loads), len(COUNTS)), np.int64), np.empty((len(loads), len(TIMES)))
    work = workspace(bound.model_arrays, schedule, MANY)
    gpu = bound.gpu_arrays._replace(host_s=0.0)
    evaluate_rows(bound.model_arrays, schedule, loads, bound.precision, gpu, work, counts, times)
    return dict(zip(COUNTS, counts.T, strict=True)), dict(zip(TIMES, times.T, strict=True))


def ticks(seconds: Array) -> Array:
    """Medians of times, which are whole ticks, as integers."""
    return np.rint(seconds * TICKS_PER_S).astype(np.int64)
