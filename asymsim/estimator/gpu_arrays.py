"""Arrays of a GPU: its rates at a number format, and its fitted parameters or those of a donor."""

from __future__ import annotations

import math

import numpy as np

from asymsim.catalogue.engine import Engine
from asymsim.catalogue.fitted_parameters import FittedSection, donors, parameter_record, transferred_interval
from asymsim.catalogue.gpu import Gpu, load_gpu
from asymsim.catalogue.number_format import NumberFormat
from asymsim.core.arrays import Array
from asymsim.core.times import parameters as codes
from asymsim.core.times.device import TICK_S, TICKS_PER_S
from asymsim.core.times.gpu_arrays import GpuArrays
from asymsim.util.errors import InputError

# Section of the GPU's file for each operator class but the products with a weight: theirs depends on the number format.
SECTION_OF = {
    codes.PREFILL_ATTENTION_TIME: "prefill_attention",
    codes.DECODE_ATTENTION_TIME: "decode_attention",
    codes.ENCODER_ATTENTION_TIME: "encoder_attention",
    codes.ELEMENTWISE_TIME: "elementwise",
    codes.ALL_REDUCE_TIME: "all_reduce",
    codes.GROUPED_TIME: "grouped_gemm",
}
# Section of the products with a weight. Formats without measurements take the nearest format's, as transferred ones.
GEMM_SECTION = {"bf16": "gemm_bf16", "fp16": "gemm_bf16", "fp8": "gemm_fp8", "int8": "gemm_fp8", "fp4": "gemm_fp8"}
MEASURED_FORMATS = ("bf16", "fp16", "fp8")


def gpu_arrays(device: Gpu, dtype: NumberFormat, engine: Engine | None = None) -> GpuArrays:
    """A GPU's rates at a number format, and its fitted parameters or those of a donor.

    Raises
    ------
    InputError
        If the GPU has no units for the format.
    """
    peaks = device.peak_flops_per_s
    if dtype.peak not in peaks:
        usable = ", ".join(name for name in peaks if name != "tf32")
        raise InputError("dtype", dtype.name, f"{device.name} multiplies in {usable}")
    # Products of activations stay in 16 bits, as ``NumberFormat`` says.
    activation_format = dtype.peak if dtype.activation_bits > 16 else "bf16" if "bf16" in peaks else "fp16"
    operand_bytes = min(dtype.weight_bits, dtype.activation_bits) / 8
    arrays = codes.roofline_gpu(
        peaks[dtype.peak],
        peaks["fp32"],
        device.bandwidth_bytes_per_s,
        device.link_bytes_per_s,
        device.sm_count,
        float(device.l2_bytes),
    )._replace(
        activation_flops_per_s=peaks[activation_format],
        input_bytes=2.0 if dtype.name == "w4a16" else operand_bytes,
        weight_bytes=operand_bytes,
    )
    if engine is not None:
        host_s = math.ceil(engine.host_s * TICKS_PER_S) * TICK_S
        arrays = arrays._replace(host_s=host_s, host_p05=engine.host_p05_s, host_p95=max(engine.host_p95_s, host_s))
    if dtype.peak in GEMM_SECTION:
        _fill_fitted(arrays, device, dtype)
    if engine is not None and engine.fused_quantisation:
        arrays.gemm["quantise_s"], arrays.gemm["quantise_row_s"], arrays.gemm["quantise_share"] = 0.0, 0.0, math.inf
    return arrays


