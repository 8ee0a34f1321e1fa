"""Decode attention, split over the KV cache."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import reader
from context_attention import CAUSAL_CLASSES
from machine import Array, Machine, Number, joined, kernel, machine_of, waves
from table import Table, assemble, size_class

# Query heads of one KV head that a decode tile takes at once.
GROUP_TILE = 64.0
KV_SPLITS = np.array([1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0, 48.0, 64.0, 96.0, 128.0])
# GPUs whose kernel is FlashAttention-2.
FLASH2 = ("a100_80gb_sxm", "l40s", "rtx_pro_6000")

NUMBERS = [
    Number("memory_share", 0.9, 0.3, 1.0),
    Number("l2_speed", 2.0, 1.0, 10.0),
    Number("l2_share", 0.7, 0.05, 3.0),
    Number("l2_sharpness", 8.0, 1.0, 20.0),
    Number("tile_s", 2e-6, 1e-8, 2e-5),
    Number("quantised_share", 0.6, 0.01, 1.0),
    Number("slots", 1.1, 0.5, 8.0),
    Number("split_tokens", 64.0, 16.0, 1024.0),
    Number("merge_s", 5e-7, 1e-8, 2e-5),
    Number("merge_split_s", 2e-7, 1e-9, 3e-6),
    Number("merge_speed", 1.0, 0.05, 20.0),
    Number("token_s", 1.5e-8, 1e-9, 2e-6),
    Number("copy_s", 2e-6, 1e-8, 2e-5),
    Number("overlap", 2.5, 1.0, 15.0),
    Number("launch_s", 8e-6, 5e-7, 4e-5, 4),
    Number("sm_bytes_per_s", 60e9, 2e9, 600e9, 4),
]


class GenerationEfficiency(NamedTuple):
    """Fitted numbers of decode attention, its write into the KV cache included.

    ``flash2`` (0 or 1): FlashAttention-2, which splits the cache whenever it is longer than
    ``split_tokens`` and the tiles leave SMs idle, never splits without grouped queries, and copies the
    queries of several KV heads and sequences (``copy_s``). Other kernels take the best split.
    ``slots``: tiles that an SM holds at once. ``token_s``: seconds a sequence for each 4096 query and KV
    elements (rotate, write). ``merge_s``, ``merge_split_s``, ``merge_speed``: after a split, in all, per
    part, and for the partials. ``sm_bytes_per_s`` and ``launch_s`` by `CAUSAL_CLASSES`.
    """

    flash2: float
    memory_share: float
    l2_speed: float
    l2_share: float
    l2_sharpness: float
    tile_s: float
    quantised_share: float
    slots: float
    split_tokens: float
    merge_s: float
    merge_split_s: float
    merge_speed: float
    token_s: float
    copy_s: float
    overlap: float
    launch_s: Array
    sm_bytes_per_s: Array


@kernel
def generation_attention_seconds(
    sequences: float,
    kv_tokens: float,
    heads: float,
    kv_heads: float,
    head_size: float,
    kind: int,
    cached: float,
    machine: Machine,
    fitted: GenerationEfficiency,
) -> float:
    """Seconds of one decode step of attention over ``kv_tokens`` of ``sequences``, and of its KV-cache write.

    ``cached`` 1: keys and values may lie in L2 from the run before, as in a measuring loop; 0: they come
    from device memory, as between the layers of a model.
    """
    kv_bytes = 4.0 * sequences * kv_tokens * kv_heads * head_size
    query_bytes = 4.0 * sequences * heads * head_size
    flops = 4.0 * sequences * heads * kv_tokens * head_size
    bandwidth = machine.bandwidth_bytes_per_s
    group = heads / kv_heads
    slots = machine.sm_count * fitted.slots
    tiles = sequences * kv_heads * math.ceil(group / GROUP_TILE)
    token_s = 4.0 * head_size / fitted.sm_bytes_per_s[kind]
    merge_s = 2.0 * query_bytes / (fitted.merge_speed * bandwidth)
    copy_s = 0.0
    if fitted.flash2 > 0.0:
        parts = 1.0
        if group > 1.0:
            parts = max(1.0, min(math.ceil(kv_tokens / fitted.split_tokens), math.floor(slots / tiles)))
            if kv_heads > 1.0 and sequences > 1.0:
                copy_s = fitted.copy_s
        compute_s = waves(tiles * parts, slots, fitted.quantised_share) * (fitted.tile_s + kv_tokens / parts * token_s)
        if parts > 1.0:
            compute_s += fitted.merge_s + parts * (fitted.merge_split_s + merge_s)
    else:
        compute_s = math.inf
        for parts in KV_SPLITS:
            if parts > 1.0 and (kv_tokens <= parts / 2.0 * fitted.split_tokens or tiles * parts > 4.0 * slots):
                break
            part_s = fitted.tile_s + max(kv_tokens / parts, min(kv_tokens, fitted.split_tokens)) * token_s
            seconds = waves(tiles * parts, slots, fitted.quantised_share) * part_s
            if parts > 1.0:
                seconds += fitted.merge_s + parts * (fitted.merge_split_s + merge_s)
            compute_s = min(compute_s, seconds)
    resident = cached / (1.0 + (kv_bytes / (fitted.l2_share * machine.l2_bytes)) ** fitted.l2_sharpness)
    share = (1.0 - resident) / fitted.memory_share + resident / fitted.l2_speed
    memory_s = (kv_bytes + query_bytes) / bandwidth * share
    seconds = fitted.launch_s[kind] + copy_s + joined(compute_s, memory_s, fitted.overlap)
    seconds += fitted.token_s * sequences * (heads + 2.0 * kv_heads) * head_size / 4096.0
    return max(seconds, flops / machine.flops_per_s, (kv_bytes + query_bytes) / bandwidth)


@kernel
def generation_many(b, n, h, kv, d, kind, cached, machine, fitted, out):
    for row in range(len(b)):
        out[row] = generation_attention_seconds(
            b[row], n[row], h[row], kv[row], d[row], kind[row], cached, machine, fitted
        )


def build(gpu: str, values: dict[str, Any]) -> GenerationEfficiency:
    """The named tuple of the fitted values on a GPU."""
    return GenerationEfficiency(**{**values, "flash2": float(gpu in FLASH2)})


def load(gpu: str, framework: str) -> Table | None:
    """Measured rows, or None where there are none; their loop leaves the cache in L2 (``cached`` 1)."""
    rows = reader.read_generation_attention(gpu, framework)
    if rows is None:
        return None
    machine = machine_of(gpu)
    rows = rows.drop("head_size_512", rows["head_dim"] > 256)
    names = ("batch_size", "num_heads", "num_key_value_heads", "head_dim")
    b, h, kv, d = (rows[name].astype(float) for name in names)
    n = rows["step"].astype(float) + 1
    columns = {"b": b, "n": n, "h": h, "kv": kv, "d": d, "kind": size_class(d, CAUSAL_CLASSES)}

    def many(columns: list[Array], fitted: Any, out: Array) -> None:
        generation_many(*columns, 1.0, machine, fitted, out)

    flops, moved_bytes = 4 * b * h * n * d, 4 * b * n * kv * d + 4 * b * h * d
    return assemble(rows, columns, ("h", "kv", "d"), flops, moved_bytes, machine, many)
