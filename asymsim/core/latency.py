"""Seconds of an operator row: a roofline with tile and wave quantisation.

The compute side of a matrix product counts whole output tiles in whole waves over the SMs, split
along the inner dimension where tiles are too few to fill one wave; the memory side counts bytes once.
"""

from __future__ import annotations

import math

from asymsim.core.jit import kernel
from asymsim.core.layout import (
    ALL_REDUCE,
    BY_COLUMNS,
    BY_HEADS,
    BY_INNER,
    ELEMENTWISE,
    GEMM,
    REPLICATED,
    UNFUSED_ATTENTION,
    GpuArrays,
    Record,
)

# The tile of cuBLAS' and CUTLASS' common large kernels (NVIDIA, "Matrix Multiplication Background User's
# Guide", section 4: 128 x 128 and 256 x 128 tiles); a product of fewer rows takes a tile of 64.
TILE = 128.0
SMALL_TILE = 64.0
# Inner elements below which splitting the inner dimension further costs more than it gives.
SPLIT_INNER = 256.0


@kernel
def gemm_flops(m: float, n: float, k: float, groups: float, sm_count: float) -> float:
    """Multiply-add FLOPs that the machine spends on ``groups`` products m x n x k, idle SMs included."""
    tile_m = SMALL_TILE if m <= SMALL_TILE else TILE
    tiles = math.ceil(m / tile_m) * math.ceil(n / TILE) * groups
    split = 1.0
    if tiles < sm_count:
        # A broken number of parts is what uneven parts come to; whole ones would make a longer k cheaper.
        split = max(1.0, min(math.floor(sm_count / tiles), k / SPLIT_INNER))
    waves = math.ceil(tiles * split / sm_count)
    return 2.0 * waves * sm_count * tile_m * TILE * (k / split)


@kernel
def row_seconds(row: Record, gpu: GpuArrays, tp_size: int) -> float:
    """Time of all executions of one operator row on each of ``tp_size`` GPUs at once."""
    kind, count = row["kind"], float(row["count"])
    if kind == ALL_REDUCE:
        # A ring moves 2 (p - 1) / p of the message over each link.
        return 2.0 * (tp_size - 1) / tp_size * row["write_bytes"] / gpu.link_bytes_per_s
    share = 1.0 if row["split"] == REPLICATED else 1.0 / tp_size
    read, written, weights = float(row["read_bytes"]), float(row["write_bytes"]), float(row["weight_bytes"])
    if row["split"] == BY_COLUMNS:
        written *= share
    elif row["split"] == BY_INNER:
        read *= share
    kv_bytes = float(row["kv_read_bytes"] + row["kv_write_bytes"])
    if row["split"] == BY_HEADS:
        read *= share
        written *= share
        # KV heads are dealt out whole, and copied where there are fewer than GPUs.
        kv_bytes *= math.ceil(row["kv_heads"] / tp_size) / row["kv_heads"]
    moved = read + written + weights * share + kv_bytes
    memory_s = moved / gpu.bandwidth_bytes_per_s
    if kind == ELEMENTWISE:
        return max(memory_s, row["elementwise_flops"] / gpu.vector_flops_per_s)
    if kind == GEMM:
        m, n, k = float(row["m"]), float(row["n"]), float(row["k"])
        if row["split"] == BY_COLUMNS:
            n = math.ceil(n / tp_size)
        elif row["split"] == BY_INNER:
            k = math.ceil(k / tp_size)
        flops = gemm_flops(m, n, k, float(row["groups"]), float(gpu.sm_count)) * count
    elif kind == UNFUSED_ATTENTION:
        flops = row["torch_flops"] * share
    else:
        flops = row["flops"] * share
    return max(memory_s, flops / gpu.flops_per_s)
