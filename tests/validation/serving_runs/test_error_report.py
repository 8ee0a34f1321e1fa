"""The comparison as a whole: what is judged, and that errors are those that were planted."""

from __future__ import annotations

from pathlib import Path

import pytest

from asymsim.util.errors import InputError
from asymsim.validation.serving_runs.deployment import predict
from asymsim.validation.serving_runs.error_report import LIMITS, EndToEnd, end_to_end
from asymsim.validation.serving_runs.error_rows import error_rows, plot_points
from asymsim.validation.serving_runs.loader import load_runs
from oracles.serving_runs import write_rows

HOST_S = 0.0008
LOADS = [(isl, batch) for isl in (256, 512, 1024, 2048) for batch in (1, 2, 4, 8, 16, 32)]


def planted(path: Path, stretch: float = 1.0, extra: tuple[dict[str, str], ...] = ()) -> EndToEnd:
    """Runs that take the predicted step, every other one stretched, and a host's 0.8 ms; and others."""
    rows = [{"isl": str(isl), "batch_size": str(batch)} for isl, batch in LOADS]
    for index, (row, run) in enumerate(zip(rows, load_runs(write_rows(path, rows)).runs, strict=True)):
        bare = predict(run)
        factor = stretch if index % 2 else 1.0
        row["silicon_tpot_ms"] = repr(1e3 * (factor * bare.engine_step.interval().p50 + HOST_S))
        wait = 1.2 + 1.7 * run.batch_size / 20
        row["silicon_ttft_ms"] = repr(1e3 * wait * bare.prefill.interval().p50)
    return end_to_end(write_rows(path, [*rows, *extra]))


def test_exact_runs_have_no_error(tmp_path: Path) -> None:
    found = planted(tmp_path / "runs.csv")
    assert found.hosts["vllm"].host_s == pytest.approx(HOST_S, abs=1e-6)
    for row in found.errors:
        if row["judged"]:
            assert row["mean_error"] < 0.01
            assert row["coverage"] == 1.0
    assert found.within
    assert {row["verdict"] for row in found.runs} == {"judged"}
    assert len(plot_points(found.runs)) == 2 * len(LOADS)


def test_what_is_off_is_said_to_be(tmp_path: Path) -> None:
    found = planted(tmp_path / "runs.csv", stretch=3.0)
    (held,) = (row for row in found.errors if row["judged"] and row["operator"] == "TPOT")
    assert held["mean_error"] > LIMITS["TPOT"]
    assert not found.within


def test_a_host_is_told_from_other_engines(tmp_path: Path) -> None:
    extra = tuple({"backend": "trtllm", "isl": str(isl), "silicon_tpot_ms": "60"} for isl in range(64, 80))
    found = planted(tmp_path / "runs.csv", extra=extra)
    assert found.hosts["vllm"].host_s == pytest.approx(HOST_S, abs=1e-6)
    assert found.hosts["trtllm"].host_s > 0.04
    assert [row["deployment"] for row in found.deployments] == [
        f"llama-3.1-8b h100_sxm {engine} 0.12.0" for engine in ("vllm", "trtllm")
    ]


def test_impossible_and_queued_runs_are_named_and_not_judged(tmp_path: Path) -> None:
    extra = ({"silicon_tpot_ms": "0.1"}, {"batch_size": "5000"}, {"silicon_ttft_ms": ""})
    found = planted(tmp_path / "runs.csv", extra=extra)
    assert [row["verdict"] for row in found.runs[-3:]] == ["impossible", "impossible", "judged"]
    extra = ({"batch_size": "5000", "silicon_tpot_ms": "5000"},)
    found = planted(tmp_path / "runs.csv", extra=extra)
    assert found.runs[-1]["verdict"] == "queued"
    assert found.runs[-1]["running"] < 5000
    (ttft,) = (row for row in found.errors if row["judged"] and row["operator"] == "TTFT")
    assert ttft["rows"] == len(LOADS)


def test_few_runs_have_no_queue_of_their_own(tmp_path: Path) -> None:
    found = planted(tmp_path / "runs.csv", extra=({"system": "h200_sxm", "silicon_tpot_ms": "20"},))
    assert [row["base"] is None for row in found.deployments] == [False, True]


def test_a_half_without_an_engines_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="too few"):
        end_to_end(write_rows(tmp_path / "runs.csv", [{"silicon_tpot_ms": "0.1"}]))


def test_errors_by_hand() -> None:
    columns = ("measured_tpot_s", "tpot_p05_s", "tpot_p50_s", "tpot_p95_s", "roofline_tpot_s")
    rows = [(1.0, 0.9, 1.1, 1.2, 0.5), (2.0, 0.5, 1.0, 1.4, 1.0), (4.0, 3.9, 5.0, 9.0, 1.0)]
    found = error_rows("tpot", [dict(zip(columns, row, strict=True)) for row in rows])
    assert found == pytest.approx(
        {
            "rows": 3,
            "median_error": 0.25,
            "mean_error": (0.1 + 0.5 + 0.25) / 3,
            "p90_error": 0.45,
            "bias": 0.1,
            "coverage": 2 / 3,
            "narrow_share": 2 / 3,
            "roofline_median_error": 0.5,
            "roofline_mean_error": (0.5 + 0.5 + 0.75) / 3,
        }
    )
