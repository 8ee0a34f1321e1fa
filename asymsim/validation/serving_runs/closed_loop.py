"""Time to first token in a closed-loop benchmark: prefill, the burst at the start, and the wait for a slot.

    TTFT = prefill (base + slope b / BURST) + slots x completion interval

``base``: the prompt's prefill and the wait for prefills that are running. ``slope``: a benchmark of ten requests a
slot begins with all b at once, so its first tenth waits for b / 2 prefills on average. ``slots`` = 1: the engine runs
one request less than the concurrency, so each request waits until another ends, which happens every osl x TPOT / b.
The three coefficients belong to the benchmark and the deployment, not to the GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from asymsim.core.arrays import Array
from asymsim.validation.serving_runs.deployment import ClassTimes, Prediction

# Ten requests a slot in one run, times 2 because the mean wait is half of the burst.
BURST = 20.0
# Coefficients typical of all deployments, and the weight of the penalty for leaving them.
USUAL, PENALTY = np.array([1.2, 1.7]), 0.3
# Relative error above which a run counts linearly, not as a square.
OUTLIER = 0.1
# Least runs of a deployment whose coefficients are fitted.
FEWEST = 6
ITERATIONS = 100


class ClosedLoopQueue(NamedTuple):
    """Coefficients of one deployment."""

    base: float
    slope: float
    slots: int


# Coefficients without a fit: the prompt's prefill and half of the burst.
UNFITTED = ClosedLoopQueue(1.0, 1.0, 0)


def first_token(prediction: Prediction, engine_step: ClassTimes, queue: ClosedLoopQueue) -> ClassTimes:
    """Time to first token behind a queue; ``engine_step`` includes the host time."""
    run = prediction.run
    prefills = queue.base + queue.slope * run.batch_size / BURST
    return prediction.prefill * prefills + engine_step * (queue.slots * run.output_tokens / run.batch_size)


def fit_queue(predictions: Sequence[Prediction], engine_steps: Sequence[ClassTimes]) -> ClosedLoopQueue:
    """Coefficients of least robust relative error."""
    measured_s = np.array([prediction.run.ttft_s for prediction in predictions])
    fits = []
    for slots in (0, 1):
        slot_wait_s = _medians(predictions, engine_steps, ClosedLoopQueue(0.0, 0.0, slots))
        base_s = _medians(predictions, engine_steps, ClosedLoopQueue(1.0, 0.0, 0))
        slope_s = _medians(predictions, engine_steps, ClosedLoopQueue(0.0, 1.0, 0))
        shares = np.stack([base_s, slope_s], 1) / measured_s[:, None]
        coefficients, cost = _robust_least_squares(shares, 1 - slot_wait_s / measured_s)
        fits.append((cost, ClosedLoopQueue(float(coefficients[0]), float(coefficients[1]), slots)))
    return min(fits)[1]


def _medians(predictions: Sequence[Prediction], engine_steps: Sequence[ClassTimes], queue: ClosedLoopQueue) -> Array:
    pairs = zip(predictions, engine_steps, strict=True)
    return np.array([first_token(prediction, step, queue).interval().p50 for prediction, step in pairs])


def _robust_least_squares(shares: Array, target: Array) -> tuple[Array, float]:
    """Coefficients >= 0 of least pseudo-Huber cost, by iteratively reweighted least squares, and the cost."""
    matrix = np.concatenate([shares, PENALTY * np.eye(2)])
    target = np.concatenate([target, PENALTY * USUAL])
    coefficients = USUAL.copy()
    for _ in range(ITERATIONS):
        weight = (1 + ((matrix @ coefficients - target) / OUTLIER) ** 2) ** -0.25
        coefficients = _non_negative_least_squares(matrix * weight[:, None], target * weight)
    residual = (matrix @ coefficients - target) / OUTLIER
    return coefficients, float((np.sqrt(1 + residual**2) - 1).sum())


def _non_negative_least_squares(matrix: Array, target: Array) -> Array:
    """Least squares of two coefficients that are 0 or more."""
    unconstrained = np.linalg.lstsq(matrix, target)[0]
    if (unconstrained >= 0).all():
        return np.asarray(unconstrained)
    edges = [np.zeros(2), np.zeros(2)]
    for index, coefficients in enumerate(edges):
        column = matrix[:, index]
        coefficients[index] = max(0.0, column @ target / (column @ column))
    return min(edges, key=lambda coefficients: float(((matrix @ coefficients - target) ** 2).sum()))
