"""Measured rows of each section of a GPU's fitted parameters, from its table in the package."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from asymsim.calibration import batch_times
from asymsim.calibration.attention_rows import decode_attention_rows, encoder_attention_rows, prefill_attention_rows
from asymsim.calibration.expert_rows import expert_rows
from asymsim.calibration.measured_tables import FRAMEWORKS, table_path
from asymsim.calibration.shape_groups import MeasuredRows, assemble, device_of, hardware_bounds
from asymsim.calibration.table_rows import medians, read_table
from asymsim.catalogue.gpu import Gpu
from asymsim.core.arrays import Array
from asymsim.util.errors import UnknownNameError


def load_section(gpu: Gpu, section: str, framework: str = "vllm") -> MeasuredRows | None:
    """Rows of a section that no exclusion rule leaves out; None where the GPU or the framework has no table of it.

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
    if framework not in FRAMEWORKS:
        raise UnknownNameError("framework", framework, FRAMEWORKS)
    rows = LOADERS[section](gpu, framework)
    return rows if rows is not None and len(rows.seconds) else None


def _gemm_rows(gpu: Gpu, framework: str, table_dtype: str, peak: str, operand_bytes: float) -> MeasuredRows | None:
    path = table_path(gpu.name, f"gemm_{peak}", framework)
    if path is None or peak not in gpu.peak_flops_per_s:
        return None
    rows = read_table(path, ("m", "n", "k"), only={"gemm_dtype": table_dtype})
    rows = medians(rows, ("m", "n", "k"))
    m, n, k = rows.floats("m", "n", "k")
    device = device_of(gpu, peak)

    def many(shapes: Array, parameters: Array, out: Array) -> None:
        batch_times.gemm_times(shapes, operand_bytes, device, parameters, out)

    return assemble(
        rows,
        {"m": m, "n": n, "k": k},
        shape_group=("n", "k"),
        runs=("n", "k", "m"),
        bounds_s=hardware_bounds(device, 2 * m * n * k, operand_bytes * (m * k + n * k) + 2 * m * n),
        many=many,
    )


def _gemm_bf16_rows(gpu: Gpu, framework: str) -> MeasuredRows | None:
    return _gemm_rows(gpu, framework, "bfloat16", "bf16", 2.0)


def _gemm_fp8_rows(gpu: Gpu, framework: str) -> MeasuredRows | None:
    return _gemm_rows(gpu, framework, "fp8", "fp8", 1.0)


def _elementwise_rows(gpu: Gpu, framework: str) -> MeasuredRows | None:
    """Static fp8 quantisation, 2 bytes read and 1 written an element: no table has a normalisation."""
    path = table_path(gpu.name, "elementwise", framework)
    if path is None:
        return None
    rows = medians(read_table(path, ("m", "k")), ("m", "k"))
    m, k = rows.floats("m", "k")
    moved_bytes = 3 * m * k

    def many(shapes: Array, parameters: Array, out: Array) -> None:
        batch_times.elementwise_times(shapes, gpu.bandwidth_bytes_per_s, parameters, out)

    return assemble(
        rows,
        {"moved_bytes": moved_bytes, "m": m, "k": k},
        shape_group=("k",),
        runs=("k", "m"),
        bounds_s={"beats_memory": moved_bytes / gpu.bandwidth_bytes_per_s},
        many=many,
    )


def _all_reduce_rows(gpu: Gpu, framework: str) -> MeasuredRows | None:
    """All-reduces of 2-byte elements inside a CUDA graph; a shape group is a message size."""
    path = table_path(gpu.name, "all_reduce", framework)
    if path is None:
        return None
    rows = read_table(path, ("num_gpus", "message_size"), ("kernel_source",))
    rows = rows.drop("eager", np.char.endswith(rows["kernel_source"], "eager"))
    rows = medians(rows, ("num_gpus", "message_size"))
    num_gpus, elements = rows.floats("num_gpus", "message_size")
    message_bytes = 2 * elements

    def many(shapes: Array, parameters: Array, out: Array) -> None:
        batch_times.all_reduce_times(shapes, gpu.link_bytes_per_s, parameters, out)

    return assemble(
        rows,
        {"message_bytes": message_bytes, "gpus": num_gpus},
        shape_group=("message_bytes",),
        runs=("gpus", "message_bytes"),
        bounds_s={"beats_link": (num_gpus - 1) / num_gpus * message_bytes / gpu.link_bytes_per_s},
        many=many,
    )


LOADERS: dict[str, Callable[[Gpu, str], MeasuredRows | None]] = {
    "gemm_bf16": _gemm_bf16_rows,
    "gemm_fp8": _gemm_fp8_rows,
    "prefill_attention": prefill_attention_rows,
    "decode_attention": decode_attention_rows,
    "encoder_attention": encoder_attention_rows,
    "elementwise": _elementwise_rows,
    "all_reduce": _all_reduce_rows,
    "grouped_gemm": expert_rows,
}
