"""The sample of serving runs: what is read, what is left out, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from asymsim.util.errors import InputError, MissingExtraError
from asymsim.validation.serving_runs import loader
from asymsim.validation.serving_runs.loader import COLUMNS, load_runs
from oracles.serving_runs import GOOD, write_rows


def test_a_row_in_our_names_and_seconds(tmp_path: Path) -> None:
    row = {"gemm_quant_mode": "fp8_block", "model_path": "meta-llama/Llama-3.1-70B", "system": "b200_sxm"}
    (run,) = load_runs(write_rows(tmp_path / "runs.csv", [row])).runs
    assert (run.line, run.model, run.gpu.name, run.engine) == (2, "llama-3.1-70b", "b200_sxm", "vllm")
    assert (run.dtype, run.kv_dtype) == ("fp8", "fp8")
    assert (run.input_tokens, run.output_tokens, run.batch_size) == (1024, 128, 8)
    assert (run.ttft_s, run.tpot_s) == (pytest.approx(0.1205), pytest.approx(0.0095))


def test_only_the_70b_model_has_an_fp8_cache(tmp_path: Path) -> None:
    (run,) = load_runs(write_rows(tmp_path / "runs.csv", [{"gemm_quant_mode": "fp8"}])).runs
    assert (run.dtype, run.kv_dtype) == ("fp8", "auto")


def test_a_run_without_first_token_time(tmp_path: Path) -> None:
    (run,) = load_runs(write_rows(tmp_path / "runs.csv", [{"silicon_ttft_ms": ""}])).runs
    assert math.isnan(run.ttft_s)


def test_rows_that_are_not_ours_are_counted_by_name(tmp_path: Path) -> None:
    rows = [
        {"mode": "disagg", "batch_size": ""},
        {"model_path": "deepseek-ai/DeepSeek-R1", "system": "no such GPU"},
        {"tp_size": "2"},
        {"gemm_quant_mode": "nvfp4"},
        {"model_path": "nvidia/Llama-3.1-8B-NVFP4"},
        {},
    ]
    found = load_runs(write_rows(tmp_path / "runs.csv", rows))
    assert [run.line for run in found.runs] == [7]
    assert found.left_out == {"disaggregated": 1, "other_model": 1, "several_gpus": 1, "nvfp4": 2}
    assert set(found.left_out) <= set(loader.LEFT_OUT)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("silicon_tpot_ms", ""),
        ("silicon_tpot_ms", "nan"),
        ("silicon_tpot_ms", "-3"),
        ("silicon_tpot_ms", "0"),
        ("silicon_ttft_ms", "inf"),
        ("silicon_ttft_ms", "-1"),
        ("silicon_ttft_ms", "fast"),
        ("isl", "0"),
        ("isl", "12.5"),
        ("isl", "1" * 5000),
        ("osl", "1"),
        ("batch_size", "-1"),
        ("batch_size", "\u0661"),
        ("gemm_quant_mode", "int3"),
    ],
)
def test_a_malformed_cell_is_named_with_its_line(tmp_path: Path, column: str, value: str) -> None:
    path = write_rows(tmp_path / "runs.csv", [{}, {column: value}])
    with pytest.raises(InputError, match=rf"runs.csv, line 3: {column} = "):
        load_runs(path)


@pytest.mark.parametrize(("column", "field"), [("system", "gpu"), ("backend", "engine")])
def test_unknown_names_are_told_with_their_line(tmp_path: Path, column: str, field: str) -> None:
    path = write_rows(tmp_path / "runs.csv", [{}, {}, {column: "h1000"}])
    with pytest.raises(InputError, match=rf"line 4: {field} = 'h1000'"):
        load_runs(path)


@pytest.mark.parametrize("column", COLUMNS)
def test_a_missing_column_is_named(tmp_path: Path, column: str) -> None:
    kept = [name for name in COLUMNS if name != column]
    path = tmp_path / "runs.csv"
    path.write_text(",".join(kept) + "\n" + ",".join(GOOD[name] for name in kept) + "\n")
    with pytest.raises(InputError, match=f"line 1 .*lacks the columns {column}$"):
        load_runs(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (",".join(COLUMNS).encode(), "no dense, aggregated run"),
        (",".join(COLUMNS).encode() + b"\nvllm,0.12.0\n", "line 2 = 2: must have 12 columns"),
        (b"\xff\xfe\x00", "is no CSV"),
        (b'"open', "is no CSV"),
    ],
)
def test_a_file_that_is_no_sample(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "runs.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        load_runs(path)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        load_runs(tmp_path / "none.csv")


def test_without_the_package_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'asymsim\[measured\]'"):
        load_runs()
