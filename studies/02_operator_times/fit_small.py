"""Element-wise work and all-reduce: two small fits, on the static fp8 quantisation and the all-reduce tables.

    python fit_small.py            writes [efficiency.memory] and [efficiency.all_reduce]

There is no table of normalisation; ``scale_matrix``, 2 bytes read and 1 written an element, stands in.
All-reduce is fitted on all of its rows, so its errors are in sample.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow.parquet as parquet
import reader
from all_reduce import AllReduceEfficiency, all_reduce_seconds
from machine import GPUS, Array, data_sheet, machine_of
from memory_bound import MemoryEfficiency, memory_seconds
from scipy.optimize import least_squares
from store import save
from table import held_out

SOURCE = "aiconfigurator-core 0.12.0 (NVIDIA, Apache-2.0), systems/data/"
# Link shares may exceed 1: switches that add up on the way halve the bytes.
ALL_REDUCE_STARTS = ([4e-6, 2e-7, 0.7, 0.5], [4e-6, 3e-6, 0.1, 0.05], [6e-6, 1e-6, 0.4, 0.2])
ALL_REDUCE_BOUNDS = (np.log([5e-7, 1e-9, 0.005, 0.005]), np.log([5e-5, 1e-5, 1.3, 1.3]))
MEMORY_START = np.log([2e-6, 0.85, 2.0])
MEMORY_BOUNDS = (np.log([5e-7, 0.2, 1.0]), np.log([2e-5, 1.0001, 10.0]))


def fit_memory(gpu: str) -> dict[str, Any] | None:
    """Fit element-wise work; prints its held-out errors."""
    path = reader.table_path(gpu, "quantize", "vllm", "scale_matrix")
    if path is None:
        return None
    table = parquet.read_table(path)
    m, k, milliseconds = (table[name].to_numpy().astype(float) for name in ("m", "k", "latency"))
    measured, moved = milliseconds * 1e-3, 3.0 * m * k
    machine = machine_of(gpu)
    possible = measured >= moved / machine.bandwidth_bytes_per_s

    def predict(numbers: Array, index: Array) -> Array:
        return np.array([memory_seconds(size, machine, MemoryEfficiency(*numbers)) for size in moved[index]])

    train = np.flatnonzero(~held_out(k) & possible)[::2]
    found = least_squares(
        lambda point: np.log(predict(np.exp(point), train) / measured[train]),
        MEMORY_START,
        loss="soft_l1",
        f_scale=0.1,
        bounds=MEMORY_BOUNDS,
    )
    numbers, held = np.exp(found.x), np.flatnonzero(held_out(k) & possible)
    error = np.abs(predict(numbers, held) / measured[held] - 1)
    large = error[moved[held] > 2 * machine.l2_bytes]
    beyond = f"{100 * np.median(large):.1f} %" if len(large) else "no rows"
    print(
        f"memory {gpu}: {errors(error)}; beyond twice the L2 {beyond}; beats_memory {int((~possible).sum())}",
        flush=True,
    )
    return {**MemoryEfficiency(*numbers)._asdict(), "source": SOURCE + "/".join(path.parts[-5:])}


def fit_all_reduce(gpu: str) -> dict[str, Any] | None:
    """Fit all-reduces from three starts; prints the errors in sample."""
    rows = reader.read_all_reduce(gpu, "vllm")
    if rows is None:
        return None
    link_bytes_per_s = data_sheet(gpu)["link_bytes_per_s"]
    gpus, elements, measured = (rows[name].astype(float) for name in ("num_gpus", "message_size", "seconds"))

    def predict(numbers: Array) -> Array:
        fitted = AllReduceEfficiency(*numbers)
        pairs = zip(2 * elements, gpus, strict=True)
        return np.array([all_reduce_seconds(size, count, link_bytes_per_s, fitted) for size, count in pairs])

    found = [
        least_squares(
            lambda point: np.log(predict(np.exp(point)) / measured),
            np.log(start),
            loss="soft_l1",
            f_scale=0.1,
            bounds=ALL_REDUCE_BOUNDS,
        )
        for start in ALL_REDUCE_STARTS
    ]
    numbers = np.exp(min(found, key=lambda one: one.cost).x)
    print(f"all-reduce {gpu}: {errors(np.abs(predict(numbers) / measured - 1))} (in sample)", flush=True)
    return {**AllReduceEfficiency(*numbers)._asdict(), "source": SOURCE + rows.source}


def errors(error: Array) -> str:
    """Rows, median, mean and 90th percentile of relative errors."""
    return (
        f"{len(error)} rows, median {100 * np.median(error):.1f} %, mean {100 * error.mean():.1f} %,"
        f" p90 {100 * np.quantile(error, 0.9):.1f} %"
    )


if __name__ == "__main__":
    for name in GPUS:
        for section, record in (("memory", fit_memory(name)), ("all_reduce", fit_all_reduce(name))):
            if record is not None:
                save(name, section, record)
