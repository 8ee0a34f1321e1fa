"""Bidirectional attention of an image encoder."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import reader
from machine import Array, Machine, Number, joined, kernel, machine_of, waves
from table import Table, assemble, size_class

# Keys of an attention tile; its query rows are the kernel's, so they stand with the fitted numbers.
KEY_TILE = 128.0
# Classes of head size; a size takes the class of the next larger one, the largest that of the last.
ENCODER_CLASSES = (64, 72, 80)

NUMBERS = [
    Number("memory_share", 0.8, 0.2, 1.0),
    Number("l2_speed", 1.5, 1.0, 10.0),
    Number("l2_share", 0.5, 0.05, 3.0),
    Number("tile_s", 8e-7, 1e-8, 1e-5),
    Number("tile_area_s", 1e-6, 1e-9, 1e-5),
    Number("quantised_share", 0.7, 0.01, 1.0),
    Number("throttle", 0.05, 1e-3, 2.0),
    Number("throttle_s", 2e-3, 2e-5, 2e-2),
    Number("overlap", 2.0, 1.0, 15.0),
    Number("launch_s", 8e-6, 1e-6, 4e-5, 3),
    Number("tile_efficiency", 0.5, 0.03, 1.0, 9),
]


class EncoderEfficiency(NamedTuple):
    """Fitted numbers of bidirectional attention; times and shares as in `GemmEfficiency`.

    ``query_tiles``: rows of queries that the kernel's tiles may have, not fitted. ``tile_efficiency`` holds a
    row of them for each of `ENCODER_CLASSES`, ``launch_s`` one number a class. The switch of ``throttle``
    is a square.
    """

    memory_share: float
    l2_speed: float
    l2_share: float
    tile_s: float
    tile_area_s: float
    quantised_share: float
    throttle: float
    throttle_s: float
    overlap: float
    query_tiles: Array
    launch_s: Array
    tile_efficiency: Array


@kernel
def encoder_attention_seconds(
    sequences: float,
    tokens: float,
    heads: float,
    head_size: float,
    kind: int,
    machine: Machine,
    fitted: EncoderEfficiency,
) -> float:
    """Seconds of bidirectional attention of ``sequences`` x ``tokens``, 2-byte elements; ``kind`` the head's class."""
    moved = 8.0 * sequences * tokens * heads * head_size
    flops = 4.0 * sequences * heads * tokens * tokens * head_size
    sm_flops_per_s = machine.flops_per_s / machine.sm_count
    blocks = math.ceil(tokens / KEY_TILE)
    compute_s = math.inf
    for tile in range(len(fitted.query_tiles)):
        rows = fitted.query_tiles[tile]
        tiles = sequences * heads * math.ceil(tokens / rows)
        step_s = 4.0 * rows * KEY_TILE * head_size / (sm_flops_per_s * fitted.tile_efficiency[kind, tile])
        once_s = fitted.tile_s + fitted.tile_area_s * rows / 128.0
        compute_s = min(compute_s, waves(tiles, machine.sm_count, fitted.quantised_share) * (blocks * step_s + once_s))
    hot = (compute_s / fitted.throttle_s) ** 2
    compute_s *= 1.0 + fitted.throttle * hot / (1.0 + hot)
    resident = 1.0 / (1.0 + (moved / (fitted.l2_share * machine.l2_bytes)) ** 2)
    share = (1.0 - resident) / fitted.memory_share + resident / fitted.l2_speed
    memory_s = moved / machine.bandwidth_bytes_per_s * share
    seconds = fitted.launch_s[kind] + joined(compute_s, memory_s, fitted.overlap)
    return max(seconds, flops / machine.flops_per_s, moved / machine.bandwidth_bytes_per_s)


@kernel
def encoder_many(b, n, h, d, kind, machine, fitted, out):
    for row in range(len(b)):
        out[row] = encoder_attention_seconds(b[row], n[row], h[row], d[row], kind[row], machine, fitted)


def query_tiles(gpu: str) -> Array:
    """Query rows of the attention kernels' tiles: data-centre Blackwell takes two of 128 at once."""
    return np.array([64.0, 128.0, 256.0] if gpu in ("b200_sxm", "b300_sxm", "gb200") else [64.0, 128.0, 192.0])


def build(gpu: str, values: dict[str, Any]) -> EncoderEfficiency:
    """The named tuple of the fitted values on a GPU."""
    efficiency = values["tile_efficiency"].reshape(len(ENCODER_CLASSES), 3)
    return EncoderEfficiency(**{**values, "query_tiles": query_tiles(gpu), "tile_efficiency": efficiency})


def load(gpu: str, framework: str) -> Table | None:
    """Measured rows, or None where there are none."""
    rows = reader.read_encoder_attention(gpu, framework)
    if rows is None:
        return None
    machine = machine_of(gpu)
    b, n, h, d = (rows[name].astype(float) for name in ("batch_size", "isl", "num_heads", "head_dim"))
    columns = {"b": b, "n": n, "h": h, "d": d, "kind": size_class(d, ENCODER_CLASSES)}

    def many(columns: list[Array], fitted: Any, out: Array) -> None:
        encoder_many(*columns, machine, fitted, out)

    return assemble(rows, columns, ("h", "d"), 4 * b * h * n * n * d, 8 * b * n * h * d, machine, many)
