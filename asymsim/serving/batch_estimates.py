"""Counts and times of many batches at once."""

from __future__ import annotations

import numpy as np

from asymsim.core.arrays import Array
from asymsim.core.estimate import COUNT_COLUMNS, TIME_COLUMNS, evaluate_rows
from asymsim.core.schedule_arrays import ScheduleArrays
from asymsim.core.times.device import TICKS_PER_S
from asymsim.core.workspace import MEMO_ENTRIES_SWEEP, workspace
from asymsim.estimator.resolve import ResolvedScenario


def batch_estimates(
    resolved: ResolvedScenario, schedule: ScheduleArrays, token_counts: Array
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Counts and times of each row of token counts, by name, without the engine's host time."""
    counts, times = (
        np.empty((len(token_counts), len(COUNT_COLUMNS)), np.int64),
        np.empty((len(token_counts), len(TIME_COLUMNS))),
    )
    work = workspace(resolved.model_arrays, schedule, MEMO_ENTRIES_SWEEP)
    gpu = resolved.gpu_arrays._replace(host_s=0.0)
    evaluate_rows(resolved.model_arrays, schedule, token_counts, resolved.precision, gpu, work, counts, times)
    return dict(zip(COUNT_COLUMNS, counts.T, strict=True)), dict(zip(TIME_COLUMNS, times.T, strict=True))


def ticks(seconds: Array) -> Array:
    """Whole ticks of median times, which are multiples of a tick."""
    return np.rint(seconds * TICKS_PER_S).astype(np.int64)
