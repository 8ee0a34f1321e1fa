"""Measured serving runs: the rows of ``systems/silicon_sample.csv`` of aiconfigurator-core that asymsim predicts.

The file (NVIDIA, Apache-2.0) lists mean TTFT and TPOT of closed-loop benchmarks from several sources. A row
states the concurrency, not how the benchmark began or how long its queue was.
"""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from asymsim.catalogue.engine import load_engine
from asymsim.catalogue.gpu import Gpu, load_gpu
from asymsim.util.errors import InputError, MissingExtraError
from asymsim.util.strict import strict_dataclass

PACKAGE = "aiconfigurator-core 0.12.0"
COLUMNS = (
    "backend", "backend_version", "model_path", "system", "mode", "isl", "osl", "gemm_quant_mode", "batch_size",
    "tp_size", "silicon_ttft_ms", "silicon_tpot_ms",
)  # fmt: skip
# Part of the file's model path -> name in the catalogue.
MODELS = {"Llama-3.1-8B": "llama-3.1-8b", "Llama-3.1-70B": "llama-3.1-70b", "Qwen3-32B": "qwen3-32b"}
# InferenceMAX, where the 70B rows come from, serves them with an fp8 cache; with 16 bits they would beat the roofline.
FP8_CACHE = ("llama-3.1-70b",)
# Name in the package -> name in the catalogue, where they differ.
SYSTEMS = {"a100_sxm": "a100_80gb_sxm", "rtx_pro_6000_server": "rtx_pro_6000"}
# fp8_block has a scale for each 128 elements; its products are timed as products with one scale a tensor or token.
FORMATS = {"": "bf16", "bf16": "bf16", "bfloat16": "bf16", "fp8": "fp8", "fp8_block": "fp8"}

LEFT_OUT = {
    "disaggregated": "prefill and decode on different GPUs",
    "other_model": "mixture of experts, or a model that is not compared",
    "several_gpus": "more than one GPU",
    "nvfp4": "4-bit weights and activations, whose products were not fitted",
}


@strict_dataclass
class Run:
    """One measured run.

    Attributes
    ----------
    line : int
        Line number in the file; the header is line 1.
    model, engine, version, dtype, kv_dtype : str
        Names in the catalogue; the engine's version in the file's words.
    gemm_mode : str
        Format of matrix products, in the file's words.
    gpu : Gpu
    input_tokens, output_tokens, batch_size : int
        Tokens of each request; concurrent requests.
    ttft_s : float
        Mean time to the first token; nan where the row has none.
    tpot_s : float
        Mean time of each further token.
    """

    line: int
    model: str
    gpu: Gpu
    engine: str
    version: str
    dtype: str
    kv_dtype: str
    gemm_mode: str
    input_tokens: int
    output_tokens: int
    batch_size: int
    ttft_s: float
    tpot_s: float

    @property
    def deployment(self) -> str:
        """Set-up that runs share: model, GPU, engine and version."""
        return " ".join(part for part in (self.model, self.gpu.name, self.engine, self.version) if part)


class MeasuredRuns(NamedTuple):
    """Runs of a file, and the number of rows left out by each rule of ``LEFT_OUT``."""

    runs: tuple[Run, ...]
    left_out: dict[str, int]


def runs_path() -> Path:
    """Path of the file in the installed package.

    Raises
    ------
    MissingExtraError
        If the package is not installed.
    """
    spec = find_spec("aiconfigurator_core")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError(f"the measured runs are part of {PACKAGE}: pip install 'asymsim[measured]'")
    return Path(next(iter(spec.submodule_search_locations))) / "systems" / "silicon_sample.csv"


