"""Seconds of prefill attention, its write into the KV cache included."""

from __future__ import annotations

import math

from asymsim.core.arrays import Record
from asymsim.core.jit import kernel
from asymsim.core.times.device import Device, overlapped, throttled

# Keys that an attention tile takes at once; its query rows differ by kernel and are fitted parameters.
KEY_TILE = 128.0


@kernel
def prefill_attention_seconds(
    sequences: float,
    queries: float,
    keys: float,
    met_keys: float,
    heads: float,
    kv_heads: float,
    head_size: float,
    kv_bytes: float,
    size: int,
    device: Device,
    fitted: Record,
) -> float:
    """Seconds of attention of ``queries`` rows over ``keys`` in each of ``sequences``.

    A tile of causal queries meets the keys up to its own last row: on average ``met_keys`` and half a block
    of the diagonal more. Queries of one KV head may share a tile, which pays when they are few.

    Parameters
    ----------
    sequences, queries, keys, heads, kv_heads, head_size : float
    met_keys : float
        Keys that a query attends to on average: (keys + 1) / 2 under a causal mask, keys without one. The last
        queries are taken to meet up to twice as many: all keys, but not more than two windows.
    kv_bytes : float
        Keys and values of all sequences, read once.
    size : int
        Index of the head size in ``parameters.CAUSAL_SIZES``.
    device : Device
    fitted : record of ``parameters.PREFILL_ATTENTION_PARAMETERS``
    """
    query_bytes = 4.0 * sequences * queries * heads * head_size
    flops = 4.0 * sequences * heads * queries * met_keys * head_size
    sm_flops_per_s = device.flops_per_s / device.sm_count
    group = heads / kv_heads
    blocks = keys / KEY_TILE
    compute_s = math.inf
    for tile in range(len(fitted["query_tiles"])):
        rows = fitted["query_tiles"][tile]
        step_s = 4.0 * rows * KEY_TILE * head_size / (sm_flops_per_s * fitted["tile_efficiency"][size, tile])
        once_s = fitted["tile_s"] + fitted["tile_area_s"] * rows / 128.0 * head_size / 128.0
        for packed in range(2):
            shared = group if packed else 1.0
            tiles = math.ceil(queries * shared / rows)
            units = sequences * heads / shared
            longest = float(math.ceil(min(blocks, (2.0 * met_keys - 1.0) / KEY_TILE)))
            met = longest
            if tiles > 1:
                diagonal = 0.5 * min(blocks, rows / shared / KEY_TILE) + 0.5
                met = min(longest, max(1.0, (met_keys - 0.5) / KEY_TILE + diagonal))
            mean_s = units * tiles * (met * step_s + once_s) / device.sm_count
            longest_s = longest * step_s + once_s
            seconds = overlapped(mean_s, longest_s, fitted["balance"])
            seconds += fitted["tail"] * longest_s * (1.0 - 1.0 / (1.0 + units * tiles / device.sm_count))
            compute_s = min(compute_s, seconds)
            if group <= 1.0 or fitted["packs"] == 0.0:
                break
    resident = 1.0 / (1.0 + ((query_bytes + kv_bytes) / (fitted["l2_share"] * device.l2_bytes)) ** 2)
    compute_s = throttled(compute_s, fitted["throttle"], fitted["throttle_s"], 2.0)
    traffic = fitted["query_traffic"] * query_bytes + fitted["kv_traffic"] * kv_bytes
    memory_s = traffic / (device.bandwidth_bytes_per_s * fitted["memory_share"]) * (1.0 - 0.5 * resident)
    seconds = fitted["launch_s"][size] + overlapped(compute_s, memory_s, fitted["overlap"])
    return max(seconds, flops / device.flops_per_s, (query_bytes + kv_bytes) / device.bandwidth_bytes_per_s)
