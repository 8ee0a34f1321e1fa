"""``asymsim validate``: what it runs, what it reads, and how it fails."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asymsim import InputError
from asymsim.calibration.kernel_operators import OPERATORS, kernel_rows
from asymsim.calibration.kernel_records import COLUMNS, UNITS, read_records
from asymsim.calibration.launch_shape import Shape
from asymsim.catalogue.gpu import load_gpu
from asymsim.catalogue.number_format import NUMBER_FORMATS
from asymsim.cli.app import run
from asymsim.core.times.parameters import DECODE_ATTENTION_TIME, ENCODER_ATTENTION_TIME, PREFILL_ATTENTION_TIME
from asymsim.core.times.row_time import time_class
from asymsim.util.errors import AsymsimError
from asymsim.validation import programs
from asymsim.validation.kernel_times import compare_records, error_summary

BF16 = NUMBER_FORMATS["bf16"]
HEADS = "heads=6;kv_heads=2;head_size=16"
GOOD = {
    "gpu": "NVIDIA H200",
    "operator": "prefill",
    "variant": "triton",
    "shape": f"queries=2x64;keys=2x64;{HEADS};causal=1;window=0",
    "dtype": "bf16",
    "metric": "seconds",
    "p20": "1e-3",
    "p50": "2e-3",
    "p80": "3e-3",
    "unit": "s",
    "versions": "python=3.12;triton=3.7.1",
    "date": "2026-01-31",
}


def flops(operator: str, shape: str, fused: bool = True) -> int:
    return int(kernel_rows(operator, Shape(shape), BF16, fused=fused)["flops"].sum())


def moved(operator: str, shape: str, fused: bool = True) -> int:
    rows = kernel_rows(operator, Shape(shape), BF16, fused=fused)
    names = ("weight_bytes", "read_bytes", "write_bytes", "kv_read_bytes", "kv_write_bytes")
    return int(sum(rows[name].sum() for name in names))


def refusal(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert run(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    return err.strip()


@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=4),
    st.booleans(),
    st.integers(0, 25),
    st.sampled_from((0, 1, 3)),
)
def test_pairs_of_prefill_are_those_of_the_mask(
    sizes: list[tuple[int, int]], causal: bool, window: int, counted: int
) -> None:
    # Queries are the last of their keys; the mask is written out.
    queries, keys = [q for q, _ in sizes], [q + more for q, more in sizes]
    pairs = 0
    for q, k in zip(queries, keys, strict=True):
        behind = np.arange(k - q, k)[:, None] - np.arange(k)[None, :]
        sees = behind >= 0 if causal else np.ones((q, k), bool)
        if causal and window:
            sees &= behind < window
        pairs += int(sees[-counted:].sum() if counted else sees.sum())
    text = f"queries={'+'.join(map(str, queries))};keys={'+'.join(map(str, keys))};{HEADS};causal={int(causal)}"
    text += f";window={window if causal else 0}"
    if counted:
        assert flops("column_mass", f"{text};counted={counted}") == 2 * pairs * 6 * 16
    else:
        assert flops("prefill", text) == flops("prefill", text, fused=False) == 4 * pairs * 6 * 16
        assert flops("column_mass", text) == 2 * pairs * 6 * 16


@pytest.mark.parametrize(
    ("operator", "shape", "flop", "bytes_moved"),
    [
        ("decode", f"entries=7+0+5+1;{HEADS}", 4 * 13 * 3 * 16, 2 * (2 * 13 * 16 + 2 * 3 * 3 * 16)),
        ("column_mass", f"queries=8;keys=8;{HEADS};causal=0", 2 * 64 * 96, 2 * (8 * 96 + 8 * 32) + 4 * 8 * 2),
        ("scorer", "visual=10+4;text=3+2;hidden=8;weighted=1", 2 * 8 * 38, 2 * (8 * 19 + 14)),
        ("similarity", "visual=10;text=3;joint=8", 4 * 30 * 8, 2 * (2 * 13 * 8 + 20)),
        ("top_k", "tokens=10+4;rows=2", 0, 2 * 3 * 28),
        ("merge_tokens", "tokens=10;kept=4;assigned=9;hidden=8", 0, 2 * 13 * 8),
        ("compact", "kept=5+0+2;head_size=16", 0, 2 * 2 * 7 * 32),
        ("copy", "bytes=4096", 0, 8192),
        ("matmul", "m=4;n=5;k=6", 240, 2 * (30 + 24 + 20)),
    ],
)
def test_work_of_a_fused_kernel(operator: str, shape: str, flop: int, bytes_moved: int) -> None:
    assert flops(operator, shape) == flop
    assert moved(operator, shape) == bytes_moved


@pytest.mark.parametrize(
    ("operator", "shape", "rows", "of"),
    [
        ("prefill", f"queries=2x64;keys=2x64;{HEADS};causal=1", 1, PREFILL_ATTENTION_TIME),
        ("prefill", f"queries=2x64;keys=2x64;{HEADS};causal=0", 1, ENCODER_ATTENTION_TIME),
        ("decode", f"entries=6x50;{HEADS}", 1, DECODE_ATTENTION_TIME),
        ("decode", f"entries=7+7+9+9;{HEADS}", 2, DECODE_ATTENTION_TIME),
        ("decode", f"entries=7+9+7+9;{HEADS}", 2, DECODE_ATTENTION_TIME),
    ],
)
def test_attention_is_of_the_class_that_runs_it(operator: str, shape: str, rows: int, of: int) -> None:
    found = kernel_rows(operator, Shape(shape), BF16)
    assert len(found) == rows
    assert {time_class(row) for row in found} == {of}


def test_a_cache_of_equal_heads_is_decoded_as_the_model_decodes_it() -> None:
    # 3 sequences of 50 entries: query groups of 3 side by side, whole heads together.
    (row,) = kernel_rows("decode", Shape(f"entries=6x50;{HEADS}"), BF16)
    assert (row["m"], row["n"], row["k"], row["groups"], row["heads"], row["kv_heads"]) == (1, 50, 16, 18, 6, 2)
    assert row["kv_read_bytes"] == 2 * 2 * 50 * 6 * 16
    assert row["kv_write_bytes"] == 0


@pytest.mark.parametrize("operator", ["prefill", "column_mass", "scorer", "similarity", "merge_tokens"])
def test_what_lies_between_operators_is_charged_where_it_is_stored(operator: str) -> None:
    shape = f"queries=64;keys=64;{HEADS};causal=1;visual=64;text=9;hidden=32;joint=32;tokens=64;kept=8;assigned=64"
    assert moved(operator, shape, fused=False) > moved(operator, shape)


def test_many_different_sequences_fit_the_table() -> None:
    lengths = list(range(1, 400))
    each = "+".join(map(str, lengths))
    assert flops("decode", f"entries={each};heads=1;kv_heads=1;head_size=2") == 8 * sum(lengths)
    assert flops("scorer", f"visual={each};text=399x2;hidden=3", fused=False) == 12 * sum(lengths)


@pytest.mark.parametrize(
    ("operator", "shape", "said"),
    [
        ("prefil", "", "did you mean prefill"),
        ("prefill", "queries", "key=value"),
        ("prefill", "queries=1;queries=2", "each key once"),
        ("prefill", f"queries=4;{HEADS}", "keys"),
        ("prefill", f"queries=4+4;keys=4;{HEADS}", "same sequences"),
        ("prefill", f"queries=5;keys=4;{HEADS}", "last of the keys"),
        ("prefill", "queries=4;keys=4;heads=3;kv_heads=2;head_size=8", "multiple of kv_heads"),
        ("prefill", "queries=4;keys=4;heads=0;kv_heads=0;head_size=8", "multiple of kv_heads"),
        ("prefill", "queries=4;keys=4;heads=2;kv_heads=1;head_size=1+2", "one number"),
        ("decode", f"entries=-1;{HEADS}", "entries"),
        ("decode", f"entries=9999999x9;{HEADS}", "at most"),
        ("decode", f"entries=99999999999;{HEADS}", "at most"),
        ("decode", f"entries=3x;{HEADS}", "entries"),
        ("matmul", "m=16777216;n=16777216;k=16777216", "too large"),
        ("copy", "bytes=x", "bytes"),
    ],
)
def test_bad_shapes_are_named(operator: str, shape: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        kernel_rows(operator, Shape(shape), BF16)


def write(path: Path, *rows: dict[str, str], header: Sequence[str] = COLUMNS) -> str:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows([row[name] for name in COLUMNS if name in row] for row in rows)
    return str(path)


def test_records_are_predicted_one_by_one(tmp_path: Path) -> None:
    shape = "m=8192;n=8192;k=8192"
    product = GOOD | {"operator": "matmul", "variant": "matmul", "shape": shape}
    copy = GOOD | {"operator": "copy", "variant": "copy", "shape": "bytes=1073741824"}
    speed = GOOD | {"metric": "bytes_per_s", "unit": "B/s"}
    trial = GOOD | {"shape": GOOD["shape"] + ";blocks=64x64;warps=4;stages=2"}
    long = GOOD | {"shape": GOOD["shape"].replace("2x64", "2x4096")}
    path = write(tmp_path / "a.csv", product, copy, speed, long, trial, long | {"variant": "materialised"})
    rows = compare_records(read_records(path))
    assert [(row["operator"], row["variant"]) for row in rows] == [
        ("matmul", "matmul"), ("copy", "copy"), ("prefill", "triton"), ("prefill", "materialised"),
    ]  # fmt: skip
    h200 = load_gpu("h200_sxm")
    # A copy of 1 GiB moves 2 GiB. Neither beats the hardware, nor falls far behind it.
    assert 1 <= rows[1]["predicted_s"] / (2**31 / h200.bandwidth_bytes_per_s) < 1.25
    assert 1 <= rows[0]["predicted_s"] / (2 * 8192**3 / h200.peak_flops_per_s["bf16"]) < 2
    assert rows[3]["predicted_s"] > rows[2]["predicted_s"]
    for row in rows:
        assert row["error"] == pytest.approx(row["predicted_s"] / 2e-3 - 1)
    assert [row["source"] for row in rows] == ["fitted", "fitted", "transferred", "transferred"]


def test_errors_are_summed_up_by_class() -> None:
    one = {"gpu": "g", "operator": "prefill", "variant": "triton", "source": "fitted"}
    rows = [one | {"error": error} for error in (-0.5, 0.1, 0.2)] + [one | {"operator": "decode", "error": -0.25}]
    first, second = error_summary(rows)
    assert (first["records"], first["bias"], first["median_error"], first["worst_error"]) == (3, 0.1, 0.2, 0.5)
    assert (second["operator"], second["bias"], second["median_error"]) == ("decode", -0.25, 0.25)


def test_records_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "a.csv", GOOD)
    assert run(("validate", "records", path)) == 0
    shown = capsys.readouterr().out
    for text in ("prefill", "h200_sxm", "transferred", "median error", "2.00 ms"):
        assert text in shown
    assert run(("validate", "records", path, "--format", "json")) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["summary"][0]["records"] == len(document["records"]) == 1
    assert run(("validate", "records", path, "--format", "csv")) == 0
    assert next(csv.DictReader(io.StringIO(capsys.readouterr().out)))["measured_p50_s"] == "0.002"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"gpu": "h300"}, "line 3: gpu = 'h300'"),
        ({"operator": "prefil"}, "line 3: operator = 'prefil'"),
        ({"variant": "cuda"}, "line 3: variant"),
        ({"shape": "queries=1"}, "line 3: shape"),
        ({"shape": "x"}, "line 3: shape"),
        ({"dtype": "bf17"}, "line 3: dtype"),
        ({"metric": "ms"}, "line 3: metric"),
        ({"unit": "ms"}, "line 3: unit = 'ms': must be s for seconds"),
        ({"p20": "x"}, "line 3: p20"),
        ({"p50": "nan"}, "line 3: p50"),
        ({"p50": "0"}, "line 3: p50"),
        ({"p80": "inf"}, "line 3: p80"),
        ({"p80": "-1"}, "line 3: p80"),
        ({"p20": "2.5e-3"}, "line 3: p50 = '2e-3': must lie between"),
        ({"versions": ""}, "line 3: versions"),
        ({"versions": "3.7"}, "line 3: versions"),
        ({"date": "31.1.2026"}, "line 3: date"),
    ],
)
def test_a_bad_row_is_named(
    change: dict[str, str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "a.csv", GOOD, GOOD | change)
    assert said in refusal(capsys, "validate", "records", path)


def test_a_bad_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in ("nope.csv", str(tmp_path), "a\x00b"):
        assert "records" in refusal(capsys, "validate", "records", path)
    file = tmp_path / "a.csv"
    for content in (b"", b"a,b\n1,2\n", b"\xff\xfe", ",".join(COLUMNS).encode() + b"\n"):
        file.write_bytes(content)
        assert "records" in refusal(capsys, "validate", "records", str(file))
    short = write(file, {name: GOOD[name] for name in COLUMNS[:-1]})
    assert "line 2 = 11: must have 12 columns" in refusal(capsys, "validate", "records", short)


def test_an_exact_result_is_a_measured_error_of_zero(tmp_path: Path) -> None:
    exact = GOOD | {"metric": "error", "unit": UNITS["error"], "p20": "0", "p50": "0", "p80": "0"}
    assert compare_records(read_records(write(tmp_path / "a.csv", exact))) == []


@pytest.mark.parametrize("command", ["kernels", "resources", "outputs"])
@pytest.mark.parametrize("missing", ["torch", "triton"])
def test_without_the_extra_it_says_what_to_install(
    command: str, missing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(programs, "find_spec", lambda name: None if name == missing else object())
    said = refusal(capsys, "validate", command)
    assert missing in said
    assert "pip install 'asymsim[kernels]'" in said


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("kernels", "--kernels", "prefil"), "did you mean prefill"),
        (("resources", "--target", "sm_91"), "did you mean sm_90"),
        (("resources", "--kernels", "x"), "kernels = 'x'"),
        (("records",), "file"),
        (("kernels", "--format", "xml"), "format"),
        (("kernel",), "kernels"),
    ],
)
def test_bad_arguments_are_refused(argv: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert said in refusal(capsys, "validate", *argv).lower()


@pytest.mark.parametrize(("code", "out"), [(3, "[]"), (0, "no JSON"), (1, ""), (-11, "")])
def test_a_program_that_fails_is_one_line(
    code: int, out: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done = subprocess.CompletedProcess([], code, out, "Traceback\n  lines\nRuntimeError: broken\n")
    monkeypatch.setattr(programs.subprocess, "run", lambda *_, **__: done)
    with pytest.raises(AsymsimError, match=r"asymsim_reference\.outputs failed"):
        programs.outputs()
    assert "RuntimeError: broken" in refusal(capsys, "validate", "outputs")


def test_kernels_runs_the_proof_and_counts_the_algorithm(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ("validate", "kernels", "--kernels", "scorer,compact")
    assert run((*argv, "--format", "json")) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["kernel"] for row in rows} == {"scorer", "compact"}
    for row in rows:
        assert row["equal"]
        assert row["ordered"]
        assert row["predicted_load_bytes"] == row["counted_load_bytes"] > 0
    scored = next(row for row in rows if row["shape"] == "visual=37;text=5;hidden=100;weighted=0")
    assert scored["algorithmic_flops"] == 2 * 37 * 5 * 100


def test_kernels_notices_what_differs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    figures = {"flops": 100_000, "load_bytes": 10, "store_bytes": 5}
    case = {"kernel": "scorer", "shape": "visual=37;text=5;hidden=100", "dtype": "fp16", "predicted": figures}
    case |= {"counted": figures, "instruction_flops": 100_000}
    rows: list[Any] = []
    monkeypatch.setattr(programs, "_program", lambda *_: rows)
    for changed, verdict, code in (
        ({}, "equal", 0),
        ({"counted": figures | {"store_bytes": 6}}, "DIFFERS", 1),
        ({"predicted": figures | {"flops": 5}, "counted": figures | {"flops": 5}}, "OUT OF ORDER", 1),
        ({"instruction_flops": 99_999}, "OUT OF ORDER", 1),
    ):
        rows[:] = [case | changed]
        assert run(("validate", "kernels")) == code
        shown = capsys.readouterr().out
        assert verdict in shown
    assert "37,000" in shown


def test_resources_compiles_a_build(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ("validate", "resources", "--target", "sm_80,sm_90", "--kernels", "merge_tokens", "--match", "fp16,d1024")
    assert run((*argv, "--format", "json")) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["kernel"], row["target"]) for row in rows] == [("merge_tokens", "sm_80"), ("merge_tokens", "sm_90")]
    for row in rows:
        assert row["faults"] == []
        assert 0 < row["registers"] <= 255
        assert row["shared_bytes"] <= row["shared_limit_bytes"]


def test_resources_shows_faults(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    row = {"kernel": "decode", "label": "bf16 d64", "target": "sm_90", "registers": 255, "stack_bytes": 8}
    row |= {"spill_bytes": 16, "shared_bytes": 1024, "shared_limit_bytes": 2048, "matrix_flops": None, "tile_flops": 5}
    monkeypatch.setattr(programs, "_program", lambda *_: [row | {"faults": ["16 bytes spilled"]}])
    assert run(("validate", "resources", "--target", "sm_90")) == 1
    shown = capsys.readouterr().out
    assert "16 bytes spilled" in shown
    assert "0 of 1 builds may ship" in shown
    monkeypatch.setattr(programs, "_program", lambda *_: [])
    assert "match" in refusal(capsys, "validate", "resources", "--match", "d65")


def test_outputs_stay_within_their_bounds(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(("validate", "outputs", "--format", "json")) == 0
    rows = json.loads(capsys.readouterr().out)
    assert all(row["within"] for row in rows)
    random = [row for row in rows if row["case"].startswith("random")]
    assert len(random) >= 20
    assert all(0 < row["error"] <= row["bound"] for row in random)
    # Opposite values attain the bound; nothing dropped changes nothing.
    attained = [row for row in rows if row["case"].startswith("two points")]
    assert all(row["tightness"] == pytest.approx(1, abs=1e-3) for row in attained)
    (nothing,) = (row for row in rows if row["case"] == "nothing dropped")
    assert nothing["error"] == nothing["bound"] == 0
    assert all(row["identity"] <= 1e-12 * max(1, row["bound"]) for row in rows if "1e6" not in row["case"])


def test_outputs_notices_a_passed_bound(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    row = {"case": "c", "rule": "r", "tokens": 4, "kept": 2, "mass": 0.5, "error": 2.0, "bound": 1.0, "tightness": 2.0}
    monkeypatch.setattr(programs, "_program", lambda *_: [row | {"identity": 0.0, "within": False}])
    assert run(("validate", "outputs")) == 1
    assert "EXCEEDS" in capsys.readouterr().out


def test_the_checks_leave_torch_to_their_processes() -> None:
    script = (
        "import sys; from asymsim.cli.app import run; run(('validate', 'outputs', '--format', 'csv')); "
        "assert not {'torch', 'triton', 'asymsim_kernels'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_kernels_are_the_operators_that_rows_are_made_for() -> None:
    assert {*programs.KERNELS, "copy", "matmul"} == set(OPERATORS)
