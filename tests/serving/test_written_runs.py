"""Files of whole runs of ``asymsim serve-sim``: their figures of each request agree."""

from __future__ import annotations

import json
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asymsim.cli.app import run
from asymsim.methods.base import registered_methods

COMMAND = ("serve-sim", "--model", "llava-1.5-7b", "--num-requests", "300", "--target-request-rate", "20")
POOLS = ("--replicas", "0", "--encoder-replicas", "1", "--prefill-replicas", "1", "--decode-replicas", "2")
# What may follow one another; a request preempted before any token comes through the encoder and prefill again.
AFTER = {
    "queue": {"encode", "prefill", "decode"},
    "encode": {"transfer"},
    "transfer": {"queue", "prefill", "decode"},
    "prefill": {"queue", "transfer", "decode"},
    "decode": {"queue"},
}


def written(folder: Path, *argv: str) -> tuple[Any, dict[str, Any], list[Any]]:
    parquet = pytest.importorskip("pyarrow.parquet")
    assert run((*COMMAND, *argv, "--out", str(folder), "--chrome-trace")) == 0
    events = json.loads((folder / "trace.json").read_text())["traceEvents"]
    table = parquet.read_table(folder / "requests.parquet")
    return json.loads((folder / "result.json").read_text()), table.to_pydict(), events


@pytest.mark.parametrize(
    "argv",
    [(), ("--replicas", "3"), POOLS, ("--kv-cache-bytes", str(3 * 2**30)), ("--workload", "dialogue")],
    ids=["one", "three", "pools", "small cache", "dialogue"],
)
def test_phases_of_each_request_are_in_order_and_fill_its_time(argv: tuple[str, ...], tmp_path: Path) -> None:
    document, rows, events = written(tmp_path, *argv)
    spans: dict[int, list[tuple[str, float, float]]] = defaultdict(list)
    begun: dict[int, Any] = {}
    for event in events:
        if event["ph"] == "b":
            assert event["id"] not in begun
            begun[event["id"]] = event
        elif event["ph"] == "e":
            start = begun.pop(event["id"])
            assert (start["name"], start["pid"]) == (event["name"], event["pid"])
            spans[event["id"]].append((event["name"], 1e-6 * start["ts"], 1e-6 * event["ts"]))
    assert not begun
    done = [at for at, status in enumerate(rows["status"]) if status == "done"]
    assert sorted(spans) == done
    for request, phases in spans.items():
        for (name, _, end), (following, start, _) in pairwise(phases):
            assert end == pytest.approx(start, abs=1e-9)
            assert following in AFTER[name]
        assert all(start < end for _, start, end in phases)
        assert phases[0][1] == pytest.approx(rows["sent_s"][request])
        assert phases[-1][2] - phases[0][1] == pytest.approx(rows["e2e_s"][request], rel=1e-5)
    preempted = sum(rows["preemptions"][request] for request in done)
    assert (document["completed"], document["preemptions"]) == (len(done), preempted)
    assert preempted > 0 or "--kv-cache-bytes" not in argv
    assert document["too_long"] == 300 - len(done)


def test_steps_of_a_replica_follow_one_another(tmp_path: Path) -> None:
    document, _, events = written(tmp_path, "--replicas", "2")
    steps = defaultdict(list)
    for event in events:
        if event["ph"] == "X":
            steps[event["pid"]].append((event["ts"], event["dur"], event["args"]["steps"]))
    assert len(steps) == 2
    assert sum(number for each in steps.values() for *_, number in each) == document["steps"]
    for each in steps.values():
        starts, durations, _ = np.array(sorted(each)).T
        assert (starts[1:] - starts[:-1] - durations[:-1] > -1e-3).all()
    busy = 1e-6 * sum(duration for each in steps.values() for _, duration, _ in each)
    assert busy == pytest.approx(document["gpu_busy_share"] * 2 * document["duration"])


