"""The command line as users meet it: documents, tables, files, exit codes, start-up."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import asymsim
from asymsim.analysis import reproduce
from asymsim.cli import flags, terminal
from asymsim.cli.app import run
from asymsim.cli.flag_values import parse_settings
from asymsim.util.files import write_file

LLAVA = ("--model", "llava-1.5-7b")


def output(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert run(argv) == 0
    return capsys.readouterr().out


def shell(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *argv], capture_output=True, text=True, check=False)


def test_importing_the_package_loads_nothing_heavy() -> None:
    script = (
        "import asymsim, sys; assert not {'torch', 'triton', 'matplotlib'} & set(sys.modules); "
        "import asymsim.cli.app; assert not {'numba', 'numpy', 'matplotlib', 'rich', 'scipy'} & set(sys.modules)"
    )
    result = shell("-c", script)
    assert result.returncode == 0, result.stderr


def test_a_process_prints_the_document_and_nothing_else() -> None:
    result = shell("-m", "asymsim.cli.app", "estimate", *LLAVA, "--method", "fastv", "--format", "json")
    assert result.returncode == 0
    assert result.stderr == ""
    scenario = asymsim.Scenario(model="llava-1.5-7b", method="fastv")
    assert json.loads(result.stdout) == json.loads(json.dumps(asymsim.estimate(scenario).to_dict()))


def test_a_process_refuses_in_one_line() -> None:
    result = shell("-m", "asymsim.cli.app", "estimate", *LLAVA, "--method", "fastv", "--keep", "1.5")
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr == "error: keep = 1.5: give a share between 0 and 1\n"


def test_a_reader_that_leaves_is_no_error() -> None:
    command = f"{sys.executable} -m asymsim.cli.app list models --format csv"
    result = subprocess.run(
        ["bash", "-c", f"{command} | head -n 1; exit ${{PIPESTATUS[0]}}"], capture_output=True, text=True, check=False
    )
    assert result.stdout.startswith("model,")
    assert result.stderr == ""
    assert result.returncode in (0, 141)


def test_a_full_disk_is_one_line() -> None:
    result = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m asymsim.cli.app list gpus > /dev/full"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert result.stderr.startswith("error: stdout: cannot be written")
    assert len(result.stderr.splitlines()) == 1


def test_an_interrupt_is_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("asymsim.estimator.estimate.estimate", interrupted)
    assert run(("estimate", *LLAVA)) == 130
    assert capsys.readouterr().out == ""


def test_help_describes_each_field_of_the_scenario(capsys: pytest.CaptureFixture[str]) -> None:
    shown = output(capsys, "estimate", "--help")
    for field in asymsim.Scenario.__dataclass_fields__:
        assert flags.FLAGS.get(field, f"--{field.replace('_', '-')}") in shown
    for alias in ("--isl", "--osl"):
        assert alias in shown


def test_every_field_of_the_scenario_has_a_description() -> None:
    texts = flags.descriptions()
    assert sorted(texts) == sorted(asymsim.Scenario.__dataclass_fields__)
    assert all(len(text) > 10 for text in texts.values())


def test_flags_are_the_fields_of_the_call(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ("--isl", "100", "--osl", "7", "--batch-size", "3", "--dtype", "fp8", "--kv-dtype", "fp8", "--tp-size", "2")
    argv += ("--image-height", "400", "--image-width", "500", "--gpu", "H100 SXM", "--convention", "torch")
    document = json.loads(output(capsys, "estimate", "--model", "qwen2.5-vl-7b", *argv, "--format", "json"))
    scenario = asymsim.Scenario(
        model="qwen2.5-vl-7b", text_tokens=100, output_tokens=7, batch_size=3, dtype="fp8", kv_dtype="fp8", tp_size=2,
        image_height=400, image_width=500, gpu="H100 SXM", convention="torch",
    )  # fmt: skip
    assert document == json.loads(json.dumps(asymsim.estimate(scenario).to_dict()))


@pytest.mark.parametrize(
    ("pair", "value"),
    [
        ("a=2", 2),
        ("a=-2", -2),
        ("a=0.5", 0.5),
        ("a=true", True),
        ("a=text", "text"),
        ("a=1/3", "1/3"),
        ("a='2'", "2"),
        ("a=8,16", [8, 16]),
        ("a=[8]", [8]),
        ("a=x,y", "x,y"),
        ("a=", ""),
        ("a={b=1}", "{b=1}"),
        ("a=2020-01-01", "2020-01-01"),
        ("a=b=c", "b=c"),
    ],
)
def test_settings_are_read_as_toml_writes_them(pair: str, value: Any) -> None:
    assert parse_settings([pair]) == {"a": value}


def test_settings_reach_the_method(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ("estimate", *LLAVA, "--method", "fastv", "--set", "layer=3", "--set", "keep=0.25", "--format", "json")
    schedule = json.loads(output(capsys, *argv))["schedule"]
    assert schedule["settings"]["layer"] == 3
    assert schedule["visual_tokens_by_layer"] == [576] * 3 + [144] * 29


def test_the_table_reads_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    shown = output(capsys, "estimate", *LLAVA, "--method", "fastv", "--osl", "1")
    for text in ("workload", "schedule", "parameters", "FLOPs (exact)", "memory", "latency", "saved", "GiB", "TFLOP"):
        assert text in shown
    assert "0-1: 576, 2-31: 288" in shown
    assert "in 90 %, transferred)" in shown
    # A single output token has no time per output token.
    assert any(line.split()[:2] == ["TPOT", "-"] for line in shown.splitlines())
    assert "\x1b" not in shown


def test_a_model_that_does_not_fit_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ("estimate", "--model", "qwen2.5-vl-72b", "--gpu", "l4")
    document = json.loads(output(capsys, *argv, "--format", "json"))
    assert document["memory"]["fits"] is False
    assert document["memory"]["max_batch_size"] == 0
    assert "DOES NOT FIT" in output(capsys, *argv)


def test_csv_is_one_row_with_the_document_names(capsys: pytest.CaptureFixture[str]) -> None:
    rows = list(csv.DictReader(io.StringIO(output(capsys, "estimate", *LLAVA, "--osl", "1", "--format", "csv"))))
    assert len(rows) == 1
    assert rows[0]["workload.visual_tokens"] == "576"
    assert rows[0]["latency.tpot_s.p50"] == ""
    assert float(rows[0]["latency.ttft_s.p50"]) > 0


def test_operators_add_up_to_the_total(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ("estimate", *LLAVA, "--method", "fastv", "--operators")
    document = json.loads(output(capsys, *argv, "--format", "json"))
    assert sum(row["flops"] for row in document["operators"]) == document["flops"]["total"]
    rows = list(csv.DictReader(io.StringIO(output(capsys, *argv, "--format", "csv"))))
    assert len(rows) == len(document["operators"])
    assert "qkv projection" in output(capsys, *argv)


@pytest.mark.parametrize(
    ("name", "start"), [("a.json", "{"), ("a.csv", "model,"), ("a.CSV", "model,"), ("a.txt", "llava")]
)
def test_the_suffix_of_a_file_gives_its_format(
    name: str, start: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / name
    assert output(capsys, "estimate", *LLAVA, "--out", str(path)) == ""
    assert path.read_text().startswith(start)
    assert run(("estimate", *LLAVA, "--out", str(path), "--format", "json")) == 0
    assert f"wrote {path}" in capsys.readouterr().err
    assert path.read_text().startswith("{")
    assert [each.name for each in tmp_path.iterdir()] == [name]


def test_a_link_is_followed_and_a_device_is_written_to(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    link.symlink_to(real)
    write_file(link, "new")
    assert link.is_symlink()
    assert real.read_text() == "new"
    write_file("/dev/null", b"gone")
    assert Path("/dev/null").is_char_device()


def test_a_file_that_cannot_be_renamed_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kept").write_text("old")

    def refuse(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", refuse)
    with pytest.raises(asymsim.InputError, match="No space left on device"):
        write_file(tmp_path / "kept", "new")
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("kept", "old")]


def test_lists(capsys: pytest.CaptureFixture[str]) -> None:
    models = {row["model"]: row for row in json.loads(output(capsys, "list", "models", "--format", "json"))}
    assert models["llava-1.5-7b"] == {
        "model": "llava-1.5-7b",
        "model_type": "llava",
        "parameters": 7_063_427_072,
        "lm_layers": 32,
        "tower_layers": 24,
        "image_height": 336,
        "image_width": 336,
        "image_tokens": 576,
    }
    assert models["qwen3-8b"]["image_tokens"] is None
    gpus = {row["gpu"]: row for row in csv.DictReader(io.StringIO(output(capsys, "list", "gpus", "--format", "csv")))}
    assert float(gpus["h100_sxm"]["bf16_flops_per_s"]) == 989.4e12
    assert gpus["t4"]["bf16_flops_per_s"] == ""
    methods = {row["method"]: row for row in json.loads(output(capsys, "list", "methods", "--format", "json"))}
    assert methods["fastv"]["family"] == "vision"
    assert "layer=2" in methods["fastv"]["settings"]
    assert "2403.06764" in methods["fastv"]["source"]
    accuracy = json.loads(output(capsys, "list", "accuracy", "--format", "json"))
    assert all(row["source"] and (row["dense"] is None) == (row["share_kept"] is None) for row in accuracy)
    conventions = json.loads(output(capsys, "list", "conventions", "--format", "json"))
    assert {"exact", "torch", "fastv"} <= {row["convention"] for row in conventions}
    for listing, text in (("models", "7.06 B"), ("gpus", "79.65 GiB"), ("methods", "fastv"), ("conventions", "exact")):
        assert text in output(capsys, "list", listing)


def test_reproduce_shows_rows_and_counts_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {
        "paper": "A",
        "quantity": "prefill_flops",
        "setting": "s",
        "convention": "c",
        "published": "1.0",
        "ours": 1.0,
    }
    row |= {"error": 0.0, "unit": "TFLOP", "kind": "counted", "source": "x"}
    other = row | {"ours": 2.0, "error": 1.0, "status": "differs", "note": "because"}
    monkeypatch.setattr(reproduce, "reproduced_rows", lambda: [row | {"status": "reproduced", "note": ""}, other])
    assert run(("reproduce",)) == 0
    out, err = capsys.readouterr()
    assert "100.0 %" in out
    assert "* because" in out
    assert err == "counted: 1 of 2 published figures reproduced, 1 differs\n"
    assert json.loads(output(capsys, "reproduce", "--format", "json"))[1]["status"] == "differs"


def test_compare_prints_each_method_and_its_remark(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ("compare", *LLAVA, "--methods", "fastv,hired", "--budget", "0.05")
    shown = output(capsys, *argv)
    assert "fastv*" in shown
    assert "* fastv: nearest: cannot go below 6.25 %" in shown
    assert "* hired: not for this model" in shown
    rows = json.loads(output(capsys, *argv, "--format", "json"))
    assert [row["method"] for row in rows] == ["none", "fastv", "hired"]


def test_compare_passes_settings_to_their_method(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ("compare", *LLAVA, "--methods", "fastv", "--match", "keep", "--set", "fastv.layer=16", "--format", "json")
    assert json.loads(output(capsys, *argv))[1]["mean_visual_tokens"] == 432


def test_savings_writes_a_table_and_a_figure(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = tmp_path / "new" / "demo"
    argv = ("savings", *LLAVA, "--method", "fastv,visionzip", "--budgets", "0.25,0.5", "--out", str(folder))
    assert run(argv) == 0
    out, err = capsys.readouterr()
    assert "50 %" in out
    assert f"wrote savings.csv, savings.png in {folder}" in err
    assert sorted(each.name for each in folder.iterdir()) == ["savings.csv", "savings.png"]
    rows = list(csv.DictReader((folder / "savings.csv").open()))
    assert [(row["method"], row["budget"]) for row in rows] == [
        ("fastv", "0.25"),
        ("fastv", "0.5"),
        ("visionzip", "0.25"),
        ("visionzip", "0.5"),
    ]
    assert (folder / "savings.png").read_bytes().startswith(b"\x89PNG")


def test_progress_shows_on_a_terminal_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal.progress("curves") as update:
        assert update is None
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with terminal.progress("curves") as update:
        assert update is not None
        update(1, 2)


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert output(capsys, "--version").strip() == asymsim.__version__
    shown = output(capsys, "--help")
    for command in ("estimate", "compare", "savings", "reproduce", "list"):
        assert command in shown
    assert "estimate" in output(capsys)
