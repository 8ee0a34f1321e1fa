"""Operator times measured by others: the tables of ``aiconfigurator-core``, as plain arrays.

The package 0.12.0 (NVIDIA, Apache-2.0) ships Parquet tables at
``systems/data/<system>/<family>/<framework>/<version>/<table>_perf.parquet``, times in milliseconds.
Each reader gives columns of float64 and int64 with seconds, and a count of the rows that it dropped by
the name of their trap (`TRAPS`). Nothing is dropped silently, and nothing is repaired.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

# The catalogue's names of the systems that have tables of their own.
SYSTEMS = {
    "a100_80gb_sxm": "a100_sxm",
    "l40s": "l40s",
    "h100_sxm": "h100_sxm",
    "h200_sxm": "h200_sxm",
    "b200_sxm": "b200_sxm",
    "b300_sxm": "b300_sxm",
    "gb200": "gb200",
    "rtx_pro_6000": "rtx_pro_6000_server",
}
FRAMEWORKS = ("vllm", "sglang", "trtllm")

TRAPS = {
    "not_positive": "a time that is not a finite number above 0",
    "repeated": "the same shape measured more than once: the median is kept",
    "beats_peak": "faster than the tensor cores' dense peak",
    "beats_memory": "faster than device memory can bring the operands once: they lay in L2 from the run before",
    "fp8_cache": "an fp8 KV cache, whose conversion is another kernel",
    "sliding_window": "a sliding window: a class of its own, kept aside",
    "context_step": "context attention over a prefix; the tables hold step 0 alone, so none is known",
    "head_size_512": "head size 512: another kernel (FlashAttention-4 on Hopper), and no model of the catalogue has it",
    "empty": "a shape of no work (one token of context, or a zero)",
}


@dataclass(frozen=True)
class Rows:
    """Columns of one table (``seconds`` among them) and what was dropped on the way."""

    columns: dict[str, Array]
    dropped: dict[str, int]
    source: str

    def __getitem__(self, name: str) -> Array:
        return self.columns[name]

    def __len__(self) -> int:
        return len(self.columns["seconds"])

    def keep(self, mask: Array) -> Rows:
        """Only the rows of a mask."""
        return Rows({name: column[mask] for name, column in self.columns.items()}, self.dropped, self.source)

    def drop(self, trap: str, mask: Array) -> Rows:
        """Without the rows of a mask, counted under the trap's name."""
        dropped = {**self.dropped, trap: self.dropped.get(trap, 0) + int(mask.sum())}
        return replace(self.keep(~mask), dropped={name: count for name, count in dropped.items() if count})


def data_folder() -> Path:
    """Folder of the installed package's tables, without importing the package."""
    spec = find_spec("aiconfigurator_core")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(
            "aiconfigurator-core is not installed; pip install --no-deps aiconfigurator-core==0.12.0"
        )
    return Path(next(iter(spec.submodule_search_locations))) / "systems"


def table_path(gpu: str, family: str, framework: str, table: str) -> Path | None:
    """The newest version's file, or None where the GPU has none."""
    folder = data_folder() / "data" / SYSTEMS[gpu] / family / framework
    found = list(folder.glob(f"*/{table}_perf.parquet"))
    return max(found, key=lambda path: [int(part) for part in re.findall(r"\d+", path.parent.name)], default=None)


def read_gemm(gpu: str, framework: str, dtype: str) -> Rows | None:
    """m x n x k matrix products; ``dtype`` bfloat16, fp8 (scales per tensor or token) or fp8_block."""
    columns = ("m", "n", "k")
    path = table_path(gpu, "gemm", framework, "gemm")
    return None if path is None else _read(path, columns, {"gemm_dtype": dtype})


def read_context_attention(gpu: str, framework: str) -> Rows | None:
    """Causal self-attention of ``batch`` sequences of ``tokens``, without a prefix, bf16 cache."""
    columns = ("batch_size", "isl", "num_heads", "num_key_value_heads", "head_dim", "window_size", "step")
    path = table_path(gpu, "attention", framework, "context_attention")
    rows = None if path is None else _read(path, columns, {"attn_dtype": "bfloat16"}, "kv_cache_dtype")
    if rows is None:
        return None
    rows = rows.drop("context_step", rows["step"] != 0)
    return rows.drop("sliding_window", rows["window_size"] > 0)


def read_generation_attention(gpu: str, framework: str) -> Rows | None:
    """One query token each of ``batch`` sequences over ``step`` + 1 cached tokens, bf16 cache."""
    columns = ("batch_size", "isl", "num_heads", "num_key_value_heads", "head_dim", "window_size", "step")
    path = table_path(gpu, "attention", framework, "generation_attention")
    rows = None if path is None else _read(path, columns, {"attn_dtype": "bfloat16"}, "kv_cache_dtype")
    if rows is None:
        return None
    return rows.drop("sliding_window", rows["window_size"] > 0)


def read_encoder_attention(gpu: str, framework: str) -> Rows | None:
    """Bidirectional self-attention of ``batch`` images of ``tokens``; the A100 has no table."""
    columns = ("batch_size", "isl", "num_heads", "head_dim")
    path = table_path(gpu, "encoder_attention", framework, "encoder_attention")
    return None if path is None else _read(path, columns, {"attn_dtype": "bfloat16"})


def read_all_reduce(gpu: str, framework: str) -> Rows | None:
    """All-reduce of ``message_size`` elements over ``num_gpus``, CUDA-graph variant where there are two."""
    columns = ("num_gpus", "message_size")
    path = table_path(gpu, "comm", framework, "custom_allreduce")
    return None if path is None else _read(path, columns, {})


def _read(path: Path, columns: tuple[str, ...], equal: dict[str, str], cache: str | None = None) -> Rows:
    import pyarrow.parquet as parquet

    table = parquet.read_table(path)
    have = set(table.column_names)
    mask = np.ones(table.num_rows, bool)
    for name, value in equal.items():
        if name in have:
            mask &= table[name].to_numpy(zero_copy_only=False).astype(str) == value
    data = {
        name: table[name].to_numpy(zero_copy_only=False)[mask].astype(np.int64)
        if name in have
        else np.zeros(mask.sum(), np.int64)
        for name in columns
    }
    data["seconds"] = table["latency"].to_numpy()[mask] * 1e-3
    if "kernel_source" in have:
        data["kernel"] = table["kernel_source"].to_numpy(zero_copy_only=False)[mask].astype(str)
    if cache:
        data["cache"] = table[cache].to_numpy(zero_copy_only=False)[mask].astype(str)
    rows = Rows(data, {}, "/".join(path.parts[-5:]))
    rows = rows.drop("not_positive", ~(np.isfinite(data["seconds"]) & (data["seconds"] > 0)))
    if cache:
        rows = rows.drop("fp8_cache", rows["cache"] != "bfloat16")
    return _medians(rows, columns)


def _medians(rows: Rows, columns: tuple[str, ...]) -> Rows:
    """One row a shape: the median of repeated ones."""
    keys = np.stack([rows[name] for name in columns], axis=1)
    if not len(keys):
        return rows
    _, group, count = np.unique(keys, axis=0, return_inverse=True, return_counts=True)
    if (count == 1).all():
        return rows
    order = np.lexsort((rows["seconds"], group.ravel()))
    starts = np.cumsum(count) - count
    middle = order[starts + (count - 1) // 2]
    kept = Rows({name: column[middle] for name, column in rows.columns.items()}, rows.dropped, rows.source)
    return replace(kept, dropped={**rows.dropped, "repeated": len(rows) - len(kept)})
