"""Seconds of decode attention, split over the KV cache."""

from __future__ import annotations

import math

import numpy as np

from asymsim.core.arrays import Record
from asymsim.core.jit import kernel
from asymsim.core.times.device import Device, overlapped, waves

# Query heads of one KV head that a decode tile takes at once.
GROUP_TILE = 64.0
KV_SPLITS = np.array([1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0, 48.0, 64.0, 96.0, 128.0])


@kernel
def decode_attention_seconds(
    sequences: float,
    kv_tokens: float,
    heads: float,
    kv_heads: float,
    head_size: float,
    kv_bytes: float,
    size: int,
    cached: float,
    device: Device,
    fitted: Record,
) -> float:
    """Seconds of attention in one decode step over ``kv_tokens`` of ``sequences``, its KV-cache write included.

    Parameters
    ----------
    sequences, kv_tokens, heads, kv_heads, head_size : float
    kv_bytes : float
        Keys and values of all sequences.
    size : int
        Index of the head size in ``parameters.CAUSAL_SIZES``.
    cached : float
        1: keys and values may be in L2 from the run before, as in a measuring loop; 0: they come from
        device memory, as between the layers of a model.
    device : Device
    fitted : record of ``parameters.DECODE_ATTENTION_PARAMETERS``
    """
    query_bytes = 4.0 * sequences * heads * head_size
    flops = 4.0 * sequences * heads * kv_tokens * head_size
    bandwidth = device.bandwidth_bytes_per_s
    group = heads / kv_heads
    slots = device.sm_count * fitted["slots"]
    tiles = sequences * kv_heads * math.ceil(group / GROUP_TILE)
    token_s = kv_bytes / (sequences * kv_tokens * kv_heads) / fitted["sm_bytes_per_s"][size]
    merge_s = 2.0 * query_bytes / (fitted["merge_speed"] * bandwidth)
    copy_s = 0.0
    if fitted["flash2"] > 0.0:
        parts = 1.0
        if group > 1.0:
            parts = max(1.0, min(math.ceil(kv_tokens / fitted["split_tokens"]), math.floor(slots / tiles)))
            if kv_heads > 1.0 and sequences > 1.0:
                copy_s = fitted["copy_s"]
        part_s = fitted["tile_s"] + kv_tokens / parts * token_s
        compute_s = waves(tiles * parts, slots, fitted["quantised_share"]) * part_s
        if parts > 1.0:
            compute_s += fitted["merge_s"] + parts * (fitted["merge_split_s"] + merge_s)
    else:
        compute_s = math.inf
        for parts in KV_SPLITS:
            if parts > 1.0 and (kv_tokens <= parts / 2.0 * fitted["split_tokens"] or tiles * parts > 4.0 * slots):
                break
            part_s = fitted["tile_s"] + max(kv_tokens / parts, min(kv_tokens, fitted["split_tokens"])) * token_s
            seconds = waves(tiles * parts, slots, fitted["quantised_share"]) * part_s
            if parts > 1.0:
                seconds += fitted["merge_s"] + parts * (fitted["merge_split_s"] + merge_s)
            compute_s = min(compute_s, seconds)
    resident = cached / (1.0 + (kv_bytes / (fitted["l2_share"] * device.l2_bytes)) ** fitted["l2_sharpness"])
    share = (1.0 - resident) / fitted["memory_share"] + resident / fitted["l2_speed"]
    memory_s = (kv_bytes + query_bytes) / bandwidth * share
    seconds = fitted["launch_s"][size] + copy_s + overlapped(compute_s, memory_s, fitted["overlap"])
    seconds += fitted["token_s"] * sequences * (heads + 2.0 * kv_heads) * head_size / 4096.0
    return max(seconds, flops / device.flops_per_s, (kv_bytes + query_bytes) / bandwidth)
