"""Seconds of bidirectional attention, as in an image encoder."""

from __future__ import annotations

import math

from asymsim.core.arrays import Record
from asymsim.core.jit import kernel
from asymsim.core.times.device import Device, overlapped, throttled, waves
from asymsim.core.times.prefill_attention import KEY_TILE


@kernel
def encoder_attention_seconds(
    sequences: float,
    queries: float,
    keys: float,
    heads: float,
    head_size: float,
    size: int,
    device: Device,
    fitted: Record,
) -> float:
    """Seconds of attention of all ``queries`` to all ``keys`` in each of ``sequences``, with 2-byte elements.

    ``size`` is the index of the head size in ``parameters.ENCODER_SIZES``; ``fitted`` a record of
    ``parameters.ENCODER_ATTENTION_PARAMETERS``.
    """
    moved = 4.0 * sequences * (queries + keys) * heads * head_size
    flops = 4.0 * sequences * heads * queries * keys * head_size
    sm_flops_per_s = device.flops_per_s / device.sm_count
    blocks = math.ceil(keys / KEY_TILE)
    compute_s = math.inf
    for tile in range(len(fitted["query_tiles"])):
        rows = fitted["query_tiles"][tile]
        tiles = sequences * heads * math.ceil(queries / rows)
        step_s = 4.0 * rows * KEY_TILE * head_size / (sm_flops_per_s * fitted["tile_efficiency"][size, tile])
        once_s = fitted["tile_s"] + fitted["tile_area_s"] * rows / 128.0
        rounds = waves(tiles, device.sm_count, fitted["quantised_share"])
        compute_s = min(compute_s, rounds * (blocks * step_s + once_s))
    compute_s = throttled(compute_s, fitted["throttle"], fitted["throttle_s"], 2.0)
    resident = 1.0 / (1.0 + (moved / (fitted["l2_share"] * device.l2_bytes)) ** 2)
    share = (1.0 - resident) / fitted["memory_share"] + resident / fitted["l2_speed"]
    memory_s = moved / device.bandwidth_bytes_per_s * share
    seconds = fitted["launch_s"][size] + overlapped(compute_s, memory_s, fitted["overlap"])
    return max(seconds, flops / device.flops_per_s, moved / device.bandwidth_bytes_per_s)
