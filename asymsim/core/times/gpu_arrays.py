"""Arrays of a GPU: its rates at one number format and its fitted parameters."""

from __future__ import annotations

from typing import NamedTuple

from asymsim.core.arrays import Array


class GpuArrays(NamedTuple):
    """A ``Gpu`` at one number format: rates of one device and its link, and what its times are fitted with.

    Attributes
    ----------
    flops_per_s : peak of products with a weight.
    activation_flops_per_s : peak of products of activations, attention among them.
    input_bytes, weight_bytes : one element of either operand of a product with a weight, as it is multiplied.
    host_s, host_p05, host_p95 : what the host adds to a step, and its interval.
    gemm : two records: products with a weight, products of activations.
    intervals : a record for each operator class, and again for what the class's own numbers were not fitted on.
    sources : by operator class, codes of ``efficiency.SOURCE_NAMES``.
    stamp : tells two sets of these apart.
    """

    flops_per_s: float
    activation_flops_per_s: float
    vector_flops_per_s: float
    bandwidth_bytes_per_s: float
    link_bytes_per_s: float
    l2_bytes: float
    sm_count: float
    input_bytes: float
    weight_bytes: float
    host_s: float
    host_p05: float
    host_p95: float
    gemm: Array
    prefill_attention: Array
    decode_attention: Array
    encoder_attention: Array
    elementwise: Array
    all_reduce: Array
    intervals: Array
    sources: Array
    stamp: int
