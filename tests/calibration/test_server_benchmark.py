"""The host's time per step from a serving benchmark, and engines of the user's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from asymsim.calibration.server_benchmark import fit_engine_host, read_benchmark
from asymsim.catalogue.engine import Engine, engine_text, load_engine
from asymsim.catalogue.gpu import gpu_path
from asymsim.cli.app import run
from asymsim.estimator.estimate import estimate
from asymsim.estimator.scenario import Scenario
from asymsim.util.errors import InputError

HOST_S = 0.0021
INPUT, OUTPUT, REQUESTS = 1024, 257, 480


def step_s(running: int, name: str = "h100_sxm") -> float:
    """A decode step of so many requests, and its share of the others' prefills."""
    common: dict[str, Any] = {"model": "qwen2.5-vl-7b", "gpu": name, "num_images": 0, "text_tokens": INPUT}
    decode = estimate(Scenario(**common, output_tokens=OUTPUT, batch_size=running)).latency.tpot_s.p50
    prefill = estimate(Scenario(**common, output_tokens=1)).latency.prefill_s.p50
    assert decode is not None
    assert prefill is not None
    return decode + prefill * (running - 1) / OUTPUT


def result(tpot_s: float, running: int = 16, **change: Any) -> dict[str, Any]:
    """What the benchmark writes where so many requests decode at a time."""
    return {
        "date": "20260131-101500",
        "backend": "vllm",
        "model_id": "Qwen/Qwen2.5-VL-7B-Instruct",
        "max_concurrency": 64,
        "duration": REQUESTS / running * tpot_s * (OUTPUT - 1),
        "completed": REQUESTS,
        "total_input_tokens": REQUESTS * INPUT,
        "total_output_tokens": REQUESTS * OUTPUT,
        "mean_ttft_ms": 80.0,
        "mean_tpot_ms": tpot_s * 1e3,
        **change,
    }


def write(path: Path, document: Any) -> str:
    path.write_text(json.dumps(document))
    return str(path)


@pytest.mark.parametrize("running", [1, 16])
def test_a_known_host_time_comes_back(running: int, tmp_path: Path) -> None:
    out = tmp_path / "engine.toml"
    path = write(tmp_path / "a.json", result(step_s(running) + HOST_S, running))
    row = fit_engine_host("h100_sxm", path, out=out)
    assert row["running"] == running
    assert row["host_s"] == pytest.approx(HOST_S, abs=1e-8)
    assert 0 <= row["host_p05_s"] < row["host_s"] < row["host_p95_s"]
    made = load_engine(str(out))
    assert made is not None
    assert (made.name, made.host_s) == ("vllm", row["host_s"])
    assert "a.json (20260131-101500)" in made.source
    # The measured time is predicted with it.
    scenario = Scenario(
        model="qwen2.5-vl-7b",
        num_images=0,
        text_tokens=INPUT,
        output_tokens=OUTPUT,
        batch_size=running,
        engine=str(out),
    )
    alone = estimate(Scenario(**{**vars(scenario), "engine": "none"})).latency.tpot_s.p50
    tpot = estimate(scenario).latency.tpot_s.p50
    assert tpot is not None
    assert alone is not None
    assert tpot - alone == pytest.approx(HOST_S, abs=1e-8)


