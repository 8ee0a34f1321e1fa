"""Causal prefill attention, its write into the KV cache included."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import reader
from encoder_attention import KEY_TILE, query_tiles
from machine import Array, Machine, Number, joined, kernel, machine_of
from table import Table, assemble, size_class

# Classes of head size; a size takes the class of the next larger one, the largest that of the last.
CAUSAL_CLASSES = (64, 128, 192, 256)
# GPUs whose kernel is FlashAttention-3.
PACKS = ("h100_sxm", "h200_sxm")

NUMBERS = [
    Number("memory_share", 0.7, 0.1, 1.0),
    Number("query_traffic", 0.8, 0.05, 8.0),
    Number("kv_traffic", 2.0, 0.05, 8.0),
    Number("l2_share", 0.5, 0.05, 3.0),
    Number("tile_s", 1.5e-6, 1e-8, 1e-5),
    Number("tile_area_s", 5e-7, 1e-9, 1e-5),
    Number("tail", 0.2, 0.01, 1.5),
    Number("balance", 4.0, 1.0, 20.0),
    Number("throttle", 0.1, 1e-3, 2.0),
    Number("throttle_s", 2e-3, 2e-5, 2e-2),
    Number("overlap", 1.5, 1.0, 15.0),
    Number("launch_s", 9e-6, 5e-7, 4e-5, 4),
    Number("tile_efficiency", 0.5, 0.03, 1.0, 12),
]


class ContextEfficiency(NamedTuple):
    """Fitted numbers of causal prefill attention, its write into the KV cache included.

    ``query_traffic``, ``kv_traffic``: passes over queries and outputs, keys and values (the cache is written
    by a kernel of its own). ``tail``: share of the longest tile that ends alone; ``balance``: exponent that
    joins the mean load of an SM and the longest tile. ``packs`` (0 or 1, not fitted): the queries of one KV
    head share tiles (FlashAttention-3). ``throttle``, ``throttle_s`` as in `GemmEfficiency`, its switch a
    square. Arrays by `CAUSAL_CLASSES`.
    """

    packs: float

    memory_share: float
    query_traffic: float
    kv_traffic: float
    l2_share: float
    tile_s: float
    tile_area_s: float
    tail: float
    balance: float
    throttle: float
    throttle_s: float
    overlap: float
    query_tiles: Array
    launch_s: Array
    tile_efficiency: Array


@kernel
def context_attention_seconds(
    sequences: float,
    tokens: float,
    heads: float,
    kv_heads: float,
    head_size: float,
    kind: int,
    machine: Machine,
    fitted: ContextEfficiency,
) -> float:
    """Seconds of causal self-attention of ``sequences`` x ``tokens`` and of its KV-cache write.

    Tile i of the queries meets the keys up to its own last row, half of all pairs and half a block more;
    queries of one KV head may share a tile (``packed``), which pays when they are few.
    """
    query_bytes = 4.0 * sequences * tokens * heads * head_size
    kv_bytes = 4.0 * sequences * tokens * kv_heads * head_size
    flops = 2.0 * sequences * heads * tokens * (tokens + 1.0) * head_size
    sm_flops_per_s = machine.flops_per_s / machine.sm_count
    group = heads / kv_heads
    blocks = tokens / KEY_TILE
    compute_s = math.inf
    for tile in range(len(fitted.query_tiles)):
        rows = fitted.query_tiles[tile]
        step_s = 4.0 * rows * KEY_TILE * head_size / (sm_flops_per_s * fitted.tile_efficiency[kind, tile])
        once_s = fitted.tile_s + fitted.tile_area_s * rows / 128.0 * head_size / 128.0
        for packed in range(2):
            shared = group if packed else 1.0
            tiles = math.ceil(tokens * shared / rows)
            units = sequences * heads / shared
            met = float(math.ceil(blocks))
            if tiles > 1:
                met = max(1.0, 0.5 * (blocks + min(blocks, rows / shared / KEY_TILE)) + 0.5)
            mean_s = units * tiles * (met * step_s + once_s) / machine.sm_count
            longest_s = math.ceil(blocks) * step_s + once_s
            seconds = joined(mean_s, longest_s, fitted.balance)
            seconds += fitted.tail * longest_s * (1.0 - 1.0 / (1.0 + units * tiles / machine.sm_count))
            compute_s = min(compute_s, seconds)
            if group <= 1.0 or fitted.packs == 0.0:
                break
    resident = 1.0 / (1.0 + ((query_bytes + kv_bytes) / (fitted.l2_share * machine.l2_bytes)) ** 2)
    hot = (compute_s / fitted.throttle_s) ** 2
    compute_s *= 1.0 + fitted.throttle * hot / (1.0 + hot)
    traffic = fitted.query_traffic * query_bytes + fitted.kv_traffic * kv_bytes
    memory_s = traffic / (machine.bandwidth_bytes_per_s * fitted.memory_share) * (1.0 - 0.5 * resident)
    seconds = fitted.launch_s[kind] + joined(compute_s, memory_s, fitted.overlap)
    return max(seconds, flops / machine.flops_per_s, (query_bytes + kv_bytes) / machine.bandwidth_bytes_per_s)


@kernel
def context_many(b, n, h, kv, d, kind, machine, fitted, out):
    for row in range(len(b)):
        out[row] = context_attention_seconds(b[row], n[row], h[row], kv[row], d[row], kind[row], machine, fitted)


def build(gpu: str, values: dict[str, Any]) -> ContextEfficiency:
    """The named tuple of the fitted values on a GPU."""
    efficiency = values["tile_efficiency"].reshape(len(CAUSAL_CLASSES), 3)
    fixed = {"packs": float(gpu in PACKS), "query_tiles": query_tiles(gpu), "tile_efficiency": efficiency}
    return ContextEfficiency(**{**values, **fixed})


def load(gpu: str, framework: str) -> Table | None:
    """Measured rows, or None where there are none."""
    rows = reader.read_context_attention(gpu, framework)
    if rows is None:
        return None
    machine = machine_of(gpu)
    rows = rows.drop("head_size_512", rows["head_dim"] > 256)
    rows = rows.drop("empty", rows["isl"] <= 1)
    names = ("batch_size", "isl", "num_heads", "num_key_value_heads", "head_dim")
    b, n, h, kv, d = (rows[name].astype(float) for name in names)
    columns = {"b": b, "n": n, "h": h, "kv": kv, "d": d, "kind": size_class(d, CAUSAL_CLASSES)}

    def many(columns: list[Array], fitted: Any, out: Array) -> None:
        context_many(*columns, machine, fitted, out)

    flops, moved_bytes = 2 * b * h * n * (n + 1) * d, 4 * b * n * (h + kv) * d
    return assemble(rows, columns, ("h", "kv", "d"), flops, moved_bytes, machine, many)
