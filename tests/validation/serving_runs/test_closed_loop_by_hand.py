"""The wait for the first token by its formula, with plain numbers for the times of a decode step and of a prefill."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from asymsim.core.times.parameters import NUM_TIME_CLASSES
from asymsim.validation.serving_runs.closed_loop import ClosedLoopQueue, first_token
from asymsim.validation.serving_runs.deployment import ClassTimes, Prediction
from oracles.serving_runs import run_of


def class_times(seconds: float) -> ClassTimes:
    """Times of one class without spread, whose roofline is half of them."""
    seconds_of = np.zeros((NUM_TIME_CLASSES, 3))
    seconds_of[0] = seconds
    return ClassTimes(seconds_of, seconds / 2)


@pytest.mark.parametrize(
    ("batch", "queue", "expected_s"),
    [
        # Prefills of 0.2 s; a tenth of a run of ten requests a slot waits for b / 2 of them, the mean for b / 20.
        (8, ClosedLoopQueue(1.0, 0.0, 0), 0.2),
        (8, ClosedLoopQueue(1.5, 2.0, 0), 0.2 * (1.5 + 2.0 * 8 / 20)),
        # A slot is free every 100 tokens of 0.01 s over the requests.
        (8, ClosedLoopQueue(0.0, 0.0, 1), 100 * 0.01 / 8),
        (40, ClosedLoopQueue(1.5, 2.0, 1), 0.2 * 5.5 + 1.0 / 40),
    ],
)
def test_prefills_burst_and_slots_add_up(batch: int, queue: ClosedLoopQueue, expected_s: float) -> None:
    run = replace(run_of(batch_size=batch), output_tokens=100)
    wait = first_token(Prediction(run, batch, class_times(0.01), class_times(0.2)), class_times(0.01), queue)
    assert wait.interval().p50 == pytest.approx(expected_s)
    assert wait.roofline_s == pytest.approx(expected_s / 2)


def test_a_step_has_its_share_of_the_others_prefills() -> None:
    # Seven others each put one prefill of 0.2 s between 100 steps.
    run = replace(run_of(batch_size=8), output_tokens=100)
    engine_step = Prediction(run, 8, class_times(0.01), class_times(0.2)).engine_step
    assert engine_step.interval().p50 == pytest.approx(0.01 + 0.2 * 7 / 100)
