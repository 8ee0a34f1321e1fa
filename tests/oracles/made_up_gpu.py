"""A GPU whose fitted parameters are round numbers, so that the time of an operator row is worked out by hand.

Ten SMs. Of a product with a weight, each multiplies 128 x 128 outputs by one inner element in a microsecond; of
attention, 128 query rows by 128 keys at a head size of 64. Memory is instant unless a test sets its bandwidth; times
of compute and memory add up.

Launches take 7 us for a product with a weight and 9 us for one without, 1 us for prefill attention, 2 us for decode
attention, 4 us for encoder attention, 3 us for an element-wise kernel. Every 95 % end is 1.5 times the median, or 3
times where a row is unlike those that were measured; every 5 % end is 3/4 of it, or 1/4.
"""

from __future__ import annotations

import math

import numpy as np

from asymsim.core.times import parameters
from asymsim.core.times.gpu_arrays import GpuArrays

US = 1e-6
INSTANT = 1e30
SMS = 10
WEIGHT_FLOPS_PER_US = SMS * 2 * 128 * 128
ATTENTION_FLOPS_PER_US = SMS * 4 * 128 * 128 * 64
# Factors of a time at 5 % and 95 %, for rows like the measured ones and for others.
KNOWN, UNLIKE = (0.75, 1.5), (0.25, 3.0)

_GEMM = {
    "memory_share": 1.0, "l2_speed": 1.0, "l2_share": 1.0, "l2_sharpness": 1.0, "quantised_share": 1.0,
    "sm_bytes_per_s": INSTANT, "split_s": 1.0, "split_speed": 1.0, "overlap": 1.0, "throttle_s": 1.0,
    "throttle_sharpness": 1.0, "reread_region": INSTANT, "vector_s": 1.0, "quantise_share": 1.0,
}  # fmt: skip
_PREFILL = {
    "memory_share": 1.0, "query_traffic": 1.0, "kv_traffic": 1.0, "l2_share": 1.0, "tile_s": 1e-30, "balance": 1.0,
    "throttle_s": 1.0, "overlap": 1.0, "launch_s": 1 * US, "fitted_size": 1.0, "tile_efficiency": 1e-9,
}  # fmt: skip
_DECODE = {
    "memory_share": 1.0, "l2_speed": 1.0, "l2_share": 1.0, "l2_sharpness": 1.0, "tile_s": 1 * US,
    "quantised_share": 1.0, "slots": 1.0, "split_tokens": 1e9, "merge_speed": 1.0, "overlap": 1.0,
    "launch_s": 2 * US, "fitted_size": 1.0, "sm_bytes_per_s": 256 / US,
}  # fmt: skip
_ENCODER = {
    "memory_share": 1.0, "l2_speed": 1.0, "l2_share": 1.0, "tile_s": 1e-30, "quantised_share": 1.0,
    "throttle_s": 1.0, "overlap": 1.0, "launch_s": 4 * US, "fitted_size": 1.0, "tile_efficiency": 1e-9,
}  # fmt: skip
_MEMORY = {"launch_s": 3 * US, "memory_share": 0.5, "overlap": 1.0}
_ALL_REDUCE = {"launch_s": 5 * US, "peer_s": 1 * US, "link_share": 0.5, "one_shot_share": 0.25}


def _fill(records: np.ndarray, values: dict[str, float]) -> None:
    for name, value in values.items():
        records[name] = value


def made_up_gpu(bandwidth: float = INSTANT, link: float = INSTANT) -> GpuArrays:
    """The GPU; ``bandwidth`` and ``link`` in bytes a second."""
    gpu = parameters.roofline_gpu(WEIGHT_FLOPS_PER_US / US, INSTANT, bandwidth, link, SMS, l2_bytes=1e-9)
    gpu = gpu._replace(activation_flops_per_s=ATTENTION_FLOPS_PER_US / US)
    _fill(gpu.gemm, _GEMM)
    gpu.gemm["launch_s"] = [7 * US, 9 * US]
    # One kind of tile reaches a useful share of the peak: 128 x 128, or 128 query rows.
    gpu.gemm["tile_efficiency"] = 1e-9
    gpu.gemm["tile_efficiency"][:, 6] = 1.0
    _fill(gpu.prefill_attention, _PREFILL)
    _fill(gpu.decode_attention, _DECODE)
    _fill(gpu.encoder_attention, _ENCODER)
    for attention in (gpu.prefill_attention, gpu.encoder_attention):
        attention["query_tiles"] = [64, 128, 192]
        attention["tile_efficiency"][..., 1] = 1.0
    _fill(gpu.elementwise, _MEMORY)
    _fill(gpu.all_reduce, _ALL_REDUCE)
    gpu.sources[:] = parameters.FITTED
    gpu.intervals["band_edges_s"] = [0.0] + [math.inf] * parameters.BANDS
    for part, (low, high) in (
        (slice(0, parameters.NUM_TIME_CLASSES), KNOWN),
        (slice(parameters.NUM_TIME_CLASSES, None), UNLIKE),
    ):
        gpu.intervals["ratio_p05"][part], gpu.intervals["ratio_p95"][part] = low, high
    return gpu
