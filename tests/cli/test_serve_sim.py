"""``asymsim serve-sim`` as users meet it; a server of one request at a time stands in for the simulator."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import asymsim
from asymsim.cli import flags
from asymsim.cli.app import run
from asymsim.serving import simulate as engine
from asymsim.serving.config import ClusterConfig, EngineConfig
from asymsim.serving.request_log import write_request_log
from asymsim.serving.workload.requests import BY_SIZE, TYPICAL
from asymsim.serving.workload.spec import NUM_REQUESTS, WorkloadSpec, requests_for
from asymsim.util.errors import InputError, MissingExtraError
from oracles.served_by_hand import lindley, served

COMMAND = ("serve-sim", "--model", "llava-1.5-7b", "--num-requests", "300")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the simulator was called with; it serves 10 requests a second, one after the other."""
    recorded: list[Any] = []

    def simulate(
        scenario: Any, requests: Any, server: Any = None, fleet: Any = None, *, events: int = 0, progress: Any = None
    ) -> Any:
        recorded.append((scenario, requests, server, fleet, events))
        sent, e2e = lindley(np.diff(requests.arrival_s), np.full(len(requests), 0.1))
        return served(sent, e2e - 0.05, e2e, queue_s=e2e - 0.1, output_tokens=requests.output_tokens)

    monkeypatch.setattr(engine, "simulate", simulate)
    return recorded


def document(capsys: pytest.CaptureFixture[str], *argv: str) -> Any:
    assert run((*COMMAND, *argv, "--format", "json")) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return json.loads(captured.out)


