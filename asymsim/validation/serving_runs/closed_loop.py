"""Time to first token in a closed-loop benchmark: prefill, the burst at its start, and the wait for a slot.

    TTFT = prefill (base + slope b / BURST) + slots x completion interval

``base``: the prompt's own prefill and the wait for those under way. ``slope``: a run of ten requests a slot begins
with all b at once, so its first tenth waits for b / 2 prefills on average. ``slots`` = 1: the engine holds one
request less than the load, and each waits until another ends, which happens every osl x TPOT / b. The three belong
to the benchmark and the deployment, not to the GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from asymsim.core.arrays import Array
from asymsim.validation.serving_runs.deployment import Prediction, Work

# Requests a slot in one run, times the two of a mean wait.
BURST = 20.0
# Coefficients that deployments share, and how loosely each is held to them.
USUAL, HOLD = np.array([1.2, 1.7]), 0.3
# Relative error from which on a run counts by its size instead of its square.
OUTLIER = 0.1
# A deployment of fewer runs than this has no coefficients of its own.
FEWEST = 6
ITERATIONS = 100


class ClosedLoopQueue(NamedTuple):
    """The coefficients of one deployment."""

    base: float
    slope: float
    slots: int


# What the form alone says: one's own prefill and half of the burst.
UNFITTED = ClosedLoopQueue(1.0, 1.0, 0)


def first_token(prediction: Prediction, step: Work, queue: ClosedLoopQueue) -> Work:
    """Time to first token behind a queue; ``step`` with the host's share."""
    run = prediction.run
    prefills = queue.base + queue.slope * run.batch_size / BURST
    return prediction.prefill * prefills + step * (queue.slots * run.output_tokens / run.batch_size)


def fit_queue(predictions: Sequence[Prediction], steps: Sequence[Work]) -> ClosedLoopQueue:
    """The coefficients that fit best, by relative error."""
    measured = np.array([each.run.ttft_s for each in predictions])
    fits = []
    for slots in (0, 1):
        alone = _medians(predictions, steps, ClosedLoopQueue(0.0, 0.0, slots))
        base = _medians(predictions, steps, ClosedLoopQueue(1.0, 0.0, 0))
        slope = _medians(predictions, steps, ClosedLoopQueue(0.0, 1.0, 0))
        shares = np.stack([base, slope], 1) / measured[:, None]
        found, cost = _robust(shares, 1 - alone / measured)
        fits.append((cost, ClosedLoopQueue(float(found[0]), float(found[1]), slots)))
    return min(fits)[1]


def _medians(predictions: Sequence[Prediction], steps: Sequence[Work], queue: ClosedLoopQueue) -> Array:
    pairs = zip(predictions, steps, strict=True)
    return np.array([first_token(each, step, queue).interval().p50 for each, step in pairs])


def _robust(shares: Array, wanted: Array) -> tuple[Array, float]:
    """Coefficients >= 0 of least pseudo-Huber cost, by least squares that are weighted anew."""
    matrix = np.concatenate([shares, HOLD * np.eye(2)])
    target = np.concatenate([wanted, HOLD * USUAL])
    found = USUAL.copy()
    for _ in range(ITERATIONS):
        weight = (1 + ((matrix @ found - target) / OUTLIER) ** 2) ** -0.25
        found = _not_negative(matrix * weight[:, None], target * weight)
    rest = (matrix @ found - target) / OUTLIER
    return found, float((np.sqrt(1 + rest**2) - 1).sum())


def _not_negative(matrix: Array, target: Array) -> Array:
    """Least squares of two coefficients that are 0 or more."""
    found = np.linalg.lstsq(matrix, target)[0]
    if (found >= 0).all():
        return np.asarray(found)
    ends = [np.zeros(2), np.zeros(2)]
    for index, end in enumerate(ends):
        column = matrix[:, index]
        end[index] = max(0.0, column @ target / (column @ column))
    return min(ends, key=lambda end: float(((matrix @ end - target) ** 2).sum()))