def load_runs(path: str | Path | None = None) -> MeasuredRuns:
    """Dense, aggregated runs on one GPU, read from a file.

    Parameters
    ----------
    path : str or Path, optional
        A CSV with at least ``COLUMNS``; the file of the installed package by default.

    Raises
    ------
    InputError
        If the file cannot be read, a column is missing, or a row to compare is malformed: its line, column and value.
    MissingExtraError
        If there is neither a path nor the package.
    """
    file_path = Path(path) if path is not None else runs_path()
    try:
        with file_path.open(newline="", encoding="utf-8") as file:
            lines = list(csv.reader(file, strict=True))
    except OSError as error:
        raise InputError("sample", str(path), f"cannot be read ({error.strerror or error})") from None
    # Not UTF-8 and a NUL in the path are ValueErrors.
    except (ValueError, csv.Error) as error:
        raise InputError("sample", str(path), f"is no CSV ({error})") from None
    if not lines:
        raise InputError("sample", str(path), "is empty")
    missing = [name for name in COLUMNS if name not in lines[0]]
    if missing:
        raise InputError(f"{file_path.name}, line 1", ",".join(lines[0]), f"lacks the columns {', '.join(missing)}")
    runs, left_out = [], Counter[str]()
    for number, cells in enumerate(lines[1:], start=2):
        where = f"{file_path.name}, line {number}"
        if len(cells) != len(lines[0]):
            raise InputError(where, len(cells), f"must have {len(lines[0])} columns")
        row = dict(zip(lines[0], cells, strict=True))
        rule = _left_out_by(row)
        if rule is None:
            runs.append(_run(where, number, row))
        else:
            left_out[rule] += 1
    if not runs:
        raise InputError("sample", str(path or file_path.name), "holds no dense, aggregated run on one GPU")
    return MeasuredRuns(tuple(runs), dict(left_out))


def _left_out_by(row: Mapping[str, str]) -> str | None:
    """Rule of ``LEFT_OUT`` that a row falls under; None for a run to compare."""
    if row["mode"] != "agg":
        return "disaggregated"
    if _model(row) is None:
        return "other_model"
    if row["tp_size"] != "1":
        return "several_gpus"
    if row["gemm_quant_mode"] == "nvfp4" or "NVFP4" in row["model_path"]:
        return "nvfp4"
    return None


def _model(row: Mapping[str, str]) -> str | None:
    return next((name for part, name in MODELS.items() if part in row["model_path"]), None)


def _run(where: str, line: int, row: Mapping[str, str]) -> Run:
    model = _model(row)
    assert model is not None
    if row["gemm_quant_mode"] not in FORMATS:
        raise InputError(f"{where}: gemm_quant_mode", row["gemm_quant_mode"], f"must be one of {', '.join(FORMATS)}")
    try:
        gpu = load_gpu(SYSTEMS.get(row["system"], row["system"]))
        load_engine(row["backend"])
    except InputError as error:
        raise InputError(f"{where}: {error.field}", error.value, error.remedy) from None
    return Run(
        line=line,
        model=model,
        gpu=gpu,
        engine=row["backend"],
        version=row["backend_version"],
        dtype=FORMATS[row["gemm_quant_mode"]],
        kv_dtype="fp8" if model in FP8_CACHE else "auto",
        gemm_mode=row["gemm_quant_mode"],
        input_tokens=_count(where, "isl", row["isl"]),
        output_tokens=_count(where, "osl", row["osl"], 2),
        batch_size=_count(where, "batch_size", row["batch_size"]),
        ttft_s=_seconds(where, "silicon_ttft_ms", row["silicon_ttft_ms"]) if row["silicon_ttft_ms"] else math.nan,
        tpot_s=_seconds(where, "silicon_tpot_ms", row["silicon_tpot_ms"]),
    )


def _count(where: str, column: str, text: str, least: int = 1) -> int:
    # The longest number that an int64 holds has 19 digits; no count here comes near.
    if not text.isascii() or not text.isdigit() or len(text) > 9 or int(text) < least:
        raise InputError(f"{where}: {column}", text, f"must be a whole number from {least}")
    return int(text)


def _seconds(where: str, column: str, text: str) -> float:
    try:
        value = float(text) * 1e-3
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise InputError(f"{where}: {column}", text, "must be a finite number above 0, in ms")
    return value
