"""Roofline of operator rows: FLOPs over peak, bytes over bandwidth, whole tiles in whole waves.

A matrix product counts whole output tiles in whole waves over the SMs, split along the inner dimension where
tiles are too few to fill one wave; the memory side counts bytes once.
"""

from __future__ import annotations

import math

from asymsim.core.arrays import Record
from asymsim.core.jit import inlined, kernel
from asymsim.core.operators.layout import (
    ALL_REDUCE,
    BY_COLUMNS,
    BY_HEADS,
    BY_INNER,
    ELEMENTWISE,
    GEMM,
    REPLICATED,
    UNFUSED_ATTENTION,
)
from asymsim.core.times.gpu_arrays import GpuArrays

# The tile of cuBLAS' and CUTLASS' common large kernels (NVIDIA, "Matrix Multiplication Background User's
# Guide", section 4: 128 x 128 and 256 x 128 tiles); a product of fewer rows takes a tile of 64.
TILE = 128.0
SMALL_TILE = 64.0
# Inner elements below which splitting the inner dimension further costs more than it gives.
SPLIT_INNER = 256.0


@kernel
def gemm_flops(m: float, n: float, k: float, groups: float, sm_count: float) -> float:
    """Multiply-add FLOPs that the device spends on ``groups`` products m x n x k, idle SMs included."""
    tile_m = SMALL_TILE if m <= SMALL_TILE else TILE
    tiles = math.ceil(m / tile_m) * math.ceil(n / TILE) * groups
    split = 1.0
    if tiles < sm_count:
        # The number of parts may be broken, as of uneven parts; whole numbers would make a longer k cheaper.
        split = max(1.0, min(math.floor(sm_count / tiles), k / SPLIT_INNER))
    waves = math.ceil(tiles * split / sm_count)
    return 2.0 * waves * sm_count * tile_m * TILE * (k / split)


@inlined
def moved_bytes(row: Record, tp_size: int) -> float:
    """Bytes that all executions of a row move on each of ``tp_size`` GPUs."""
    share = 1.0 if row["split"] == REPLICATED else 1.0 / tp_size
    read, written, weights = float(row["read_bytes"]), float(row["write_bytes"]), float(row["weight_bytes"])
    if row["split"] == BY_COLUMNS:
        written *= share
    elif row["split"] == BY_INNER:
        read *= share
    if row["split"] == BY_HEADS:
        read *= share
        written *= share
    return read + written + weights * share + kv_bytes(row, tp_size)


@inlined
def kv_bytes(row: Record, tp_size: int) -> float:
    """Cache bytes of all executions on each GPU: KV heads are divided whole, and copied where GPUs outnumber them."""
    moved = float(row["kv_read_bytes"] + row["kv_write_bytes"])
    if row["split"] == BY_HEADS:
        moved *= math.ceil(row["kv_heads"] / tp_size) / row["kv_heads"]
    return moved


@inlined
def roofline_seconds(row: Record, gpu: GpuArrays, tp_size: int, quantised: bool) -> float:
    """The hardware's bound on one execution of a row, with whole tiles and waves where ``quantised``."""
    kind, count = row["kind"], float(row["count"])
    if kind == ALL_REDUCE:
        # A ring moves 2 (p - 1) / p of the message over each link; switches that add up on the way half of it.
        passes = 2.0 if quantised else 1.0
        return passes * (tp_size - 1) / tp_size * (row["write_bytes"] / count) / gpu.link_bytes_per_s
    # Totals are divided by their count first: so a row of any number of like executions has the same quotient.
    memory_s = moved_bytes(row, tp_size) / count / gpu.bandwidth_bytes_per_s
    share = 1.0 if row["split"] == REPLICATED else 1.0 / tp_size
    if kind == ELEMENTWISE:
        return max(memory_s, row["elementwise_flops"] / count * share / gpu.vector_flops_per_s)
    peak = gpu.flops_per_s if row["weight_bytes"] > 0 else gpu.activation_flops_per_s
    if kind == GEMM and quantised:
        m, n, k = gemm_shape(row, tp_size)
        flops = gemm_flops(m, n, k, float(row["groups"]), gpu.sm_count)
    elif kind == UNFUSED_ATTENTION:
        flops = row["torch_flops"] / count * share
    else:
        flops = row["flops"] / count * share
    return max(memory_s, flops / peak)


@inlined
def gemm_shape(row: Record, tp_size: int) -> tuple[float, float, float]:
    """m, n and k of one execution on each GPU."""
    m, n, k = float(row["m"]), float(row["n"]), float(row["k"])
    if row["split"] == BY_COLUMNS:
        n = float(math.ceil(n / tp_size))
    elif row["split"] == BY_INNER:
        k = float(math.ceil(k / tp_size))
    return m, n, k
