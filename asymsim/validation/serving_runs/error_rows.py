"""Rows of the comparison with measured serving runs: a row a run, errors by case and by deployment, points to plot."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from asymsim.validation.serving_runs.closed_loop import ClosedLoopQueue
from asymsim.validation.serving_runs.deployment import ClassTimes, Interval, Prediction

Row = dict[str, Any]

VERDICTS = {
    "judged": "compared in TPOT and TTFT",
    "queued": "larger batch than the KV cache holds: TPOT compared at its capacity, TTFT not",
    "impossible": "faster than the roofline of a server without prefix caching: not compared",
}
# Verdicts of the runs whose time is compared.
_COMPARED = {"tpot": ("judged", "queued"), "ttft": ("judged",)}


def run_row(prediction: Prediction, in_fitting_half: bool, tpot: Interval, ttft: Interval) -> Row:
    """Measured and predicted times of one run, with its verdict."""
    run = prediction.run
    return {
        "line": run.line,
        "deployment": run.deployment,
        "gpu": run.gpu.name,
        "dtype": run.dtype,
        "input_tokens": run.input_tokens,
        "output_tokens": run.output_tokens,
        "batch_size": run.batch_size,
        "running": prediction.running,
        "verdict": "impossible" if not prediction.possible else "queued" if prediction.queued else "judged",
        "half": "fitted" if in_fitting_half else "held out",
        "measured_tpot_s": run.tpot_s,
        **{f"tpot_{end}_s": value for end, value in tpot._asdict().items()},
        "operators_tpot_s": prediction.engine_step.interval().p50,
        "roofline_tpot_s": prediction.engine_step.roofline_s,
        "measured_ttft_s": None if math.isnan(run.ttft_s) else run.ttft_s,
        **{f"ttft_{end}_s": value for end, value in ttft._asdict().items()},
        "prefill_s": prediction.prefill.interval().p50,
        "roofline_ttft_s": prediction.prefill.roofline_s,
    }


def case_errors(predictions: Sequence[Prediction], runs: Sequence[Row]) -> list[Row]:
    """Errors of TPOT and TTFT, a row a case: with and without host and queue, on all runs and on held-out ones."""
    pairs = zip(predictions, runs, strict=True)
    operators_alone = [
        row | _interval_columns("tpot", prediction.engine_step) | _interval_columns("ttft", prediction.prefill)
        for prediction, row in pairs
    ]
    tpot_runs, ttft_runs = _compared("tpot", runs), _compared("ttft", runs)
    held_out = [row for row in tpot_runs if row["half"] == "held out"]
    cases = [
        ("tpot", "operators alone", _compared("tpot", operators_alone), False),
        ("tpot", "with host, half not fitted on", held_out, True),
        ("tpot", "with host, all", tpot_runs, False),
        ("tpot", "with host, impossible rows kept", runs, False),
        ("ttft", "prefill alone", _compared("ttft", operators_alone), False),
        ("ttft", "with queue, each half fitted on the other", ttft_runs, True),
    ]
    return [
        {"gpu": "all", "operator": name.upper(), "rows_of": label, "judged": judged} | error_rows(name, rows)
        for name, label, rows, judged in cases
        if any(row[f"measured_{name}_s"] for row in rows)
    ]


def deployment_errors(runs: Sequence[Row], queues: dict[str, ClosedLoopQueue | None]) -> list[Row]:
    """Verdicts, errors and queue coefficients, a row a deployment."""
    deployments = []
    for name, queue in queues.items():
        deployment_runs = [row for row in runs if row["deployment"] == name]
        summary: Row = {"deployment": name, "rows": len(deployment_runs)}
        summary |= {verdict: sum(row["verdict"] == verdict for row in deployment_runs) for verdict in VERDICTS}
        for quantity in _COMPARED:
            compared = [row for row in _compared(quantity, deployment_runs) if row[f"measured_{quantity}_s"]]
            errors = error_rows(quantity, compared) if compared else {}
            summary[f"{quantity}_mean_error"] = errors.get("mean_error")
            summary[f"{quantity}_bias"] = errors.get("bias")
        deployments.append(summary | (queue._asdict() if queue else dict.fromkeys(ClosedLoopQueue._fields)))
    return deployments


def plot_points(runs: Sequence[Row]) -> list[Row]:
    """Compared runs as a figure takes them: ``operator`` is TPOT or TTFT."""
    points = []
    for quantity in _COMPARED:
        columns = {"measured_s": f"measured_{quantity}_s"}
        columns |= {f"{end}_s": f"{quantity}_{end}_s" for end in Interval._fields}
        for row in _compared(quantity, runs):
            if row[columns["measured_s"]]:
                points.append({"operator": quantity.upper()} | {name: row[column] for name, column in columns.items()})
    return points


def error_rows(name: str, runs: Sequence[Row]) -> Row:
    """Errors of ``tpot`` or ``ttft`` over the runs that have this time, as fractions."""
    columns = ("measured_{}_s", "{}_p05_s", "{}_p50_s", "{}_p95_s", "roofline_{}_s")
    times = np.array([[row[column.format(name)] for column in columns] for row in runs if row[f"measured_{name}_s"]])
    measured, low, predicted, high, roofline = times.T
    error, roofline_error = np.abs(predicted / measured - 1), np.abs(roofline / measured - 1)
    return {
        "rows": len(times),
        "median_error": float(np.median(error)),
        "mean_error": float(error.mean()),
        "p90_error": float(np.quantile(error, 0.9)),
        "bias": float(np.median(predicted / measured) - 1),
        "coverage": float(((low <= measured) & (measured <= high)).mean()),
        "narrow_share": float(((high <= 1.5 * predicted) & (low >= 0.5 * predicted)).mean()),
        "roofline_median_error": float(np.median(roofline_error)),
        "roofline_mean_error": float(roofline_error.mean()),
    }


def _compared(quantity: str, runs: Sequence[Row]) -> list[Row]:
    return [row for row in runs if row["verdict"] in _COMPARED[quantity]]


def _interval_columns(name: str, times: ClassTimes) -> Row:
    return {f"{name}_{end}_s": value for end, value in times.interval()._asdict().items()}
