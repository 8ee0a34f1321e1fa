"""Serving runs whose two halves differ: values fitted on one half are judged on the other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from asymsim.validation.serving_runs.deployment import predict
from asymsim.validation.serving_runs.error_report import EndToEnd, end_to_end
from asymsim.validation.serving_runs.error_rows import error_rows
from asymsim.validation.serving_runs.loader import load_runs
from oracles.serving_runs import write_rows

BATCHES = [batch for _ in range(3) for batch in (1, 2, 4, 8, 16, 32)]
# The first number of the generator of seed 4 for each run: below a half the run is fitted on, else held out.
FITTED_ON = np.random.default_rng(4).random(len(BATCHES) + 1) < 0.5
HOST_S = {True: 0.0008, False: 0.0024}
WAIT = {True: 1.0, False: 2.0}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> EndToEnd:
    """Runs that take the predicted step and a host of their half, and wait as their half does; one that queues."""
    path = tmp_path_factory.mktemp("runs") / "runs.csv"
    rows = [{"isl": str(256 * (1 + index // 6)), "batch_size": str(batch)} for index, batch in enumerate(BATCHES)]
    for row, run, fitted_on in zip(rows, load_runs(write_rows(path, rows)).runs, FITTED_ON.tolist(), strict=False):
        bare = predict(run)
        row["silicon_tpot_ms"] = repr(1e3 * (bare.engine_step.interval().p50 + HOST_S[fitted_on]))
        row["silicon_ttft_ms"] = repr(
            1e3 * WAIT[fitted_on] * (1.2 + 1.7 * run.batch_size / 20) * bare.prefill.interval().p50
        )
    return end_to_end(write_rows(path, [*rows, {"batch_size": "5000", "silicon_tpot_ms": "5000"}]))


def by_case(report: EndToEnd, operator: str) -> dict[str, Any]:
    return {row["rows_of"]: row for row in report.errors if row["operator"] == operator}


def test_hosts_are_fitted_on_the_fitting_half(report: EndToEnd) -> None:
    assert [row["half"] == "fitted" for row in report.runs] == FITTED_ON.tolist()
    assert report.hosts["vllm"].host_s == pytest.approx(HOST_S[True], abs=1e-6)


def test_queues_are_judged_on_the_half_that_they_were_not_fitted_on(report: EndToEnd) -> None:
    """Half of the runs wait twice as long: predicted by the others they are off by a half, and these by all."""
    (case,) = (row for row in by_case(report, "TTFT").values() if row["judged"])
    fitted_on = FITTED_ON[: len(BATCHES)]
    expected = (fitted_on.sum() * 1.0 + (~fitted_on).sum() * 0.5) / len(fitted_on)
    # Coefficients are pulled a little towards the usual ones.
    assert case["mean_error"] == pytest.approx(expected, rel=0.2)
    assert not report.within


def test_runs_that_queue_tell_nothing_of_the_first_token(report: EndToEnd) -> None:
    assert report.runs[-1]["verdict"] == "queued"
    assert {row["rows"] for row in by_case(report, "TTFT").values()} == {len(BATCHES)}
    tpot = by_case(report, "TPOT")
    assert tpot["with host, all"]["rows"] == tpot["operators alone"]["rows"] == len(BATCHES) + 1
    assert tpot["with host, half not fitted on"]["rows"] == int((~FITTED_ON).sum())


@pytest.mark.parametrize(("operator", "limit"), [("TPOT", 0.15), ("TTFT", 0.25)])
def test_limits_of_the_mean_error(operator: str, limit: float) -> None:
    for error, within in ((limit, True), (limit + 0.001, False)):
        row = {"operator": operator, "mean_error": error, "judged": True}
        assert EndToEnd([row], [], [], {}, {}).within == within
        assert EndToEnd([row | {"judged": False}], [], [], {}, {}).within


def test_a_time_below_its_interval_is_not_covered() -> None:
    columns = ("measured_ttft_s", "ttft_p05_s", "ttft_p50_s", "ttft_p95_s", "roofline_ttft_s")
    rows = [(1.0, 1.1, 1.2, 1.3, 0.5), (1.0, 0.5, 0.7, 0.9, 0.5), (1.0, 1.0, 1.0, 1.0, 0.5), (1.0, 0.4, 1.1, 1.2, 0.5)]
    errors = error_rows("ttft", [dict(zip(columns, row, strict=True)) for row in rows])
    assert errors["coverage"] == 0.5
