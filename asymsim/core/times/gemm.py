"""Seconds of matrix products: tiles, waves and split inner dimensions in closed form."""

from __future__ import annotations

import math

import numpy as np

from asymsim.core.arrays import Record
from asymsim.core.jit import kernel
from asymsim.core.times.device import Device, overlapped, throttled, waves
from asymsim.core.times.parameters import TILE_COLUMNS, TILE_ROWS

# Parts into which the inner dimension may be split, each at least SPLIT_INNER elements long.
SPLITS = np.array([2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 12.0, 16.0, 24.0, 32.0])
SPLIT_INNER = 128.0
# Sides of tiles are powers of two, so multiplying by these is exact, and quicker than a division.
ROW_SHARES, COLUMN_SHARES = 1.0 / TILE_ROWS, 1.0 / TILE_COLUMNS
# Side of the square of output elements, in tiles of 128 an SM, that shares operands through the L2.
REGION = 128.0


@kernel
def gemm_seconds(
    m: float,
    n: float,
    k: float,
    groups: float,
    input_bytes: float,
    weight_bytes: float,
    device: Device,
    fitted: Record,
) -> float:
    """Seconds of ``groups`` products m x n x k side by side, with a 2-byte result.

    min over tile shapes t and splits s of waves(t, s) (k / s step(t) + prologue(t)) + reduction(s), joined
    with the time of the bytes. Rises with m, n and k, each of which enters through rising terms alone; the
    minimum of rising functions rises. The weight comes from device memory, as it does between the layers of
    a model; activations come from L2 as far as they fit there.

    Parameters
    ----------
    m, n, k, groups : float
    input_bytes, weight_bytes : float
        Bytes of one element of the m x k and of the n x k operand as they are multiplied.
    device : Device
    fitted : record of ``parameters.GEMM_PARAMETERS``
    """
    bandwidth, sm_count = device.bandwidth_bytes_per_s, device.sm_count
    cold_bytes = weight_bytes * n * k * groups
    moved = (input_bytes * m * k + 2.0 * m * n) * groups
    footprint = (cold_bytes + moved) / (fitted["l2_share"] * device.l2_bytes)
    resident = 1.0 / (1.0 + footprint ** fitted["l2_sharpness"])
    region = REGION * math.sqrt(sm_count) * fitted["reread_region"]
    reread = (input_bytes + weight_bytes) * m * n * k * groups / region
    memory_s = (cold_bytes + (moved + reread) * (1.0 - resident)) / (bandwidth * fitted["memory_share"])
    memory_s += resident * moved / (bandwidth * fitted["l2_speed"])
    sm_flops_per_s = device.flops_per_s / sm_count
    compute_s = math.inf
    least_rows, most_parts = 1.0, SPLITS[-1]
    if fitted["dispatched"] > 0.0:
        least_rows, most_parts = min(m, 64.0) if m <= 128.0 else 128.0, 1.0
    efficiency = fitted["tile_efficiency"]
    load_s = 1.0 / fitted["sm_bytes_per_s"]
    for tile in range(len(TILE_ROWS)):
        rows, columns = TILE_ROWS[tile], TILE_COLUMNS[tile]
        if rows < least_rows:
            continue
        tiles = math.ceil(m * ROW_SHARES[tile]) * math.ceil(n * COLUMN_SHARES[tile]) * groups
        step_s = max(
            2.0 * rows * columns / (sm_flops_per_s * efficiency[tile]),
            (min(m, rows) * input_bytes + min(n, columns) * weight_bytes) * load_s,
        )
        once_s = fitted["tile_s"] + fitted["tile_area_s"] * rows * columns / 16384.0
        whole_s = waves(tiles, sm_count, fitted["quantised_share"]) * (k * step_s + once_s)
        compute_s = min(compute_s, whole_s)
        for parts in SPLITS:
            if parts > most_parts or k <= parts / 2.0 * SPLIT_INNER or tiles * parts > 2.0 * sm_count:
                break
            part_s = max(k / parts, min(k, SPLIT_INNER)) * step_s + once_s
            seconds = waves(tiles * parts, sm_count, fitted["quantised_share"]) * part_s
            seconds += fitted["split_s"] + 4.0 * parts * m * n * groups / (fitted["split_speed"] * bandwidth)
            compute_s = min(compute_s, seconds)
    compute_s = throttled(compute_s, fitted["throttle"], fitted["throttle_s"], fitted["throttle_sharpness"])
    seconds = fitted["launch_s"] + overlapped(compute_s, memory_s, fitted["overlap"])
    if m < 2.0:
        seconds = min(seconds, fitted["vector_s"] + memory_s)
    if input_bytes < 2.0:
        row_s = 3.0 * k / (bandwidth * fitted["quantise_share"])
        seconds += fitted["quantise_s"] + m * groups * max(fitted["quantise_row_s"], row_s)
    roofline_s = max(2.0 * m * n * k * groups / device.flops_per_s, (cold_bytes + moved) / bandwidth)
    return max(seconds, roofline_s)
