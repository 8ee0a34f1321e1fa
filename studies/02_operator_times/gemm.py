"""Matrix products: tiles, waves and split inner dimensions in closed form."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import reader
from machine import Array, Machine, Number, joined, kernel, machine_of, waves
from table import Table, assemble

# Output tiles of the library's kernels: rows (tokens) x columns (features). Each has its own efficiency.
TILE_ROWS = np.array([16.0, 32.0, 64.0, 128.0, 256.0, 64.0, 128.0, 256.0, 64.0, 128.0, 64.0])
TILE_COLUMNS = np.array([64.0, 64.0, 64.0, 64.0, 64.0, 128.0, 128.0, 128.0, 256.0, 256.0, 32.0])
# Parts into which the inner dimension may be split, each at least SPLIT_INNER elements long.
SPLITS = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 12.0, 16.0, 24.0, 32.0])
SPLIT_INNER = 128.0
# Side of the square of output elements, in tiles of 128 an SM, that shares operands through the L2.
REGION = 128.0

NUMBERS = [
    Number("launch_s", 2.2e-6, 3e-7, 1e-5),
    Number("memory_share", 0.87, 0.4, 1.0),
    Number("l2_speed", 1.5, 1.0, 20.0),
    Number("l2_share", 0.6, 0.02, 3.0),
    Number("l2_sharpness", 3.0, 0.5, 8.0),
    Number("tile_s", 2e-7, 1e-8, 1e-5),
    Number("tile_area_s", 8e-7, 1e-9, 1e-5),
    Number("quantised_share", 0.2, 1e-3, 1.0),
    Number("sm_bytes_per_s", 150e9, 5e9, 1000e9),
    Number("split_s", 2.5e-6, 1e-8, 2e-5),
    Number("split_speed", 1.0, 0.1, 50.0),
    Number("overlap", 2.5, 1.0, 20.0),
    Number("throttle", 0.1, 1e-3, 2.0),
    Number("throttle_s", 6e-4, 2e-5, 5e-3),
    Number("throttle_sharpness", 2.0, 0.5, 6.0),
    Number("reread_region", 5.0, 0.1, 50.0),
    Number("vector_s", 3e-6, 3e-7, 1e-5),
    Number("quantise_s", 1e-6, 1e-8, 1e-5),
    Number("quantise_row_s", 3e-9, 1e-11, 5e-8),
    Number("quantise_share", 0.4, 0.02, 1.0),
    Number("tile_efficiency", 0.6, 0.02, 1.0, len(TILE_ROWS)),
]
QUANTISED_ONLY = ("quantise_s", "quantise_row_s", "quantise_share")
SPLIT_ONLY = ("split_s", "split_speed", "vector_s")
TILE_START = np.array([0.12, 0.22, 0.5, 0.75, 0.8, 0.65, 0.8, 0.7, 0.8, 0.85, 0.3])


class GemmEfficiency(NamedTuple):
    """Fitted numbers of matrix products, one set a GPU and number format.

    Attributes
    ----------
    launch_s : seconds before and after the work: launch, first loads, last stores.
    memory_share : share of the data sheet's bandwidth that streaming operands reach.
    l2_speed : bandwidth of activations that lie in L2, in data-sheet bandwidths of device memory.
    l2_share : footprint, in L2 sizes, at which half of the activations lie in L2.
    l2_sharpness : exponent of that switch.
    tile_s : seconds of prologue and epilogue of any tile.
    tile_area_s : the same for each 128 x 128 elements of a tile.
    quantised_share : 0, waves count as broken numbers (persistent kernels); 1, as whole ones.
    sm_bytes_per_s : rate at which one SM loads operands.
    split_s : seconds of the reduction after a split inner dimension.
    split_speed : its fp32 partials' bandwidth, in data-sheet bandwidths.
    overlap : exponent p of (compute^p + memory^p)^(1/p): 1 no overlap, large complete overlap.
    throttle : slow-down of long kernels, 0.1 for 10 %, by the power limit.
    throttle_s, throttle_sharpness : compute time at which half of it has set in; exponent of the switch.
    reread_region : side of the output region that shares operands through L2, in `REGION` sqrt(SMs).
    tile_efficiency : share of the peak in the main loop of each tile shape.
    dispatched : 0, the library takes the best tile and split (cuBLAS); 1, it has kernels by the number of rows
        alone and never splits (the CUTLASS kernels for one-byte operands).
    vector_s : seconds before and after the work of a matrix-vector kernel, which one row may take instead.
    quantise_s, quantise_row_s, quantise_share : one-byte operands only: seconds of the kernel that quantises
        the 2-byte activations first, the least seconds a row, and its share of the bandwidth.
    """

    launch_s: float
    memory_share: float
    l2_speed: float
    l2_share: float
    l2_sharpness: float
    tile_s: float
    tile_area_s: float
    quantised_share: float
    sm_bytes_per_s: float
    split_s: float
    split_speed: float
    overlap: float
    throttle: float
    throttle_s: float
    throttle_sharpness: float
    reread_region: float
    dispatched: float
    vector_s: float
    quantise_s: float
    quantise_row_s: float
    quantise_share: float
    tile_efficiency: Array


@kernel
def gemm_seconds(m: float, n: float, k: float, operand_bytes: float, machine: Machine, fitted: GemmEfficiency) -> float:
    """Seconds of an m x n x k product, operands of ``operand_bytes`` an element and a 2-byte result.

    min over tile shapes t and splits s of waves(t, s) (k / s step(t) + prologue(t)) + reduction(s), joined
    with the time of the bytes. Rises with m, n and k, each of which enters through rising terms alone; the
    minimum of rising functions rises. The weight comes from device memory, as it does between the layers of
    a model; activations come from L2 as far as they fit there.
    """
    bandwidth, sm_count = machine.bandwidth_bytes_per_s, machine.sm_count
    weight_bytes = operand_bytes * n * k
    moved = operand_bytes * m * k + 2.0 * m * n
    resident = 1.0 / (1.0 + ((weight_bytes + moved) / (fitted.l2_share * machine.l2_bytes)) ** fitted.l2_sharpness)
    region = REGION * math.sqrt(sm_count) * fitted.reread_region
    reread = 2.0 * operand_bytes * m * n * k / region
    memory_s = (weight_bytes + (moved + reread) * (1.0 - resident)) / (bandwidth * fitted.memory_share)
    memory_s += resident * moved / (bandwidth * fitted.l2_speed)
    sm_flops_per_s = machine.flops_per_s / sm_count
    compute_s = math.inf
    least_rows, most_parts = 1.0, SPLITS[-1]
    if fitted.dispatched > 0.0:
        least_rows, most_parts = min(m, 64.0) if m <= 128.0 else 128.0, 1.0
    for tile in range(len(TILE_ROWS)):
        rows, columns = TILE_ROWS[tile], TILE_COLUMNS[tile]
        if rows < least_rows:
            continue
        tiles = math.ceil(m / rows) * math.ceil(n / columns)
        step_s = max(
            2.0 * rows * columns / (sm_flops_per_s * fitted.tile_efficiency[tile]),
            (min(m, rows) + min(n, columns)) * operand_bytes / fitted.sm_bytes_per_s,
        )
        once_s = fitted.tile_s + fitted.tile_area_s * rows * columns / 16384.0
        for parts in SPLITS:
            if parts > 1.0 and (parts > most_parts or k <= parts / 2.0 * SPLIT_INNER or tiles * parts > 2.0 * sm_count):
                break
            part_s = max(k / parts, min(k, SPLIT_INNER)) * step_s + once_s
            seconds = waves(tiles * parts, sm_count, fitted.quantised_share) * part_s
            if parts > 1.0:
                seconds += fitted.split_s + 4.0 * parts * m * n / (fitted.split_speed * bandwidth)
            compute_s = min(compute_s, seconds)
    hot = (compute_s / fitted.throttle_s) ** fitted.throttle_sharpness
    compute_s *= 1.0 + fitted.throttle * hot / (1.0 + hot)
    seconds = fitted.launch_s + joined(compute_s, memory_s, fitted.overlap)
    if m < 2.0:
        seconds = min(seconds, fitted.vector_s + memory_s)
    if operand_bytes < 2.0:
        seconds += fitted.quantise_s + m * max(fitted.quantise_row_s, 3.0 * k / (bandwidth * fitted.quantise_share))
    return max(seconds, 2.0 * m * n * k / machine.flops_per_s, (weight_bytes + moved) / bandwidth)


@kernel
def gemm_table(count: int, n: float, k: float, operand_bytes: float, machine: Machine, fitted: GemmEfficiency) -> Array:
    """Seconds of m x n x k for m = 0 ... ``count`` - 1 by `gemm_seconds` itself: the table equals it to the bit."""
    table = np.zeros(count)
    for m in range(1, count):
        table[m] = gemm_seconds(float(m), n, k, operand_bytes, machine, fitted)
    return table


@kernel
def gemm_many(m, n, k, operand_bytes, machine, fitted, out):
    for row in range(len(m)):
        out[row] = gemm_seconds(m[row], n[row], k[row], operand_bytes, machine, fitted)


def numbers_of(kind: str) -> list[Number]:
    """The numbers of a format; ``kind`` gemm_bf16 or gemm_fp8."""
    absent = QUANTISED_ONLY if kind == "gemm_bf16" else SPLIT_ONLY
    return [number for number in NUMBERS if number.name not in absent]


def build(kind: str, values: dict[str, Any]) -> GemmEfficiency:
    """The named tuple, with what a format lacks: cuBLAS takes bf16 as it is, CUTLASS' fp8 kernels never split."""
    absent = {
        "dispatched": float(kind == "gemm_fp8"),
        "quantise_s": 0.0,
        "quantise_row_s": 0.0,
        "quantise_share": 1.0,
        "split_s": 0.0,
        "split_speed": 1.0,
        "vector_s": np.inf,
    }
    return GemmEfficiency(**{**absent, **values})


def load(gpu: str, kind: str, framework: str) -> Table | None:
    """Measured products of a format, or None where there are none."""
    dtype, peak, operand_bytes = ("bfloat16", "bf16", 2.0) if kind == "gemm_bf16" else ("fp8", "fp8", 1.0)
    rows = reader.read_gemm(gpu, framework, dtype)
    if rows is None or len(rows) == 0:
        return None
    machine = machine_of(gpu, peak)
    m, n, k = (rows[name].astype(float) for name in ("m", "n", "k"))
    moved_bytes = operand_bytes * (m * k + n * k) + 2 * m * n

    def many(columns: list[Array], fitted: Any, out: Array) -> None:
        gemm_many(*columns, operand_bytes, machine, fitted, out)

    return assemble(rows, {"m": m, "n": n, "k": k}, ("n", "k"), 2 * m * n * k, moved_bytes, machine, many)
