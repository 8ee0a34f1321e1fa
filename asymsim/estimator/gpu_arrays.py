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

# The section of each operator class; that of products with a weight depends on the number format.
SECTION_OF = {
    codes.PREFILL_ATTENTION_TIME: "prefill_attention",
    codes.DECODE_ATTENTION_TIME: "decode_attention",
    codes.ENCODER_ATTENTION_TIME: "encoder_attention",
    codes.ELEMENTWISE_TIME: "elementwise",
    codes.ALL_REDUCE_TIME: "all_reduce",
    codes.GROUPED_TIME: "grouped_gemm",
}


# Formats that products were measured in. The others take the numbers of the nearest, as borrowed ones.
GEMM_SECTION = {"bf16": "gemm_bf16", "fp16": "gemm_bf16", "fp8": "gemm_fp8", "int8": "gemm_fp8", "fp4": "gemm_fp8"}


MEASURED_FORMATS = ("bf16", "fp16", "fp8")


def gpu_arrays(device: Gpu, dtype: NumberFormat, engine: Engine | None = None) -> GpuArrays:
    """The GPU's rates at a number format, and its fitted numbers or those of a relative.

    Raises
    ------
    InputError
        If the GPU has no units for the format.
    """
    peaks = device.peak_flops_per_s
    if dtype.peak not in peaks:
        usable = ", ".join(name for name in peaks if name != "tf32")
        raise InputError("dtype", dtype.name, f"{device.name} multiplies in {usable}")
    # Products of activations stay in 16 bits, as Dtype says.
    activations = dtype.peak if dtype.activation_bits > 16 else "bf16" if "bf16" in peaks else "fp16"
    operand_bytes = min(dtype.weight_bits, dtype.activation_bits) / 8
    arrays = codes.roofline_gpu(
        peaks[dtype.peak],
        peaks["fp32"],
        device.bandwidth_bytes_per_s,
        device.link_bytes_per_s,
        device.sm_count,
        float(device.l2_bytes),
    )._replace(
        activation_flops_per_s=peaks[activations],
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
    """Put in the numbers and intervals of every class that the GPU or a relative was measured for."""
    section = GEMM_SECTION[dtype.peak]
    measured = dtype.peak in MEASURED_FORMATS and dtype.weight_bits == 8 * arrays.input_bytes
    _fill_class(arrays, device, codes.GEMM_TIME, section, arrays.gemm[:1], measured)
    for of, target in (
        (codes.PREFILL_ATTENTION_TIME, arrays.prefill_attention),
        (codes.DECODE_ATTENTION_TIME, arrays.decode_attention),
        (codes.ENCODER_ATTENTION_TIME, arrays.encoder_attention),
        (codes.ELEMENTWISE_TIME, arrays.elementwise),
        (codes.ALL_REDUCE_TIME, arrays.all_reduce),
    ):
        _fill_class(arrays, device, of, SECTION_OF[of], target)
    # Products side by side run on the numbers of single ones, and of the element-wise work between them.
    products = fitted_section(device, "gemm_bf16")
    needed = arrays.sources[[codes.GEMM_TIME, codes.ELEMENTWISE_TIME]]
    if products is not None and (needed != codes.ROOFLINE).all():
        arrays.gemm[1:] = parameter_record(products.section, arrays.gemm.dtype)
        # Experts were measured in 16 bits.
        _fill_class(arrays, device, codes.GROUPED_TIME, "grouped_gemm", None, dtype.weight_bits == 16)
        groups = [codes.GROUPED_TIME, codes.NUM_TIME_CLASSES + codes.GROUPED_TIME]
        if arrays.sources[codes.GROUPED_TIME] == codes.ROOFLINE:
            arrays.sources[codes.GROUPED_TIME] = codes.TRANSFERRED
            arrays.intervals[groups] = transferred_interval("grouped_gemm")[0]
        arrays.intervals["time_scale"][groups] *= parameter_record(products.section, codes.INTERVAL)["time_scale"][0]


def error_correlation(device: Gpu, dtype: NumberFormat) -> Array:
    """How far errors of one weight or head group at two token counts go together, by operator class.

    0 where it is not known, which keeps intervals wide.
    """
    made = np.zeros(codes.NUM_TIME_CLASSES)
    sections = {codes.GEMM_TIME: GEMM_SECTION.get(dtype.peak, ""), **SECTION_OF}
    for of, name in sections.items():
        found = fitted_section(device, name)
        made[of] = found.section.get("shape_group_correlation", 0.0) if found else 0.0
    return made


def fitted_section(device: Gpu, name: str) -> FittedSection | None:
    """A section of the GPU's own, or of the nearest relative that has it."""
    own = device.efficiency.get(name)
    if own is not None:
        return FittedSection(own, codes.MEASURED if own.get("measured") else codes.FITTED)
    for lender in donors(device.architecture):
        lent = load_gpu(lender).efficiency.get(name)
        if lent is not None:
            return FittedSection(lent, codes.TRANSFERRED)
    return None


def _fill_class(arrays: GpuArrays, device: Gpu, of: int, name: str, target: Array | None, known: bool = True) -> None:
    found = fitted_section(device, name)
    if found is None:
        return
    if target is not None:
        target[:] = parameter_record(found.section, target.dtype)
    arrays.sources[of] = found.source if known else min(found.source, codes.TRANSFERRED)
    borrowed = transferred_interval(name)[0]
    own = parameter_record(found.section, codes.INTERVAL)[0]
    arrays.intervals[of] = borrowed if arrays.sources[of] == codes.TRANSFERRED else own
    arrays.intervals[codes.NUM_TIME_CLASSES + of] = borrowed
    # What corrects the numbers corrects them on all rows that they stand for.
    arrays.intervals["time_scale"][[of, codes.NUM_TIME_CLASSES + of]] = own["time_scale"]
