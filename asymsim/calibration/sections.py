"""Measured rows of each section of a GPU's fitted numbers, from its table in the package."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from asymsim.calibration import bulk, reader
from asymsim.calibration.attention import context_table, encoder_table, generation_table
from asymsim.calibration.experts import experts_table
from asymsim.calibration.table import Table, assemble, hardware_bounds, machine_of
from asymsim.catalogue.gpu import Gpu
from asymsim.core.layout import Array
from asymsim.errors import UnknownNameError


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
        bounds_s=hardware_bounds(machine, 2 * m * n * k, operand_bytes * (m * k + n * k) + 2 * m * n),
        many=many,
    )


def _gemm_bf16(device: Gpu, framework: str) -> Table | None:
    return _gemm(device, framework, "bfloat16", "bf16", 2.0)


def _gemm_fp8(device: Gpu, framework: str) -> Table | None:
    return _gemm(device, framework, "fp8", "fp8", 1.0)


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


LOADERS: dict[str, Callable[[Gpu, str], Table | None]] = {
    "gemm_bf16": _gemm_bf16,
    "gemm_fp8": _gemm_fp8,
    "context_attention": context_table,
    "generation_attention": generation_table,
    "encoder_attention": encoder_table,
    "memory_bound": _memory,
    "all_reduce": _all_reduce,
    "grouped_gemm": experts_table,
}
