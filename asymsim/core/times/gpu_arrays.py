"""Arrays of a GPU: its rates at one number format and its fitted parameters."""

from __future__ import annotations

from typing import NamedTuple

from asymsim.core.arrays import Array


class GpuArrays(NamedTuple):
    """A ``Gpu`` at one number format: rates of one device and its link, and its fitted parameters.

    Attributes
    ----------
    flops_per_s : peak of products with a weight.
    activation_flops_per_s : peak of products of activations, attention among them.
    input_bytes, weight_bytes : bytes of one element of either operand of a product with a weight, as it is multiplied.
    host_s, host_p05, host_p95 : seconds that the host adds to an engine step, and their interval.
    gemm : two records: products with a weight, products of activations.
    prefill_attention, decode_attention, encoder_attention, elementwise, all_reduce : one record each.
    intervals : a record for each operator class, and again for rows that the class's parameters were not fitted on.
    sources : by operator class, codes of ``parameters.SOURCE_NAMES``.
    stamp : a number that no other GPU's arrays have.
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