def test_figures_are_those_of_the_rows(tmp_path: Path) -> None:
    document, rows, _ = written(tmp_path, "--workload", "chat", "--ttft", "40")
    for name in ("ttft", "tpot", "queue"):
        values = np.array([value for value in rows[f"{name}_s"] if value is not None])
        assert document[f"mean_{name}_ms"] == pytest.approx(1000 * values.mean(), rel=1e-5)
        assert document[f"p99_{name}_ms"] == pytest.approx(1000 * np.percentile(values, 99), rel=1e-5)
    within = sum(value <= 0.04 for value in rows["ttft_s"])
    assert document["slo_share"] == pytest.approx(within / 300)
    assert document["request_throughput"] == pytest.approx(300 / document["duration"])
    assert document["total_output_tokens"] == sum(rows["output_tokens"])


@pytest.mark.parametrize("model", ["llava-1.5-7b", "gemma-3-4b-it", "llama-3.2-11b-vision", "llama-3.1-8b"])
@pytest.mark.parametrize("name", registered_methods())
def test_every_method_serves_or_says_why_not(name: str, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ("--method", name, "--model", model, "--num-requests", "40", "--target-request-rate", "20")
    exit_code = run(("serve-sim", *argv, "--format", "json"))
    captured = capsys.readouterr()
    if exit_code:
        assert (exit_code, captured.err.count("\n")) == (2, 1)
        return
    document = json.loads(captured.out)
    assert document["completed"] == 40
    assert 0 < document["mean_ttft_ms"] < document["mean_e2el_ms"]


def test_a_prompt_beyond_the_model_is_named_and_the_others_are_served(tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("arrival_s,text_tokens,output_tokens\n0,100,5\n1,1000000,5\n2,90000000,90000000\n3,200,6\n")
    argv = ("serve-sim", "--model", "llava-1.5-7b", "--trace", str(trace), "--out", str(tmp_path / "run"))
    assert run(argv) == 0
    document = json.loads((tmp_path / "run" / "result.json").read_text())
    assert document["rejected_rows"] == {"too_long": [1, 2]}
    assert (document["completed"], document["failed"]) == (2, 2)


def test_a_model_without_images_leaves_them_out_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("arrival_s,text_tokens,output_tokens,num_images\n0,100,5,2\n1,100,5,0\n")
    assert run(("serve-sim", "--model", "llama-3.1-8b", "--trace", str(trace), "--format", "json")) == 0
    captured = capsys.readouterr()
    assert "llama-3.1-8b takes no images: left out those of 1 request\n" in captured.err
    assert json.loads(captured.out)["total_visual_tokens"] == 0
    argv = ("--model", "llama-3.1-8b", "--workload", "charts", "--num-requests", "50", "--target-request-rate", "5")
    assert run(("serve-sim", *argv)) == 0
    assert "left out those of 50 requests" in capsys.readouterr().err


def test_a_run_is_played_again_from_its_own_rows(tmp_path: Path) -> None:
    first, rows, _ = written(tmp_path / "first", "--workload", "chat")
    # Times count from the first arrival, and the images stand in the rows as their tokens.
    again = tmp_path / "again"
    argv = ("serve-sim", "--model", "llava-1.5-7b", "--trace", str(tmp_path / "first" / "requests.parquet"))
    assert run((*argv, "--out", str(again))) == 0
    second = json.loads((again / "result.json").read_text())
    for name in ("completed", "total_input_tokens", "total_output_tokens", "total_visual_tokens"):
        assert first[name] == second[name]
    # The rows do not say which images are the same, so each is encoded.
    assert second["mean_ttft_ms"] == pytest.approx(first["mean_ttft_ms"], rel=0.2)
    assert len(rows["request"]) == second["num_prompts"]


def test_a_parquet_file_that_is_none_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pyarrow")
    trace = tmp_path / "trace.parquet"
    trace.write_bytes(b"PAR1 and no more")
    assert run(("serve-sim", "--model", "llava-1.5-7b", "--trace", str(trace))) == 2
    assert "trace.parquet': cannot be read (" in capsys.readouterr().err
