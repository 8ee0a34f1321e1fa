"""Serving runs made up for tests: rows of the sample's columns."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

from asymsim.catalogue.gpu import load_gpu
from asymsim.validation.serving_runs.loader import COLUMNS, Run

GOOD = {
    "backend": "vllm",
    "backend_version": "0.12.0",
    "model_path": "meta-llama/Llama-3.1-8B-Instruct",
    "system": "h100_sxm",
    "mode": "agg",
    "isl": "1024",
    "osl": "128",
    "gemm_quant_mode": "",
    "batch_size": "8",
    "tp_size": "1",
    "silicon_ttft_ms": "120.5",
    "silicon_tpot_ms": "9.5",
}


def write_rows(path: Path, rows: Iterable[dict[str, str]]) -> Path:
    """A sample with these rows, each ``GOOD`` with some cells changed."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(GOOD | row for row in rows)
    return path


def run_of(**changes: object) -> Run:
    """A run as the sample gives it."""
    run = {
        "line": 2,
        "model": "llama-3.1-8b",
        "gpu": load_gpu("h100_sxm"),
        "engine": "vllm",
        "version": "0.12.0",
        "dtype": "bf16",
        "kv_dtype": "auto",
        "gemm_mode": "",
        "input_tokens": 1024,
        "output_tokens": 128,
        "batch_size": 8,
        "ttft_s": 0.12,
        "tpot_s": 0.0095,
    }
    return Run(**(run | changes))  # type: ignore[arg-type]