def _fill_fitted(arrays: GpuArrays, device: Gpu, dtype: NumberFormat) -> None:
    """Fill in parameters and intervals of every operator class that the GPU or a donor was measured for."""
    gemm_section = GEMM_SECTION[dtype.peak]
    as_measured = dtype.peak in MEASURED_FORMATS and dtype.weight_bits == 8 * arrays.input_bytes
    _fill_class(arrays, device, codes.GEMM_TIME, gemm_section, arrays.gemm[:1], as_measured)
    for time_class, parameters in (
        (codes.PREFILL_ATTENTION_TIME, arrays.prefill_attention),
        (codes.DECODE_ATTENTION_TIME, arrays.decode_attention),
        (codes.ENCODER_ATTENTION_TIME, arrays.encoder_attention),
        (codes.ELEMENTWISE_TIME, arrays.elementwise),
        (codes.ALL_REDUCE_TIME, arrays.all_reduce),
    ):
        _fill_class(arrays, device, time_class, SECTION_OF[time_class], parameters)
    # Grouped products run on the parameters of single ones, and of the element-wise work between them.
    single = fitted_section(device, "gemm_bf16")
    needed = arrays.sources[[codes.GEMM_TIME, codes.ELEMENTWISE_TIME]]
    if single is not None and (needed != codes.ROOFLINE).all():
        arrays.gemm[1:] = parameter_record(single.section, arrays.gemm.dtype)
        # Experts were measured in 16 bits.
        _fill_class(arrays, device, codes.GROUPED_TIME, "grouped_gemm", None, dtype.weight_bits == 16)
        grouped = [codes.GROUPED_TIME, codes.NUM_TIME_CLASSES + codes.GROUPED_TIME]
        if arrays.sources[codes.GROUPED_TIME] == codes.ROOFLINE:
            arrays.sources[codes.GROUPED_TIME] = codes.TRANSFERRED
            arrays.intervals[grouped] = transferred_interval("grouped_gemm")[0]
        arrays.intervals["time_scale"][grouped] *= parameter_record(single.section, codes.INTERVAL)["time_scale"][0]


def _fill_class(
    arrays: GpuArrays, device: Gpu, time_class: int, section: str, parameters: Array | None, as_measured: bool = True
) -> None:
    """Fill in ``parameters``, source and intervals of one class, if the GPU or a donor was measured for it.

    Unless ``as_measured``, the measurements were made in another number format: their parameters are transferred.
    """
    fitted = fitted_section(device, section)
    if fitted is None:
        return
    if parameters is not None:
        parameters[:] = parameter_record(fitted.section, parameters.dtype)
    arrays.sources[time_class] = fitted.source if as_measured else min(fitted.source, codes.TRANSFERRED)
    transferred = transferred_interval(section)[0]
    interval = parameter_record(fitted.section, codes.INTERVAL)[0]
    is_transferred = arrays.sources[time_class] == codes.TRANSFERRED
    arrays.intervals[time_class] = transferred if is_transferred else interval
    arrays.intervals[codes.NUM_TIME_CLASSES + time_class] = transferred
    # A correction of the parameters holds for all rows that use them.
    arrays.intervals["time_scale"][[time_class, codes.NUM_TIME_CLASSES + time_class]] = interval["time_scale"]


def error_correlation(device: Gpu, dtype: NumberFormat) -> Array:
    """Correlation of the errors of one weight or head group at two token counts, by operator class.

    0 where it is not known, which keeps intervals wide.
    """
    by_class = np.zeros(codes.NUM_TIME_CLASSES)
    sections = {codes.GEMM_TIME: GEMM_SECTION.get(dtype.peak, ""), **SECTION_OF}
    for time_class, section in sections.items():
        fitted = fitted_section(device, section)
        by_class[time_class] = fitted.section.get("shape_group_correlation", 0.0) if fitted else 0.0
    return by_class


def fitted_section(device: Gpu, name: str) -> FittedSection | None:
    """A section of the GPU's file, or else of the nearest donor that has it."""
    section = device.efficiency.get(name)
    if section is not None:
        return FittedSection(section, codes.MEASURED if section.get("measured") else codes.FITTED)
    for donor in donors(device.architecture):
        section = load_gpu(donor).efficiency.get(name)
        if section is not None:
            return FittedSection(section, codes.TRANSFERRED)
    return None
