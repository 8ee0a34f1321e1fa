"""Operator table + GPU -> seconds."""

from __future__ import annotations

import numpy as np

from asymsim.catalogue.dtype import Dtype
from asymsim.catalogue.gpu import Gpu
from asymsim.core import layout
from asymsim.core.layout import GpuArrays
from asymsim.errors import InputError
from asymsim.operators import OperatorTable
from asymsim.report import Latency, Seconds


def gpu_arrays(gpu: Gpu, dtype: Dtype) -> GpuArrays:
    """The GPU's rates at a number format.

    Raises
    ------
    InputError
        If the GPU has no units for the format.
    """
    peaks = gpu.peak_flops_per_s
    if dtype.peak not in peaks:
        usable = ", ".join(name for name in peaks if name != "tf32")
        raise InputError("dtype", dtype.name, f"{gpu.name} multiplies in {usable}")
    return GpuArrays(
        flops_per_s=peaks[dtype.peak],
        vector_flops_per_s=peaks["fp32"],
        bandwidth_bytes_per_s=gpu.bandwidth_bytes_per_s,
        link_bytes_per_s=gpu.link_bytes_per_s,
        sm_count=gpu.sm_count,
    )


def latency(tables: list[tuple[float, OperatorTable]], output_tokens: int) -> Latency:
    """Times of the phases; expectations where the budget adapts to the sample."""
    phases = np.sum([share * table.seconds for share, table in tables], axis=0)
    vision = float(phases[layout.VISION] + phases[layout.PROJECTOR])
    selection, prefill = float(phases[layout.SELECTION]), float(phases[layout.PREFILL])
    decode = float(phases[layout.DECODE] + phases[layout.DECODE_SELECTION])
    ttft = vision + selection + prefill
    return Latency(
        vision_s=_roofline(vision),
        selection_s=_roofline(selection),
        prefill_s=_roofline(prefill),
        ttft_s=_roofline(ttft),
        tpot_s=_roofline(decode / (output_tokens - 1) if output_tokens > 1 else None),
        e2e_s=_roofline(ttft + decode),
    )


def _roofline(seconds: float | None) -> Seconds:
    return Seconds(p05=None, p50=seconds, p95=None, source="roofline")
