"""``asymsim plan`` as users meet it."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from asymsim.cli.app import run
from asymsim.reporting.plan_view import between, saving_text

COMMAND = ("plan", "--model", "llava-1.5-7b", "--target-request-rate", "20", "--num-requests", "400")
LIMITS = ("--ttft", "300", "--tpot", "30")


def output(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert run((*COMMAND, *argv)) == 0
    return capsys.readouterr().out


def refusal(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert run((*COMMAND, *argv)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


def test_the_table_names_the_best_and_what_pruning_saves(capsys: pytest.CaptureFixture[str]) -> None:
    shown = output(capsys, *LIMITS, "--gpu", "l40s,h100-sxm", "--method", "asymvlm", "--keep", "0.5,0.25")
    assert shown.splitlines()[0] == "Fewest GPUs for llava-1.5-7b at 20 requests/s, p99 within TTFT 300 ms, TPOT 30 ms"
    assert [line.split()[:2] for line in shown.splitlines()[4:10]] == [
        [gpu, method] for gpu in ("l40s", "h100_sxm") for method in ("none", "asymvlm", "asymvlm")
    ]
    assert "fewest GPUs: 1 x h100_sxm" in shown
    assert "cheapest: " in shown
    assert "l40s: " in shown
    assert "fewer GPUs with asymvlm at keep 0.25" in shown
    assert "90 % between" in shown
    assert "simulated with 400 requests" in shown


def test_json_csv_and_files_hold_the_same(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    argv = (*LIMITS, "--gpu", "l40s", "--method", "asymvlm", "--draws", "0")
    document = json.loads(output(capsys, *argv, "--format", "json", "--out", str(tmp_path / "made")))
    assert json.loads((tmp_path / "made" / "plan.json").read_text()) == document
    rows = list(csv.DictReader(io.StringIO(output(capsys, *argv, "--format", "csv"))))
    assert [row["gpus"] for row in rows] == [str(row["gpus"]) for row in document["answers"]]
    assert [row["keep"] for row in document["answers"]] == [None, 0.5]
    assert sorted(path.name for path in (tmp_path / "made").iterdir()) == ["plan.csv", "plan.json"]
    assert document["savings"][0]["gpus_saved_p05"] is None


def test_curves_are_written_beside_the_plan(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    shown = output(capsys, *LIMITS, "--draws", "0", "--goodput-curve", "--out", str(tmp_path))
    names = ["goodput.csv", "goodput.png", "plan.csv", "plan.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert "h100_sxm: 1 x tp 1, unpruned, sustains " in shown


def test_a_trace_brings_its_own_rate(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    lines = [f"{100 * row},200,20" for row in range(400)]
    trace.write_text("\n".join(["timestamp,input_length,output_length", *lines]) + "\n")
    argv = ("plan", "--model", "llava-1.5-7b", "--trace", str(trace), *LIMITS, "--draws", "0", "--format", "json")
    code = run(argv)
    captured = capsys.readouterr()
    assert code == 0, captured.err
    document = json.loads(captured.out)
    assert document["answers"][0]["gpus"] == 1
    assert document["answers"][0]["num_requests"] == 400
    assert captured.err.count("requests in") == 1


def test_no_fleet_will_do(capsys: pytest.CaptureFixture[str]) -> None:
    shown = output(capsys, "--ttft", "0.5")
    assert "h100_sxm, unpruned: no fleet meets the limits; ttft: p99 is " in shown
    assert "fewest" not in shown.partition("\n")[2]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ((), "ttft, tpot, e2e = None: give one limit or more"),
        (("--ttft", "0"), "ttft = 0.0: give milliseconds above 0"),
        (("--ttft", "300", "--percentile", "100"), "percentile = 100.0: give per cent"),
        (("--ttft", "300", "--method", "fasty"), "method = 'fasty': did you mean fastv?"),
        (("--ttft", "300", "--method", "fastv", "--keep", "2"), "keep = 2.0: give a share between 0 and 1"),
        (("--ttft", "300", "--keep", "0.5"), "keep = [0.5]: name the method it belongs to"),
        (("--ttft", "300", "--method", "fastv", "--set", "layer=2"), "settings = 'layer': write it as method.setting"),
        (("--ttft", "300", "--set", "fastv.layer=2"), "set = {'fastv.layer': 2}: name the method it belongs to"),
        (("--ttft", "300", "--tp-size", "3"), "tp_size = 3: must divide the 32 attention heads"),
        (("--ttft", "300", "--tp-size", "0"), "tp_size = 0.0: give whole numbers above 0"),
        (("--ttft", "300", "--gpu", "h100"), "gpu = 'h100': ambiguous, say which"),
        (("--ttft", "300", "--workload", "documents", "--isl", "5"), "text_tokens = '5': documents says this"),
        (("--ttft", "300", "--goodput-curve"), "goodput_curve = True: name a folder for it with --out"),
        (("--ttft", "300", "--price", "l4=2"), "price = 'l4=2': l4 is not among the GPUs h100_sxm"),
        (("--ttft", "300", "--draws", "3"), "draws = 3: give 20 to 1000"),
        (("--ttft", "300", "--workers", "0"), "workers = 0: give 1 to 1024 threads"),
    ],
)
def test_a_mistake_is_one_line(capsys: pytest.CaptureFixture[str], argv: tuple[str, ...], message: str) -> None:
    assert refusal(capsys, *argv).startswith(f"error: {message}")


def test_a_load_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(("plan", "--model", "llava-1.5-7b", "--ttft", "300")) == 2
    assert capsys.readouterr().err == "error: target_request_rate = None: give requests a second, or a trace\n"


@pytest.mark.parametrize(
    ("saved", "low", "high", "text"),
    [
        (2, 1.0, 3.0, "2 fewer GPUs with asymvlm at keep 0.5 (2 instead of 4), 90 % between 1 and 3"),
        (1, 1.0, None, "1 fewer GPU with asymvlm at keep 0.5 (3 instead of 4), 90 % from 1 on"),
        (0, None, None, "no fewer GPUs with asymvlm at keep 0.5 (4 instead of 4)"),
        (-1, -2.0, 0.0, "1 more GPU with asymvlm at keep 0.5 (5 instead of 4), 90 % between -2 and 0"),
    ],
)
def test_savings_in_words(saved: int, low: Any, high: Any, text: str) -> None:
    row = {"gpus_saved": saved, "gpus_saved_p05": low, "gpus_saved_p95": high, "method": "asymvlm", "keep": 0.5}
    assert saving_text({**row, "gpus": 4 - saved, "unpruned_gpus": 4}) == text


def test_intervals_in_words() -> None:
    assert between(1.0, 3.0, 0) == "1 to 3"
    assert between(2.0, None, 3) == "from 2"
    assert between(None, None, 20) == "none"
    assert between(None, None, None) == "-"
