"""Comparison of the simulator with measured serving runs: errors of TPOT and TTFT, fitted host times and queues."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from asymsim.catalogue.engine import Engine
from asymsim.core.arrays import Array
from asymsim.util.errors import InputError
from asymsim.validation.serving_runs.closed_loop import FEWEST, UNFITTED, ClosedLoopQueue, first_token, fit_queue
from asymsim.validation.serving_runs.deployment import ClassTimes, Prediction, predict
from asymsim.validation.serving_runs.error_rows import case_errors, deployment_errors, run_row
from asymsim.validation.serving_runs.host import fit_hosts, host_times
from asymsim.validation.serving_runs.loader import PACKAGE, load_runs

Row = dict[str, Any]

# Seed of the split into a fitting and a held-out half, frozen before anything was fitted.
SEED = 4
# Largest mean errors, set before anything was fitted.
LIMITS = {"TPOT": 0.15, "TTFT": 0.25}
# Mean error of the estimator that the file comes with, and the number of these runs that it answers; made again by
# studies/03_peer_end_to_end.py.
PEER = "aiconfigurator 0.12.0's own estimator"
PEER_ERRORS = {"TPOT": (0.101, 91), "TTFT": (0.437, 152)}


@dataclass(frozen=True)
class EndToEnd:
    """Predicted against measured serving runs.

    Attributes
    ----------
    errors : list of dict
        A row a case: ``operator`` is TPOT or TTFT, ``rows_of`` names the way of prediction and the runs, ``judged``
        says whether the limit applies; errors are fractions, under the names that errors of operators have.
    deployments : list of dict
        The same errors by deployment, with the coefficients of its queue.
    runs : list of dict
        A row a run: measured times, predicted times with their intervals, roofline, verdict.
    hosts : dict of str to Engine
    left_out : dict of str to int
        Rows of the file that are not compared, by the rules of ``loader.LEFT_OUT``.
    """

    errors: list[Row]
    deployments: list[Row]
    runs: list[Row]
    hosts: dict[str, Engine]
    left_out: dict[str, int]

    @property
    def within(self) -> bool:
        """Whether every judged mean error is within its limit."""
        return all(row["mean_error"] <= LIMITS[row["operator"]] for row in self.errors if row["judged"])


def end_to_end(path: str | Path | None = None, progress: Callable[[int, int], None] | None = None) -> EndToEnd:
    """Compare the dense, aggregated runs on one GPU with the simulator.

    TPOT = decode step at the mean context + its share of the other requests' prefills + the engine's host time. TTFT
    is the formula of `asymsim.validation.serving_runs.closed_loop`. Hosts are fitted on one half of the runs and
    judged on the other; queues are fitted on either half and judged on the other.

    Parameters
    ----------
    path : str or Path, optional
        As in `loader.load_runs`.
    progress : callable, optional
        Called with the number of finished runs and the number of all.

    Raises
    ------
    InputError
        If the file is malformed, or has too few runs to fit a host.
    MissingExtraError
        If there is neither a path nor the package.
    """
    loaded = load_runs(path)
    predictions = []
    for finished, run in enumerate(loaded.runs):
        if progress is not None:
            progress(finished, len(loaded.runs))
        predictions.append(predict(run))
    fitting = np.random.default_rng(SEED).random(len(predictions)) < 0.5
    hosts = fit_hosts(predictions, fitting.tolist())
    unfitted = sorted({prediction.run.engine for prediction in predictions} - set(hosts))
    if unfitted:
        remedy = f"too few runs of {', '.join(unfitted)} in the half that hosts are fitted on; give more"
        raise InputError("sample", str(path or PACKAGE), remedy)
    engine_steps = [prediction.engine_step + host_times(hosts[prediction.run.engine]) for prediction in predictions]
    queues = _queues(predictions, engine_steps)
    first_tokens = _cross_fitted_first_tokens(predictions, engine_steps, fitting)
    runs = [
        run_row(prediction, in_fitting_half, engine_step.interval(), first_token_times.interval())
        for prediction, in_fitting_half, engine_step, first_token_times in zip(
            predictions, fitting.tolist(), engine_steps, first_tokens, strict=True
        )
    ]
    return EndToEnd(case_errors(predictions, runs), deployment_errors(runs, queues), runs, hosts, loaded.left_out)


def _judged_runs(predictions: Sequence[Prediction]) -> dict[str, list[int]]:
    """Indices of the judged runs with a time to first token, by deployment."""
    by_deployment: dict[str, list[int]] = {}
    for index, prediction in enumerate(predictions):
        judged = by_deployment.setdefault(prediction.run.deployment, [])
        if prediction.judged and not math.isnan(prediction.run.ttft_s):
            judged.append(index)
    return by_deployment


def _fit(
    predictions: Sequence[Prediction], engine_steps: Sequence[ClassTimes], indices: Sequence[int]
) -> ClosedLoopQueue:
    return fit_queue([predictions[index] for index in indices], [engine_steps[index] for index in indices])


def _queues(predictions: Sequence[Prediction], engine_steps: Sequence[ClassTimes]) -> dict[str, ClosedLoopQueue | None]:
    """Queue of each deployment, from all of its runs; None where they are too few."""
    return {
        name: _fit(predictions, engine_steps, indices) if len(indices) >= FEWEST else None
        for name, indices in _judged_runs(predictions).items()
    }


def _cross_fitted_first_tokens(
    predictions: Sequence[Prediction], engine_steps: Sequence[ClassTimes], fitting: Array
) -> list[ClassTimes]:
    """Time to first token of each run, with the queue fitted on the other half of its deployment's runs."""
    queues: dict[tuple[str, bool], ClosedLoopQueue] = {}
    for name, indices in _judged_runs(predictions).items():
        for half in (False, True) if len(indices) >= FEWEST else ():
            queues[name, half] = _fit(predictions, engine_steps, [index for index in indices if fitting[index] == half])
    return [
        first_token(prediction, engine_step, queues.get((prediction.run.deployment, not half), UNFITTED))
        for prediction, engine_step, half in zip(predictions, engine_steps, fitting.tolist(), strict=True)
    ]
