"""``asymsim validate latency``: its table on made-up tables, its figure, its files, and how it refuses."""

from __future__ import annotations

import json
import math
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asymsim.calibration import measured_tables
from asymsim.calibration.shape_groups import MeasuredRows
from asymsim.catalogue.gpu import Gpu
from asymsim.cli.app import run
from asymsim.core.arrays import Array
from asymsim.reporting.plots.latency import TITLES, draw_latency, latency_figure
from asymsim.util.errors import InputError, MissingExtraError, UnknownNameError
from asymsim.validation import operator_times as module
from asymsim.validation.operator_times import POINTS, held_out_report
from asymsim.validation.serving_runs import loader
from oracles.serving_runs import write_rows

ROWS = 200


def table_of(ratio: float) -> MeasuredRows:
    """Rows whose measured time is ``ratio`` times the predicted one, the first half in training shape groups."""

    def predict(index: Array, parameters: Array) -> Array:
        assert parameters.shape == (1,)
        return np.full(len(index), 1e-4)

    return MeasuredRows(
        seconds=np.full(ROWS, ratio * 1e-4),
        roofline_s=np.full(ROWS, 0.25 * ratio * 1e-4),
        held_out=np.arange(ROWS) >= ROWS // 2,
        fold=np.zeros(ROWS, np.int64),
        columns={},
        predict=predict,
        runs=(),
        sizes=np.zeros(0, np.int64),
        dropped={},
        source="made up",
    )


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables of every section, a quarter slower than predicted under sglang; none of fp8, none under trtllm."""

    def load(device: Gpu, name: str, framework: str) -> MeasuredRows | None:
        if name == "gemm_fp8" or framework == "trtllm":
            return None
        return table_of(1.25 if framework == "sglang" else 1.0)

    monkeypatch.setattr(module, "load_section", load)
    monkeypatch.setattr(measured_tables, "systems_folder", lambda: Path())


def refusal(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert run(["validate", "latency", *argv]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    return err


@pytest.mark.usefixtures("tables")
def test_held_out_shape_groups_of_vllm_and_all_rows_of_others() -> None:
    errors, points = held_out_report(["h100_sxm"], ["vllm", "sglang", "trtllm"])
    rows = {(row["operator"], row["rows_of"]): row for row in errors}
    assert rows["gemm_bf16", "vllm"]["rows"] == ROWS // 2
    assert rows["gemm_bf16", "sglang"]["rows"] == ROWS
    assert not any("fp8" in operator or framework == "trtllm" for operator, framework in rows)
    exact, slow = rows["gemm_bf16", "vllm"], rows["gemm_bf16", "sglang"]
    assert (exact["median_error"], exact["p90_error"], exact["bias"], exact["coverage"]) == (0, 0, 0, 1)
    assert slow["mean_error"] == slow["median_error"] == pytest.approx(0.2)
    assert slow["bias"] == pytest.approx(-0.2)
    assert exact["roofline_mean_error"] == slow["roofline_median_error"] == pytest.approx(0.75)
    assert len(points) == POINTS * sum(framework == "vllm" for _, framework in rows)
    assert all(point["p05_s"] <= point["p50_s"] <= point["p95_s"] for point in points)


@pytest.mark.usefixtures("tables")
def test_all_measured_gpus_by_default() -> None:
    assert {row["gpu"] for row in held_out_report()[0]} == set(measured_tables.SYSTEMS)


@pytest.mark.usefixtures("tables")
def test_what_held_out_refuses() -> None:
    with pytest.raises(InputError, match=r"v100_sxm2_32gb.*has no measured tables"):
        held_out_report(["v100"])
    with pytest.raises(UnknownNameError, match="gpu = 'h1000'"):
        held_out_report(["h1000"])
    with pytest.raises(UnknownNameError, match="framework = 'tensorrt'"):
        held_out_report(["h200"], ["tensorrt"])


@pytest.mark.usefixtures("tables")
def test_the_command_writes_tables_csv_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(write_rows(tmp_path / "runs.csv", [{"batch_size": str(batch)} for batch in range(1, 20)]))
    common = ("validate", "latency", "--gpu", "h100_sxm", "--sample", path)
    engines, figure = tmp_path / "engines.toml", tmp_path / "figure.png"
    code = run([*common, "--engines", str(engines), "--figure", str(figure)])
    out, err = capsys.readouterr()
    assert code in (0, 1), err
    for text in ("gemm_bf16", "vllm, held out", "with host, half not fitted on", "limit 15.0 %", "Not modelled"):
        assert text in out
    assert set(tomllib.loads(engines.read_text())) == {"vllm"}
    assert figure.read_bytes().startswith(b"\x89PNG")
    run([*common, "--format", "json"])
    document = json.loads(capsys.readouterr().out)
    assert set(document) == {"operators", "end_to_end"}
    assert len(document["end_to_end"]["runs"]) == 19
    run([*common, "--part", "operators", "--format", "csv"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("gpu,operator,rows_of,rows,median_error,mean_error,p90_error,bias,coverage")
    assert len(lines) == 1 + len(document["operators"])


def test_a_missed_limit_is_exit_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"isl": str(100 + index), "silicon_tpot_ms": "9" if index % 2 else "90"} for index in range(30)]
    path = str(write_rows(tmp_path / "runs.csv", rows))
    assert run(["validate", "latency", "--part", "end-to-end", "--sample", path]) == 1
    assert "TPOT: mean error" in capsys.readouterr().out


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def absent() -> Path:
        raise MissingExtraError("calibration needs pyarrow: pip install 'asymsim[measured]'")

    monkeypatch.setattr(measured_tables, "systems_folder", absent)
    monkeypatch.setattr(loader, "find_spec", lambda name: None)
    for part in ("all", "operators", "end-to-end"):
        assert "pip install 'asymsim[measured]'" in refusal(capsys, "--part", part)


def test_mistakes_take_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(write_rows(tmp_path / "runs.csv", [{}, {"silicon_tpot_ms": "nan"}]))
    assert "line 3: silicon_tpot_ms = 'nan'" in refusal(capsys, "--part", "end-to-end", "--sample", path)
    assert "cannot be read" in refusal(capsys, "--part", "end-to-end", "--sample", str(tmp_path / "none.csv"))
    assert "part" in refusal(capsys, "--part", "both")


def point(operator: str, measured: float, predicted: float, ratio: float = 1.2) -> dict[str, Any]:
    ends = {"p05_s": predicted / ratio, "p50_s": predicted, "p95_s": predicted * ratio}
    return {"operator": operator, "measured_s": measured} | ends


def test_a_panel_an_operator_class() -> None:
    rng = np.random.default_rng(0)
    names = list(TITLES)[:5]
    points = [point(name, t, t * f) for name in names for t, f in rng.lognormal(0, 1, (50, 2)) * (1e-5, 1)]
    figure = draw_latency(points)
    drawn = [axes for axes in figure.get_axes() if axes.axison]
    assert [axes.get_title().splitlines()[0] for axes in drawn] == [TITLES[name] for name in names]
    assert {(axes.get_xscale(), axes.get_yscale()) for axes in drawn} == {("log", "log")}
    for axes, name in zip(drawn, names, strict=True):
        own = [each for each in points if each["operator"] == name]
        inside, outside, identity, *_ = axes.get_lines()
        within = sum(each["p05_s"] <= each["measured_s"] <= each["p95_s"] for each in own)
        assert (len(inside.get_xdata()), len(outside.get_xdata())) == (within, 50 - within)
        assert (identity.get_xdata() == identity.get_ydata()).all()
    (legend,) = figure.legends
    texts = [text.get_text() for text in legend.get_texts()]
    assert texts == ["inside its interval", "outside it", "predicted = measured", "90 % interval"]


@pytest.mark.parametrize("count", [0, 1, 2, len(TITLES)])
def test_any_number_of_panels(count: int) -> None:
    points = [point(name, 1e-3, 1.1e-3) for name in list(TITLES)[:count]]
    assert latency_figure(points, 50).startswith(b"\x89PNG")


def test_equal_points_make_equal_files() -> None:
    points = [point("TPOT", 10**-exponent, 1.1 * 10**-exponent) for exponent in range(1, 7)]
    assert latency_figure(points, 50) == latency_figure(points, 50)


def test_ticks_are_labelled_over_any_span() -> None:
    for most in (1.5e-6, 1e-5, 1e-3, 1.0, 1e3):
        (axes,) = (each for each in draw_latency([point("TTFT", 1e-6, 1e-6), point("TTFT", most, most)]).get_axes())
        labels = [text.get_text() for text in axes.get_xticklabels()]
        assert 1 <= len(labels) <= 4
        assert len(set(labels)) == len(labels)
        assert all(math.isfinite(float(label.split()[0])) for label in labels)