def refusal(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert run((*COMMAND, *argv)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


def test_every_field_is_a_flag_with_its_own_description(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(("serve-sim", "--help")) == 0
    shown = capsys.readouterr().out
    for kind in (WorkloadSpec, EngineConfig, ClusterConfig):
        texts = flags.descriptions(kind)
        assert sorted(texts) == sorted(kind.__dataclass_fields__)
        assert all(len(text) > 10 for text in texts.values())
        for field in kind.__dataclass_fields__:
            assert flags.FLAGS.get(field, f"--{field.replace('_', '-')}") in shown
    assert "--batch-size" not in shown


def test_flags_reach_the_simulator(calls: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    argv = ("--target-request-rate", "5", "--max-num-seqs", "9", "--no-chunked-prefill", "--router", "round_robin")
    argv += ("--replicas", "3", "--target-concurrency", "7", "--isl", "99", "--osl", "11", "--method", "fastv")
    document(capsys, *argv)
    ((scenario, requests, server, fleet, events),) = calls
    assert scenario == asymsim.Scenario(model="llava-1.5-7b", text_tokens=99, output_tokens=11, method="fastv")
    assert server == EngineConfig(max_num_seqs=9, chunked_prefill=False)
    assert fleet == ClusterConfig(replicas=3, router="round_robin", concurrency=7)
    assert events == 0
    assert (set(requests.text_tokens), set(requests.output_tokens), len(requests)) == ({99}, {11}, 300)


def test_the_document_has_what_was_asked_and_what_came_of_it(
    calls: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    result = document(
        capsys, "--target-request-rate", "5", "--arrival", "constant", "--ttft", "80", "--price", "h100-sxm=3"
    )
    assert (result["model_id"], result["gpu"], result["request_rate"]) == ("llava-1.5-7b", "h100_sxm", 5.0)
    assert result["request_throughput"] == pytest.approx(5.0, rel=0.01)
    assert result["slo_share"] == 1.0
    assert result["saturated"] is False
    assert result["price_usd_per_gpu_hour"] == 3.0
    assert result["load"]["arrival"] == "constant"


def test_a_result_can_be_read_as_one_of_vllm(
    calls: list[Any], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from asymsim.calibration.server_benchmark import read_benchmark

    result = document(capsys, "--target-request-rate", "5")
    (tmp_path / "result.json").write_text(json.dumps(result))
    read = read_benchmark(str(tmp_path / "result.json"))
    assert (read.output_tokens, read.model_id) == (128, "llava-1.5-7b")
    assert read.tpot_s == pytest.approx(0.05 / 127)


def test_a_load_beyond_what_is_served_is_said_first(calls: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert run((*COMMAND, "--target-request-rate", "20")) == 0
    shown = capsys.readouterr().out.splitlines()
    assert "llava-1.5-7b on 1 x h100_sxm, unpruned, 20 requests/s" in shown[0]
    assert shown[1].startswith("saturated: served ")
    (ttft,) = (line for line in shown if line.strip().startswith("TTFT "))
    assert ttft.split() == ["TTFT", "-", "-", "-", "-", "-"]


def test_one_row_of_csv(calls: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert run((*COMMAND, "--target-request-rate", "5", "--format", "csv")) == 0
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert row["completed"] == "300"
    assert row["fleet.replicas"] == "1"


def test_a_folder_of_files(calls: list[Any], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    out = tmp_path / "new" / "run"
    assert run((*COMMAND, "--target-request-rate", "5", "--format", "json", "--out", str(out), "--chrome-trace")) == 0
    captured = capsys.readouterr()
    assert sorted(path.name for path in out.iterdir()) == [
        "requests.parquet",
        "result.json",
        "timeline.png",
        "trace.json",
    ]
    assert json.loads((out / "result.json").read_text()) == json.loads(captured.out)
    assert captured.err.startswith("wrote result.json, ")
    assert calls[0][-1] > 0


def test_without_pyarrow_requests_are_written_as_csv(
    calls: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def missing(_served: Any) -> bytes:
        raise MissingExtraError("Parquet needs pyarrow")

    monkeypatch.setattr("asymsim.serving.request_log.parquet_bytes", missing)
    assert run((*COMMAND, "--target-request-rate", "5", "--out", str(tmp_path))) == 0
    assert "Parquet needs pyarrow; requests.csv this time" in capsys.readouterr().err
    assert sorted(each.name for each in tmp_path.iterdir()) == ["requests.csv", "result.json", "timeline.png"]
    header, *rows = (tmp_path / "requests.csv").read_text().splitlines()
    assert header.startswith("request,status,arrival_s,")
    assert len(rows) == 300


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ((), "target_request_rate = None: give it, --target-concurrency or --trace"),
        (("--target-request-rate", "0"), "target_request_rate = 0.0: give requests a second above 0"),
        (("--target-request-rate", "nan"), "target_request_rate"),
        (("--target-concurrency", "2.5"), "target_concurrency = '2.5': give a whole number"),
        (("--target-request-rate", "5", "--ttft", "0"), "ttft = 0.0: give milliseconds above 0"),
        (("--target-request-rate", "5", "--price", "h100_sxm"), "price = 'h100_sxm': write gpu=dollars"),
        (("--target-request-rate", "5", "--price", "l4=1"), "price = 'l4=1': gives none for h100_sxm"),
        (("--target-request-rate", "5", "--idle-share", "2"), "idle_share = 2.0"),
        (("--target-request-rate", "5", "--chrome-trace"), "chrome_trace = True: name a folder"),
        (("--target-request-rate", "5", "--router", "fast"), "router = 'fast': give one of round_robin"),
        (("--target-request-rate", "5", "--max-num-seqs", "0"), "max_num_seqs = 0"),
        (("--target-request-rate", "5", "--rate-scale", "2"), "rate_scale = 2.0: belongs to a trace"),
        (("--trace", "x.csv", "--workload", "chat"), "workload = 'chat': the trace has token counts already"),
        (("--trace", "x.csv", "--isl", "100"), "text_tokens = '100': x.csv says this"),
        (("--target-request-rate", "5", "--workload", "chat", "--num-images", "2"), "num_images = '2': chat says this"),
        (("--target-request-rate", "5", "--workload", "nope"), "workload = 'nope'"),
        (("--target-request-rate", "5", "--num-images", "-1"), "num_images = -1"),
        (("--target-request-rate", "5", "--num-request", "1"), "did you mean --num-requests?"),
    ],
)
def test_mistakes_are_one_line_and_nothing_runs(
    argv: tuple[str, ...], said: str, calls: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in refusal(capsys, *argv)
    assert not calls


def test_nothing_is_written_where_a_run_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def simulate(*_: Any, **__: Any) -> Any:
        raise InputError("gpu", "t4", "the model does not fit")

    monkeypatch.setattr(engine, "simulate", simulate)
    assert "does not fit" in refusal(capsys, "--target-request-rate", "5", "--out", str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_trace_in_place_of_a_workload(calls: list[Any], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("arrival_s,text_tokens,output_tokens\n10,100,5\n11,200,6\n14,300,7\n")
    for more, times in ((), [0, 1, 4]), (("--rate-scale", "2"), [0, 0.5, 2]), (("--limit", "2"), [0, 1]):
        assert run(("serve-sim", "--model", "llava-1.5-7b", "--trace", str(trace), *more)) == 0
        requests = calls[-1][1]
        assert requests.arrival_s.tolist() == times
        assert requests.text_tokens.tolist() == [100, 200, 300][: len(times)]
        assert not requests.num_images.any()
    captured = capsys.readouterr()
    assert "3 requests in asymsim's format" in captured.err
    assert f"llava-1.5-7b on 1 x h100_sxm, unpruned, {trace}" in captured.out
    # A rate replaces the file's times, and images may come from the scenario.
    argv = ("--target-request-rate", "2", "--arrival", "constant", "--num-images", "3")
    assert run(("serve-sim", "--model", "llava-1.5-7b", "--trace", str(trace), *argv)) == 0
    assert calls[-1][1].arrival_s.tolist() == [0.5, 1.0, 1.5]
    assert set(calls[-1][1].num_images) == {3}


def test_a_record_can_be_played_again(tmp_path: Path) -> None:
    load = WorkloadSpec(target_request_rate=3.0, num_requests=20, workload="documents")
    requests = requests_for(load, asymsim.Scenario(model="llava-1.5-7b"))
    result = served(requests.arrival_s, np.full(20, 0.5), np.full(20, 1.0), output_tokens=requests.output_tokens)
    write_request_log(result, tmp_path / "requests.csv")
    again = requests_for(WorkloadSpec(trace=str(tmp_path / "requests.csv")), asymsim.Scenario(model="llava-1.5-7b"))
    assert again.output_tokens.tolist() == requests.output_tokens.tolist()
    assert again.visual_tokens.tolist() == result.visual_tokens.tolist()
    assert again.arrival_s == pytest.approx(requests.arrival_s - requests.arrival_s[0])


def test_requests_all_alike() -> None:
    requests = requests_for(
        WorkloadSpec(target_request_rate=4.0, num_requests=50, seed=3), asymsim.Scenario(model="llava-1.5-7b")
    )
    assert (set(requests.num_images), set(requests.image_height), set(requests.visual_tokens)) == (
        {1},
        {TYPICAL},
        {BY_SIZE},
    )
    again = requests_for(
        WorkloadSpec(target_request_rate=4.0, num_requests=50, seed=3), asymsim.Scenario(model="llava-1.5-7b")
    )
    assert (requests.arrival_s == again.arrival_s).all()
    half = requests_for(
        WorkloadSpec(target_request_rate=4.0, num_requests=50),
        asymsim.Scenario(model="qwen2.5-vl-7b", image_height=448),
    )
    assert set(half.image_height) == {448}
    assert min(half.image_width) > 0


def test_without_a_rate_all_are_there_at_once() -> None:
    requests = requests_for(WorkloadSpec(), asymsim.Scenario(model="llava-1.5-7b", num_images=0))
    assert len(requests) == NUM_REQUESTS
    assert not requests.arrival_s.any()
    assert not requests.num_images.any()
