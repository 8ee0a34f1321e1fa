"""The wait for the first token: coefficients are found again, and an outlier does not carry them away."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from asymsim.validation.serving_runs.closed_loop import USUAL, ClosedLoopQueue, first_token, fit_queue
from asymsim.validation.serving_runs.deployment import Prediction, predict
from oracles.serving_runs import run_of


def behind(queue: ClosedLoopQueue, stretch: dict[int, float] | None = None) -> list[Prediction]:
    """Runs over batches whose first token comes exactly as the queue says, some of them stretched."""
    made = []
    for index, batch in enumerate((1, 2, 4, 8, 16, 32, 64, 96)):
        bare = predict(run_of(batch_size=batch))
        ttft_s = first_token(bare, bare.engine_step, queue).interval().p50 * (stretch or {}).get(index, 1.0)
        made.append(replace(bare, run=run_of(batch_size=batch, ttft_s=ttft_s)))
    return made


@pytest.mark.parametrize(
    "queue",
    [
        ClosedLoopQueue(1.2, 1.7, 0),
        ClosedLoopQueue(1.4, 1.5, 1),
        ClosedLoopQueue(1.0, 2.3, 0),
        ClosedLoopQueue(2.0, 1.0, 0),
    ],
)
def test_known_coefficients_are_found_again(queue: ClosedLoopQueue) -> None:
    runs = behind(queue)
    found = fit_queue(runs, [each.engine_step for each in runs])
    assert found.slots == queue.slots
    # Held loosely to the usual, and all the more where completion intervals make up most of the time.
    assert found[:2] == pytest.approx(queue[:2], rel=0.15 if queue.slots else 0.06)


def test_one_wild_run_moves_them_little() -> None:
    queue = ClosedLoopQueue(1.2, 1.7, 0)
    runs = behind(queue, {3: 20.0})
    assert fit_queue(runs, [each.engine_step for each in runs])[:2] == pytest.approx(queue[:2], rel=0.1)


def test_coefficients_are_not_negative() -> None:
    runs = behind(ClosedLoopQueue(0.02, 0.02, 0))
    found = fit_queue(runs, [each.engine_step for each in runs])
    assert min(found) >= 0


def test_no_runs_leave_the_usual() -> None:
    found = fit_queue([], [])
    assert found.slots == 0
    assert found[:2] == pytest.approx(USUAL.tolist())


def test_first_token_of_an_empty_server_is_the_prefill() -> None:
    alone = predict(run_of(batch_size=1))
    assert first_token(alone, alone.engine_step, ClosedLoopQueue(1.0, 0.0, 0)).interval() == alone.prefill.interval()
    slot = first_token(alone, alone.engine_step, ClosedLoopQueue(0.0, 0.0, 1))
    assert np.allclose(slot.seconds, alone.engine_step.seconds * 128)
