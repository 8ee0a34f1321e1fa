"""Measured rows of prefill, decode and encoder attention."""

from __future__ import annotations

import numpy as np

from asymsim.calibration import batch_times
from asymsim.calibration.measured_tables import table_path
from asymsim.calibration.shape_groups import MeasuredRows, assemble, device_of, hardware_bounds
from asymsim.calibration.table_rows import Rows, medians, read_table
from asymsim.catalogue.gpu import Gpu
from asymsim.core.arrays import Array
from asymsim.core.times.parameters import CAUSAL_SIZES, ENCODER_SIZES

# Keys and values lie in L2 from the run before, as far as they fit: the tables are measured in a loop.
IN_LOOP = 1.0


def _causal_rows(gpu: Gpu, framework: str, section: str) -> Rows | None:
    """Rows of a causal attention table with a 2-byte cache and no window."""
    path = table_path(gpu.name, section, framework)
    if path is None:
        return None
    shape = ("batch_size", "isl", "num_heads", "num_key_value_heads", "head_dim", "window_size", "step")
    rows = read_table(path, shape, ("kv_cache_dtype",), {"attn_dtype": "bfloat16"})
    rows = rows.drop("fp8_cache", rows["kv_cache_dtype"] != "bfloat16")
    rows = rows.drop("sliding_window", rows["window_size"] > 0)
    rows = rows.drop("head_size_512", rows["head_dim"] > CAUSAL_SIZES[-1])
    return medians(rows, shape)


def prefill_attention_rows(gpu: Gpu, framework: str) -> MeasuredRows | None:
    """Causal self-attention without a cached prefix, 2-byte cache."""
    rows = _causal_rows(gpu, framework, "prefill_attention")
    if rows is None:
        return None
    rows = rows.drop("cached_prefix", rows["step"] != 0)
    rows = rows.drop("empty", rows["isl"] <= 1)
    device = device_of(gpu)
    b, n, h, kv, d = rows.floats("batch_size", "isl", "num_heads", "num_key_value_heads", "head_dim")
    size = size_class(d, CAUSAL_SIZES)

    def many(shapes: Array, parameters: Array, out: Array) -> None:
        batch_times.prefill_attention_times(shapes, device, parameters, out)

    return assemble(
        rows,
        {"b": b, "n": n, "h": h, "kv": kv, "d": d, "size": size},
        shape_group=("h", "kv", "d"),
        runs=("h", "kv", "d", "b", "n"),
        bounds_s=hardware_bounds(device, 2 * b * h * n * (n + 1) * d, 4 * b * n * (h + kv) * d),
        many=many,
        sizes=size.astype(np.int64),
    )


def decode_attention_rows(gpu: Gpu, framework: str) -> MeasuredRows | None:
    """Decode steps of one query token a sequence over the table's ``step`` + 1 cached tokens, 2-byte cache."""
    rows = _causal_rows(gpu, framework, "decode_attention")
    if rows is None:
        return None
    device = device_of(gpu)
    b, h, kv, d, cached = rows.floats("batch_size", "num_heads", "num_key_value_heads", "head_dim", "step")
    n, size = cached + 1, size_class(d, CAUSAL_SIZES)

    def many(shapes: Array, parameters: Array, out: Array) -> None:
        batch_times.decode_attention_times(shapes, IN_LOOP, device, parameters, out)

    return assemble(
        rows,
        {"b": b, "n": n, "h": h, "kv": kv, "d": d, "size": size},
        shape_group=("h", "kv", "d"),
        runs=("h", "kv", "d", "b", "n"),
        bounds_s=hardware_bounds(device, 4 * b * h * n * d, 4 * b * n * kv * d + 4 * b * h * d),
        many=many,
        sizes=size.astype(np.int64),
    )


def encoder_attention_rows(gpu: Gpu, framework: str) -> MeasuredRows | None:
    """Bidirectional self-attention of images."""
    path = table_path(gpu.name, "encoder_attention", framework)
    if path is None:
        return None
    shape = ("batch_size", "isl", "num_heads", "head_dim")
    rows = medians(read_table(path, shape, only={"attn_dtype": "bfloat16"}), shape)
    device = device_of(gpu)
    b, n, h, d = rows.floats(*shape)
    size = size_class(d, ENCODER_SIZES)

    def many(shapes: Array, parameters: Array, out: Array) -> None:
        batch_times.encoder_attention_times(shapes, device, parameters, out)

    return assemble(
        rows,
        {"b": b, "n": n, "h": h, "d": d, "size": size},
        shape_group=("h", "d"),
        runs=("h", "d", "b", "n"),
        bounds_s=hardware_bounds(device, 4 * b * h * n * n * d, 8 * b * n * h * d),
        many=many,
        sizes=size.astype(np.int64),
    )


def size_class(head_size: Array, sizes: tuple[int, ...]) -> Array:
    """Index of the next larger head size, or of the last for larger ones, as float64."""
    return np.minimum(np.searchsorted(sizes, head_size), len(sizes) - 1).astype(np.float64)
