"""Measured rows of each section of a GPU's fitted numbers, from its table in the package."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from asymsim.calibration import batch_times, measured_tables
from asymsim.calibration.attention_rows import decode_attention_rows, encoder_attention_rows, prefill_attention_rows
from asymsim.calibration.expert_rows import expert_rows
from asymsim.calibration.shape_groups import MeasuredRows, assemble, device_of, hardware_bounds
from asymsim.catalogue.gpu import Gpu
from asymsim.core.arrays import Array
from asymsim.util.errors import UnknownNameError


def load_section(device: Gpu, section: str, framework: str = "vllm") -> MeasuredRows | None:
    """Rows of a section, rows that mislead left out by rule; None where the GPU or the framework has no table of it.

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
    if framework not in measured_tables.FRAMEWORKS:
        raise UnknownNameError("framework", framework, measured_tables.FRAMEWORKS)
    table = LOADERS[section](device, framework)
    return table if table is not None and len(table.seconds) else None


def _gemm(device: Gpu, framework: str, name: str, peak: str, operand_bytes: float) -> MeasuredRows | None:
    path = measured_tables.table_path(device.name, f"gemm_{peak}", framework)
    if path is None or peak not in device.peak_flops_per_s:
        return None
    rows = measured_tables.read_table(path, ("m", "n", "k"), only={"gemm_dtype": name})
    rows = measured_tables.medians(rows, ("m", "n", "k"))
    m, n, k = rows.floats("m", "n", "k")
    machine = device_of(device, peak)

    def many(shapes: Array, numbers: Array, out: Array) -> None:
        batch_times.gemm_times(shapes, operand_bytes, machine, numbers, out)

    return assemble(
        rows,
        {"m": m, "n": n, "k": k},
        shape_group=("n", "k"),
        runs=("n", "k", "m"),
        bounds_s=hardware_bounds(machine, 2 * m * n * k, operand_bytes * (m * k + n * k) + 2 * m * n),
        many=many,
    )


def _gemm_bf16(device: Gpu, framework: str) -> MeasuredRows | None:
    return _gemm(device, framework, "bfloat16", "bf16", 2.0)


def _gemm_fp8(device: Gpu, framework: str) -> MeasuredRows | None:
    return _gemm(device, framework, "fp8", "fp8", 1.0)


def _memory(device: Gpu, framework: str) -> MeasuredRows | None:
    """Static fp8 quantisation, 2 bytes read and 1 written an element: no table has a normalisation."""
    path = measured_tables.table_path(device.name, "elementwise", framework)
    if path is None:
        return None
    rows = measured_tables.medians(measured_tables.read_table(path, ("m", "k")), ("m", "k"))
    m, k = rows.floats("m", "k")
    moved_bytes = 3 * m * k

    def many(shapes: Array, numbers: Array, out: Array) -> None:
        batch_times.elementwise_times(shapes, device.bandwidth_bytes_per_s, numbers, out)

    return assemble(
        rows,
        {"moved_bytes": moved_bytes, "m": m, "k": k},
        shape_group=("k",),
        runs=("k", "m"),
        bounds_s={"beats_memory": moved_bytes / device.bandwidth_bytes_per_s},
        many=many,
    )


def _all_reduce(device: Gpu, framework: str) -> MeasuredRows | None:
    """All-reduces of 2-byte elements inside a CUDA graph; a site is a message size."""
    path = measured_tables.table_path(device.name, "all_reduce", framework)
    if path is None:
        return None
    rows = measured_tables.read_table(path, ("num_gpus", "message_size"), ("kernel_source",))
    rows = rows.drop("eager", np.char.endswith(rows["kernel_source"], "eager"))
    rows = measured_tables.medians(rows, ("num_gpus", "message_size"))
    gpus, elements = rows.floats("num_gpus", "message_size")
    message_bytes = 2 * elements

    def many(shapes: Array, numbers: Array, out: Array) -> None:
        batch_times.all_reduce_times(shapes, device.link_bytes_per_s, numbers, out)

    return assemble(
        rows,
        {"message_bytes": message_bytes, "gpus": gpus},
        shape_group=("message_bytes",),
        runs=("gpus", "message_bytes"),
        bounds_s={"beats_link": (gpus - 1) / gpus * message_bytes / device.link_bytes_per_s},
        many=many,
    )


LOADERS: dict[str, Callable[[Gpu, str], MeasuredRows | None]] = {
    "gemm_bf16": _gemm_bf16,
    "gemm_fp8": _gemm_fp8,
    "prefill_attention": prefill_attention_rows,
    "decode_attention": decode_attention_rows,
    "encoder_attention": encoder_attention_rows,
    "elementwise": _memory,
    "all_reduce": _all_reduce,
    "grouped_gemm": expert_rows,
}
