"""The measured runs against the simulator: errors of TPOT and TTFT, the hosts' share, and what queues."""

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
from asymsim.validation.serving_runs.deployment import Interval, Prediction, Work, predict
from asymsim.validation.serving_runs.host import fit_hosts, host_work
from asymsim.validation.serving_runs.loader import PACKAGE, load_runs

Row = dict[str, Any]

# Frozen before anything was fitted: which half of the runs is looked at, and which is judged.
SEED = 4
VERDICTS = {
    "judged": "compared in TPOT and TTFT",
    "queued": "more requests than the KV cache holds: TPOT at its capacity, TTFT not judged",
    "impossible": "faster than the roofline of a server that caches no prefix: not judged",
}
# Mean error that was aimed at before anything was fitted.
LIMITS = {"TPOT": 0.15, "TTFT": 0.25}
# The estimator that the file comes with, on those of the same runs that it answers: mean error and how many runs;
# made again by studies/03_peer_end_to_end.py.
PEER = "aiconfigurator 0.12.0's own estimator"
PEER_ERRORS = {"TPOT": (0.101, 91), "TTFT": (0.437, 152)}


@dataclass(frozen=True)
class EndToEnd:
    """What the runs tell.

    Attributes
    ----------
    errors : list of dict
        A row for each case: ``operator`` is TPOT or TTFT, ``rows_of`` says how predicted and on which runs,
        ``judged`` whether the limit is for this one; errors as fractions, as those of operators.
    deployments : list of dict
        The same errors by deployment, with the coefficients of its queue.
    runs : list of dict
        Each run: what was measured, what is predicted with its interval, the roofline, the verdict.
    hosts : dict of str to Engine
    left_out : dict of str to int
        Rows of the file that are not ours, by the names of ``sample.LEFT_OUT``.
    """

    errors: list[Row]
    deployments: list[Row]
    runs: list[Row]
    hosts: dict[str, Engine]
    left_out: dict[str, int]

    @property
    def within(self) -> bool:
        """Whether no judged mean error passes its limit."""
        return all(row["mean_error"] <= LIMITS[row["operator"]] for row in self.errors if row["judged"])


def end_to_end(path: str | Path | None = None, progress: Callable[[int, int], None] | None = None) -> EndToEnd:
    """Compare the dense, aggregated runs on one GPU with the simulator.

    TPOT = decode step at the mean context + its share of the other requests' prefills + the engine's host; TTFT as
    `asymsim.validation.serving_runs.closed_loop` has it. Hosts are fitted on one half of the runs, and judged on the
    other; queues are fitted on either half and judged on the other.

    Parameters
    ----------
    path : str or Path, optional
        As in `sample.load_runs`.
    progress : callable, optional
        Told how many runs are done, and of how many.

    Raises
    ------
    InputError
        If the file is not as it should be, or holds too few runs to fit a host.
    MissingExtraError
        If there is neither a path nor the package.
    """
    sample = load_runs(path)
    predictions = []
    for done, run in enumerate(sample.runs):
        if progress is not None:
            progress(done, len(sample.runs))
        predictions.append(predict(run))
    half = np.random.default_rng(SEED).random(len(predictions)) < 0.5
    hosts = fit_hosts(predictions, half.tolist())
    unknown = sorted({each.run.engine for each in predictions} - set(hosts))
    if unknown:
        remedy = f"too few runs of {', '.join(unknown)} in the half that hosts are fitted on; give more"
        raise InputError("sample", str(path or PACKAGE), remedy)
    steps = [each.step + host_work(hosts[each.run.engine]) for each in predictions]
    queues = _queues(predictions, steps)
    firsts = _crossed(predictions, steps, half)
    runs = [
        _run_row(each, looked, step.interval(), first.interval())
        for each, looked, step, first in zip(predictions, half.tolist(), steps, firsts, strict=True)
    ]
    return EndToEnd(_errors(predictions, runs), _deployments(runs, queues), runs, hosts, sample.left_out)


def _groups(predictions: Sequence[Prediction]) -> dict[str, list[int]]:
    """Indices of the runs that tell of a queue, by deployment."""
    groups: dict[str, list[int]] = {}
    for index, each in enumerate(predictions):
        own = groups.setdefault(each.run.deployment, [])
        if each.judged and not math.isnan(each.run.ttft_s):
            own.append(index)
    return groups


def _fit(predictions: Sequence[Prediction], steps: Sequence[Work], chosen: Sequence[int]) -> ClosedLoopQueue:
    return fit_queue([predictions[index] for index in chosen], [steps[index] for index in chosen])


def _queues(predictions: Sequence[Prediction], steps: Sequence[Work]) -> dict[str, ClosedLoopQueue | None]:
    """The queue of each deployment, from all of its runs; None where they are too few."""
    return {
        name: _fit(predictions, steps, own) if len(own) >= FEWEST else None
        for name, own in _groups(predictions).items()
    }


def _crossed(predictions: Sequence[Prediction], steps: Sequence[Work], half: Array) -> list[Work]:
    """Time to first token of each run, its queue fitted on the other half of its deployment's runs."""
    fitted: dict[tuple[str, bool], ClosedLoopQueue] = {}
    for name, own in _groups(predictions).items():
        for side in (False, True) if len(own) >= FEWEST else ():
            fitted[name, side] = _fit(predictions, steps, [index for index in own if half[index] == side])
    return [
        first_token(each, step, fitted.get((each.run.deployment, not side), UNFITTED))
        for each, step, side in zip(predictions, steps, half.tolist(), strict=True)
    ]


