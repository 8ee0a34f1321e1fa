"""Measured rows of each section of a GPU's fitted numbers, from its table in the package."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from asymsim.calibration import bulk, reader
from asymsim.calibration.experts import experts_table
from asymsim.calibration.table import Table, assemble
from asymsim.catalogue.gpu import Gpu
from asymsim.core.efficiency import CAUSAL_SIZES, ENCODER_SIZES
from asymsim.core.layout import Array
from asymsim.core.machine import Machine
from asymsim.errors import UnknownNameError

# The measuring loop leaves keys and values in L2, as far as they fit.
IN_LOOP = 1.0


def load(device: Gpu, section: str, framework: str = "vllm") -> Table | None:
    """Rows of a section, traps dropped by name; None where the GPU or the framework has no table of it.

    Raises
    ------
    InputError
        If the GPU was not measured at all, or a table cannot be read.
    MissingExtraError
        If the tables are not installed.
    UnknownNameError
        If there is no such section or framework.
    """
    if section not in LOADERS:
        raise UnknownNameError("section", section, LOADERS)
    if framework not in reader.FRAMEWORKS:
        raise UnknownNameError("framework", framework, reader.FRAMEWORKS)
    table = LOADERS[section](device, framework)
    return table if table is not None and len(table.seconds) else None


def machine_of(device: Gpu, peak: str = "bf16") -> Machine:
    """The numbers of the data sheet that the kernels take."""
    return Machine(
        device.peak_flops_per_s[peak], device.bandwidth_bytes_per_s, float(device.l2_bytes), float(device.sm_count)
    )


def _gemm(device: Gpu, framework: str, name: str, peak: str, operand_bytes: float) -> Table | None:
    path = reader.table_path(device.name, "gemm", framework, "gemm")
    if path is None or peak not in device.peak_flops_per_s:
        return None
    rows = reader.read(path, ("m", "n", "k"), only={"gemm_dtype": name})
    rows = reader.medians(rows, ("m", "n", "k"))
    m, n, k = rows.floats("m", "n", "k")
    machine = machine_of(device, peak)

    def many(shapes: Array, numbers: Array, out: Array) -> None:
        bulk.gemm_many(shapes, operand_bytes, machine, numbers, out)

    return assemble(
        rows,
        {"m": m, "n": n, "k": k},
        site=("n", "k"),
        runs=("n", "k", "m"),
        bounds_s=_bounds(machine, 2 * m * n * k, operand_bytes * (m * k + n * k) + 2 * m * n),
        many=many,
    )


def _bounds(machine: Machine, flops: Array, moved_bytes: Array) -> dict[str, Array]:
    return {"beats_peak": flops / machine.flops_per_s, "beats_memory": moved_bytes / machine.bandwidth_bytes_per_s}


def _gemm_bf16(device: Gpu, framework: str) -> Table | None:
    return _gemm(device, framework, "bfloat16", "bf16", 2.0)


def _gemm_fp8(device: Gpu, framework: str) -> Table | None:
    return _gemm(device, framework, "fp8", "fp8", 1.0)


def _causal(device: Gpu, framework: str, name: str) -> reader.Rows | None:
    """Rows of a causal attention table with a 2-byte cache and no window."""
    path = reader.table_path(device.name, "attention", framework, name)
    if path is None:
        return None
    shape = ("batch_size", "isl", "num_heads", "num_key_value_heads", "head_dim", "window_size", "step")
    rows = reader.read(path, shape, ("kv_cache_dtype",), {"attn_dtype": "bfloat16"})
    rows = rows.drop("fp8_cache", rows["kv_cache_dtype"] != "bfloat16")
    rows = rows.drop("sliding_window", rows["window_size"] > 0)
    rows = rows.drop("head_size_512", rows["head_dim"] > CAUSAL_SIZES[-1])
    return reader.medians(rows, shape)


def _context(device: Gpu, framework: str) -> Table | None:
    rows = _causal(device, framework, "context_attention")
    if rows is None:
        return None
    rows = rows.drop("context_step", rows["step"] != 0)
    rows = rows.drop("empty", rows["isl"] <= 1)
    machine = machine_of(device)
    b, n, h, kv, d = rows.floats("batch_size", "isl", "num_heads", "num_key_value_heads", "head_dim")
    size = size_class(d, CAUSAL_SIZES)

    def many(shapes: Array, numbers: Array, out: Array) -> None:
        bulk.context_many(shapes, machine, numbers, out)

    return assemble(
        rows,
        {"b": b, "n": n, "h": h, "kv": kv, "d": d, "size": size},
        site=("h", "kv", "d"),
        runs=("h", "kv", "d", "b", "n"),
        bounds_s=_bounds(machine, 2 * b * h * n * (n + 1) * d, 4 * b * n * (h + kv) * d),
        many=many,
        sizes=size.astype(np.int64),
    )


def _generation(device: Gpu, framework: str) -> Table | None:
    rows = _causal(device, framework, "generation_attention")
    if rows is None:
        return None
    machine = machine_of(device)
    b, h, kv, d, step = rows.floats("batch_size", "num_heads", "num_key_value_heads", "head_dim", "step")
    n, size = step + 1, size_class(d, CAUSAL_SIZES)

    def many(shapes: Array, numbers: Array, out: Array) -> None:
        bulk.generation_many(shapes, IN_LOOP, machine, numbers, out)

    return assemble(
        rows,
        {"b": b, "n": n, "h": h, "kv": kv, "d": d, "size": size},
        site=("h", "kv", "d"),
        runs=("h", "kv", "d", "b", "n"),
        bounds_s=_bounds(machine, 4 * b * h * n * d, 4 * b * n * kv * d + 4 * b * h * d),
        many=many,
        sizes=size.astype(np.int64),
    )


def _encoder(device: Gpu, framework: str) -> Table | None:
    path = reader.table_path(device.name, "encoder_attention", framework, "encoder_attention")
    if path is None:
        return None
    shape = ("batch_size", "isl", "num_heads", "head_dim")
    rows = reader.medians(reader.read(path, shape, only={"attn_dtype": "bfloat16"}), shape)
    machine = machine_of(device)
    b, n, h, d = rows.floats(*shape)
    size = size_class(d, ENCODER_SIZES)

    def many(shapes: Array, numbers: Array, out: Array) -> None:
        bulk.encoder_many(shapes, machine, numbers, out)

    return assemble(
        rows,
        {"b": b, "n": n, "h": h, "d": d, "size": size},
        site=("h", "d"),
        runs=("h", "d", "b", "n"),
        bounds_s=_bounds(machine, 4 * b * h * n * n * d, 8 * b * n * h * d),
        many=many,
        sizes=size.astype(np.int64),
    )


def _memory(device: Gpu, framework: str) -> Table | None:
    """Static fp8 quantisation, 2 bytes read and 1 written an element: no table has a normalisation."""
    path = reader.table_path(device.name, "quantize", framework, "scale_matrix")
    if path is None:
        return None
    rows = reader.medians(reader.read(path, ("m", "k")), ("m", "k"))
    m, k = rows.floats("m", "k")
    moved_bytes = 3 * m * k

    def many(shapes: Array, numbers: Array, out: Array) -> None:
        bulk.memory_many(shapes, device.bandwidth_bytes_per_s, numbers, out)

    return assemble(
        rows,
        {"moved_bytes": moved_bytes, "m": m, "k": k},
        site=("k",),
        runs=("k", "m"),
        bounds_s={"beats_memory": moved_bytes / device.bandwidth_bytes_per_s},
        many=many,
    )


def _all_reduce(device: Gpu, framework: str) -> Table | None:
    """All-reduces of 2-byte elements inside a CUDA graph; a site is a message size."""
    path = reader.table_path(device.name, "comm", framework, "custom_allreduce")
    if path is None:
        return None
    rows = reader.read(path, ("num_gpus", "message_size"), ("kernel_source",))
    rows = rows.drop("eager", np.char.endswith(rows["kernel_source"], "eager"))
    rows = reader.medians(rows, ("num_gpus", "message_size"))
    gpus, elements = rows.floats("num_gpus", "message_size")
    message_bytes = 2 * elements

    def many(shapes: Array, numbers: Array, out: Array) -> None:
        bulk.all_reduce_many(shapes, device.link_bytes_per_s, numbers, out)

    return assemble(
        rows,
        {"message_bytes": message_bytes, "gpus": gpus},
        site=("message_bytes",),
        runs=("gpus", "message_bytes"),
        bounds_s={"beats_link": (gpus - 1) / gpus * message_bytes / device.link_bytes_per_s},
        many=many,
    )


def size_class(head_size: Array, sizes: tuple[int, ...]) -> Array:
    """Index of the next larger head size, the last for all beyond, as float64."""
    return np.minimum(np.searchsorted(sizes, head_size), len(sizes) - 1).astype(np.float64)


LOADERS: dict[str, Callable[[Gpu, str], Table | None]] = {
    "gemm_bf16": _gemm_bf16,
    "gemm_fp8": _gemm_fp8,
    "context_attention": _context,
    "generation_attention": _generation,
    "encoder_attention": _encoder,
    "memory_bound": _memory,
    "all_reduce": _all_reduce,
    "grouped_gemm": experts_table,
}