def test_requests_at_a_time_are_at_most_those_allowed(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", result(0.02, 16, max_concurrency=8))
    assert read_benchmark(path).running == 8
    path = write(tmp_path / "a.json", result(0.02, 16, max_concurrency=None))
    assert read_benchmark(path).running == 16


def test_a_step_faster_than_predicted_leaves_the_host_nothing(tmp_path: Path) -> None:
    said: list[str] = []
    row = fit_engine_host("h100_sxm", write(tmp_path / "a.json", result(0.5 * step_s(16))), say=said.append)
    assert (row["host_p05_s"], row["host_s"], row["host_p95_s"]) == (0, 0, 0)
    assert any("below the predicted" in text for text in said)


def test_beyond_a_roofline_all_or_nothing_is_the_host_s(tmp_path: Path) -> None:
    row = fit_engine_host("mi300x", write(tmp_path / "a.json", result(step_s(16, "mi300x") + HOST_S)))
    assert row["source"] == "roofline"
    assert row["host_p05_s"] == 0
    assert row["host_p95_s"] == row["host_s"] == pytest.approx(HOST_S, abs=1e-8)


def test_the_command_writes_an_engine_and_leaves_the_gpu_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = gpu_path("h100_sxm").read_bytes()
    path, out = write(tmp_path / "a.json", result(0.02)), tmp_path / "engine.toml"
    argv = ["calibrate", "--gpu", "h100_sxm", "--records", path, "--model", "qwen2.5-vl-7b", "--format", "json"]
    assert run([*argv, "--out", str(out)]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["engine"] == "vllm"
    assert gpu_path("h100_sxm").read_bytes() == before
    assert run(argv) == 0
    assert "--out FILE" in capsys.readouterr().err
    assert run(["estimate", "--model", "qwen2.5-vl-7b", "--engine", str(out)]) == 0


def test_an_engine_s_file_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "engine.toml"
    times = []
    for host_s in (0.001, 0.004):
        path.write_text(
            engine_text(Engine(name="own", host_s=host_s, host_p05_s=0.0, host_p95_s=0.01, source='a "quoted" \\ one'))
        )
        found = load_engine(str(path))
        assert found is not None
        assert found.source == 'a "quoted" \\ one'
        times.append(estimate(Scenario(model="qwen2.5-7b", engine=str(path))).latency.tpot_s.p50)
    assert times[0] is not None
    assert times[1] is not None
    assert times[1] - times[0] == pytest.approx(0.003)


GOOD = 'host_s = 0.001\nhost_p05_s = 0.0\nhost_p95_s = 0.002\nsource = "x"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "cannot be read"),
        ("[a\n", "no valid TOML"),
        ("", "must hold one table"),
        (GOOD, "must hold one table"),
        (f"[a]\n{GOOD}[b]\n{GOOD}", "must hold one table"),
        ("[a]\n" + GOOD.replace("0.001", "-1.0"), "must rise from 0"),
        ("[a]\n" + GOOD.replace("0.002", "inf"), "must rise from 0"),
        ("[a]\n" + GOOD.replace("0.001", "nan"), "must rise from 0"),
        ("[a]\n" + GOOD.replace("0.001", '"fast"'), "host_s"),
        ("[a]\n" + GOOD + "hosts = 1\n", "hosts"),
        ('[a]\nsource = "x"\n', "host_s"),
    ],
)
def test_a_bad_engine_is_named(text: str | None, said: str, tmp_path: Path) -> None:
    path = tmp_path / "engine.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=said):
        load_engine(str(path))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read"),
        ("", "is no JSON"),
        ("completed=3", "is no JSON"),
        ("[1]", "one JSON object"),
        (json.dumps({"completed": 3}), "lacks duration, total_input_tokens"),
        (json.dumps(result(0.02, mean_tpot_ms=float("nan"))), "mean_tpot_ms = nan"),
        (json.dumps(result(0.02, duration=float("inf"))), "duration = inf"),
        (json.dumps(result(0.02, completed=0)), "completed = 0"),
        (json.dumps(result(0.02, completed="many")), "completed = 'many'"),
        (json.dumps(result(0.02, total_input_tokens=-3)), "total_input_tokens = -3"),
        (json.dumps(result(0.02, max_concurrency=0)), "max_concurrency = 0"),
        (json.dumps(result(0.02, total_output_tokens=REQUESTS)), "at least two tokens"),
        (json.dumps(result(0.02, model_id="acme/great-1b")), "--model"),
        (json.dumps(result(0.02, model_id=None)), "--model"),
    ],
)
def test_a_bad_benchmark_is_named_and_nothing_written(
    content: str | None, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "a.json", tmp_path / "engine.toml"
    if content is not None:
        path.write_text(content)
    assert run(["calibrate", "--gpu", "h100_sxm", "--records", str(path), "--out", str(out)]) == 2
    shown, err = capsys.readouterr()
    assert shown == ""
    assert said in err
    assert "a.json" in err
    assert len(err.splitlines()) == 1
    assert not out.exists()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--gpu", "h300"], "gpu = 'h300'"),
        (["--gpu", "h100_sxm", "--model", "great"], "model = 'great'"),
        (["--gpu", "h100_sxm", "--dtype", "bf17"], "dtype = 'bf17'"),
        (["--gpu", "h100_sxm", "--tp-size", "3"], "tp_size = 3"),
        (["--gpu", "h100_sxm", "--tp-size", "0"], "tp_size = 0"),
        (["--gpu", "h100_sxm", "--section", "gemm_bf16"], "section"),
        (["--gpu", "h100_sxm", "--out", "/proc/none/x.toml"], "cannot be written"),
    ],
)
def test_bad_flags_are_named(more: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "a.json", result(0.02))
    assert run(["calibrate", "--records", path, *more]) == 2
    err = capsys.readouterr().err
    assert said in err.splitlines()[-1]
    assert len(err.splitlines()) == 1
