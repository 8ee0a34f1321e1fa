"""A first look at mixtures of experts: six numbers and a tile on vLLM's bf16 fused-MoE tables.

python mixture_of_experts.py       prints errors and numbers, stores nothing
"""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as parquet
import reader
from machine import GPUS, Array, machine_of
from scipy.optimize import least_squares
from table import held_out

START = np.log([2.5e-5, 0.8, 0.5, 3.0, 1.2, 1e-8])
BOUNDS = (np.log([1e-6, 0.2, 0.05, 1.0, 0.5, 1e-10]), np.log([1e-4, 1.001, 1.0, 10.0, 3.0, 1e-6]))


def look(gpu: str) -> None:
    """Fit launch, share of bandwidth and peak, overlap, skew and time an expert; judge on held-out shapes."""
    path = reader.table_path(gpu, "moe", "vllm", "moe")
    if path is None:
        print(f"{gpu}: no table")
        return
    table = parquet.read_table(path)
    columns = {name: table[name].to_numpy(zero_copy_only=False) for name in table.column_names}
    keep = (columns["moe_dtype"].astype(str) == "bfloat16") & (columns["moe_ep_size"] == 1)
    if not keep.any():
        print(f"{gpu}: no bf16 rows")
        return
    tokens, hidden, inter, top_k, experts, split = (
        columns[name][keep].astype(float)
        for name in ("num_tokens", "hidden_size", "inter_size", "topk", "num_experts", "moe_tp_size")
    )
    measured, inter = columns["latency"][keep] * 1e-3, inter / split
    balanced = columns["distribution"][keep].astype(str) == "balanced"
    machine = machine_of(gpu)
    touched = np.where(balanced, np.minimum(experts, tokens * top_k), experts * (1 - (1 - top_k / experts) ** tokens))
    touched = np.clip(touched, 1, experts)
    weight_bytes = 6 * touched * hidden * inter
    moved = weight_bytes + 2 * tokens * top_k * (2 * hidden + 4 * inter)

    def predict(numbers: Array, tile: float, index: Array) -> Array:
        launch_s, memory_share, peak_share, overlap, skew, expert_s = numbers
        rows = touched * np.ceil(tokens * top_k / touched / tile) * tile
        flops = np.where(balanced, 1.0, skew) * 6 * rows * hidden * inter
        compute_s = flops[index] / (machine.flops_per_s * peak_share)
        memory_s = moved[index] / (machine.bandwidth_bytes_per_s * memory_share)
        return launch_s + expert_s * experts[index] + (compute_s**overlap + memory_s**overlap) ** (1 / overlap)

    held = held_out(hidden, inter, experts)
    train, test = np.flatnonzero(~held), np.flatnonzero(held)

    def fit(tile: float) -> tuple[float, float, Array]:
        found = least_squares(
            lambda point: np.log(predict(np.exp(point), tile, train) / measured[train]),
            START,
            loss="soft_l1",
            f_scale=0.1,
            bounds=BOUNDS,
        )
        return found.cost, tile, np.exp(found.x)

    _, tile, numbers = min((fit(tile) for tile in (16.0, 32.0, 64.0, 128.0)), key=lambda one: one[0])
    error = np.abs(predict(numbers, tile, test) / measured[test] - 1)
    compute_s = 6 * tokens * top_k * hidden * inter / machine.flops_per_s
    roofline = np.maximum(compute_s, weight_bytes / machine.bandwidth_bytes_per_s)
    plain = np.abs(roofline[test] / measured[test] - 1)
    launch_s, memory_share, peak_share, overlap, skew, expert_s = numbers
    print(
        f"{gpu}: {len(test)} of {len(measured)} rows held out, median {100 * np.median(error):.1f} %,"
        f" mean {100 * error.mean():.1f} %, p90 {100 * np.quantile(error, 0.9):.1f} %;"
        f" roofline median {100 * np.median(plain):.0f} %; tile {tile:.0f}, launch {1e6 * launch_s:.1f} us,"
        f" memory {memory_share:.2f}, peak {peak_share:.2f}, overlap {overlap:.1f}, skew {skew:.2f},"
        f" {1e9 * expert_s:.1f} ns an expert",
        flush=True,
    )


if __name__ == "__main__":
    for name in GPUS:
        look(name)