def _run_row(each: Prediction, looked: bool, tpot: Interval, ttft: Interval) -> Row:
    run = each.run
    return {
        "line": run.line,
        "deployment": run.deployment,
        "gpu": run.gpu.name,
        "dtype": run.dtype,
        "input_tokens": run.input_tokens,
        "output_tokens": run.output_tokens,
        "batch_size": run.batch_size,
        "running": each.running,
        "verdict": "impossible" if not each.possible else "queued" if each.queued else "judged",
        "half": "fitted" if looked else "held out",
        "measured_tpot_s": run.tpot_s,
        **{f"tpot_{end}_s": value for end, value in tpot._asdict().items()},
        "operators_tpot_s": each.step.interval().p50,
        "roofline_tpot_s": each.step.roofline_s,
        "measured_ttft_s": None if math.isnan(run.ttft_s) else run.ttft_s,
        **{f"ttft_{end}_s": value for end, value in ttft._asdict().items()},
        "prefill_s": each.prefill.interval().p50,
        "roofline_ttft_s": each.prefill.roofline_s,
    }


def _errors(predictions: Sequence[Prediction], runs: Sequence[Row]) -> list[Row]:
    pairs = zip(predictions, runs, strict=True)
    bare = [row | _ends("tpot", each.step) | _ends("ttft", each.prefill) for each, row in pairs]

    def of(rows: Sequence[Row], *verdicts: str) -> list[Row]:
        return [row for row in rows if row["verdict"] in verdicts]

    possible = of(runs, "judged", "queued")
    cases = [
        ("tpot", "operators alone", of(bare, "judged", "queued"), False),
        ("tpot", "with host, half not fitted on", [row for row in possible if row["half"] == "held out"], True),
        ("tpot", "with host, all", possible, False),
        ("tpot", "with host, impossible rows kept", runs, False),
        ("ttft", "prefill alone", of(bare, "judged"), False),
        ("ttft", "with queue, each half fitted on the other", of(runs, "judged"), True),
    ]
    return [
        {"gpu": "all", "operator": name.upper(), "rows_of": label, "judged": verdict} | error_rows(name, rows)
        for name, label, rows, verdict in cases
        if any(row[f"measured_{name}_s"] for row in rows)
    ]


def plot_points(runs: Sequence[Row]) -> list[Row]:
    """Judged runs as a figure takes them: ``operator`` is TPOT or TTFT."""
    found = []
    for quantity, verdicts in (("tpot", ("judged", "queued")), ("ttft", ("judged",))):
        columns = {"measured_s": f"measured_{quantity}_s"}
        columns |= {f"{end}_s": f"{quantity}_{end}_s" for end in Interval._fields}
        for row in runs:
            if row["verdict"] in verdicts and row[columns["measured_s"]]:
                found.append({"operator": quantity.upper()} | {name: row[own] for name, own in columns.items()})
    return found


def _ends(name: str, work: Work) -> Row:
    return {f"{name}_{end}_s": value for end, value in work.interval()._asdict().items()}


def error_rows(name: str, runs: Sequence[Row]) -> Row:
    """Errors of ``tpot`` or ``ttft`` over some runs, as fractions; those without the time are left out."""
    used = [row for row in runs if row[f"measured_{name}_s"]]
    columns = ("measured_{}_s", "{}_p05_s", "{}_p50_s", "{}_p95_s", "roofline_{}_s")
    found = np.array([[row[column.format(name)] for column in columns] for row in used])
    measured, low, predicted, high, roofline = found.T
    error, plain = np.abs(predicted / measured - 1), np.abs(roofline / measured - 1)
    return {
        "rows": len(used),
        "median_error": float(np.median(error)),
        "mean_error": float(error.mean()),
        "p90_error": float(np.quantile(error, 0.9)),
        "bias": float(np.median(predicted / measured) - 1),
        "coverage": float(((low <= measured) & (measured <= high)).mean()),
        "narrow_share": float(((high <= 1.5 * predicted) & (low >= 0.5 * predicted)).mean()),
        "roofline_median_error": float(np.median(plain)),
        "roofline_mean_error": float(plain.mean()),
    }


def _deployments(runs: Sequence[Row], queues: dict[str, ClosedLoopQueue | None]) -> list[Row]:
    found = []
    for name, queue in queues.items():
        own = [row for row in runs if row["deployment"] == name]
        row: Row = {"deployment": name, "rows": len(own)}
        row |= {verdict: sum(each["verdict"] == verdict for each in own) for verdict in VERDICTS}
        for quantity, verdicts in (("tpot", ("judged", "queued")), ("ttft", ("judged",))):
            kept = [each for each in own if each["verdict"] in verdicts and each[f"measured_{quantity}_s"]]
            row[f"{quantity}_mean_error"] = error_rows(quantity, kept)["mean_error"] if kept else None
            row[f"{quantity}_bias"] = error_rows(quantity, kept)["bias"] if kept else None
        found.append(row | (queue._asdict() if queue else dict.fromkeys(ClosedLoopQueue._fields)))
    return found
