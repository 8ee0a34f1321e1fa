"""Seconds of an operator row, with a 90 % interval: fitted where the GPU was measured, else a roofline.

Fitted times come from ``gemm`` and the other modules of operator classes, and are never below ``roofline``.
"""

from __future__ import annotations

import math

import numpy as np

from asymsim.core.arrays import Array, Record
from asymsim.core.jit import inlined, kernel
from asymsim.core.operators.layout import (
    ALL_REDUCE,
    ATTENTION,
    BY_HEADS,
    DECODE,
    DECODE_SELECTION,
    ELEMENTWISE,
    GEMM,
    PROJECTOR,
    UNFUSED_ATTENTION,
    VISION,
)
from asymsim.core.times.all_reduce import all_reduce_seconds
from asymsim.core.times.decode_attention import decode_attention_seconds
from asymsim.core.times.device import Device, whole_ticks_s
from asymsim.core.times.elementwise import elementwise_seconds
from asymsim.core.times.encoder_attention import encoder_attention_seconds
from asymsim.core.times.gemm import gemm_seconds
from asymsim.core.times.gpu_arrays import GpuArrays
from asymsim.core.times.parameters import (
    ALL_REDUCE_TIME,
    BANDS,
    CAUSAL_SIZES,
    DECODE_ATTENTION_TIME,
    ELEMENTWISE_TIME,
    ENCODER_ATTENTION_TIME,
    ENCODER_SIZES,
    GEMM_TIME,
    GROUPED_TIME,
    NUM_TIME_CLASSES,
    PREFILL_ATTENTION_TIME,
    ROOFLINE,
    TRANSFERRED,
)
from asymsim.core.times.prefill_attention import prefill_attention_seconds
from asymsim.core.times.product_memo import MEMO
from asymsim.core.times.roofline import gemm_shape, moved_bytes, roofline_seconds


@kernel
def time_class(row: Record) -> int:
    """The operator class of a row, which decides its fitted parameters and its error."""
    kind = row["kind"]
    if kind == ELEMENTWISE:
        return ELEMENTWISE_TIME
    if kind == ALL_REDUCE:
        return ALL_REDUCE_TIME
    if kind == GEMM:
        return GEMM_TIME if row["groups"] == 1 and row["weight_bytes"] > 0 else GROUPED_TIME
    if kind == UNFUSED_ATTENTION:
        return GROUPED_TIME
    if row["phase"] == VISION or row["phase"] == PROJECTOR:
        return ENCODER_ATTENTION_TIME
    if row["phase"] == DECODE or row["phase"] == DECODE_SELECTION:
        return DECODE_ATTENTION_TIME
    return PREFILL_ATTENTION_TIME


@kernel
def size_index(head_size: int, sizes: tuple[int, ...]) -> int:
    """Index of the next larger head size; the last index for all sizes beyond."""
    for index in range(len(sizes)):
        if head_size <= sizes[index]:
            return index
    return len(sizes) - 1


@inlined
def attention_seconds(row: Record, gpu: GpuArrays, tp_size: int, operator_class: int) -> tuple[float, bool]:
    """Seconds of one execution of fused attention, and whether its head size was measured."""
    device = Device(gpu.activation_flops_per_s, gpu.bandwidth_bytes_per_s, gpu.l2_bytes, gpu.sm_count)
    queries, keys, size = float(row["m"]), float(row["n"]), row["k"]
    sequences = row["groups"] / row["heads"]
    heads, kv_heads = float(row["heads"]), float(row["kv_heads"])
    if row["split"] == BY_HEADS and tp_size > 1:
        heads, kv_heads = float(math.ceil(heads / tp_size)), float(math.ceil(kv_heads / tp_size))
    # Integer division first: a mean of whole numbers must come out whole, or a tile too many is counted.
    pairs = row["flops"] // (4 * row["k"] * row["count"])
    met_keys = min(keys, pairs / (float(row["groups"]) * row["m"]))
    read = row["kv_read_bytes"] / float(row["count"]) * kv_heads / row["kv_heads"]
    if read == 0.0:
        # Outside the cache, as where a pruning method computes attention of its own.
        read = 4.0 * sequences * keys * kv_heads * size
    if operator_class == DECODE_ATTENTION_TIME:
        index = size_index(size, CAUSAL_SIZES)
        decode = gpu.decode_attention[0]
        seconds = decode_attention_seconds(
            sequences, keys, heads, kv_heads, float(size), read, index, 0.0, device, decode
        )
        return seconds, decode["fitted_size"][index] > 0.0 and size == CAUSAL_SIZES[index]
    if operator_class == PREFILL_ATTENTION_TIME:
        index = size_index(size, CAUSAL_SIZES)
        prefill = gpu.prefill_attention[0]
        seconds = prefill_attention_seconds(
            sequences, queries, keys, met_keys, heads, kv_heads, float(size), read, index, device, prefill
        )
        # Windows and chunks, in which a query meets less than half of the keys, were not measured.
        measured = prefill["fitted_size"][index] > 0.0 and size == CAUSAL_SIZES[index] and 2.0 * met_keys >= keys
        return seconds, measured
    index = size_index(size, ENCODER_SIZES)
    encoder = gpu.encoder_attention[0]
    # Windows are sequences of their own.
    windows = max(1.0, keys / max(1.0, met_keys))
    seconds = encoder_attention_seconds(
        sequences * windows, queries / windows, keys / windows, heads, float(size), index, device, encoder
    )
    return seconds, encoder["fitted_size"][index] > 0.0 and size == ENCODER_SIZES[index]


@inlined
def product_seconds(m: float, n: float, k: float, groups: float, weighted: bool, gpu: GpuArrays, memo: Array) -> float:
    """Seconds of a matrix product, looked up where the same shape came before."""
    sign = 1 if weighted else -1
    key = ((int(m) * 1_000_003 + int(n)) * 1_000_003 + int(k)) * 1_000_003 + sign * int(groups)
    entry = memo[(key ^ (key >> 21)) & (len(memo) - 1)]
    if entry["m"] == m and entry["n"] == n and entry["k"] == k and entry["groups"] == sign * groups:
        return entry["seconds"]
    peak = gpu.flops_per_s if weighted else gpu.activation_flops_per_s
    device = Device(peak, gpu.bandwidth_bytes_per_s, gpu.l2_bytes, gpu.sm_count)
    if weighted:
        seconds = gemm_seconds(m, n, k, groups, gpu.input_bytes, gpu.weight_bytes, device, gpu.gemm[0])
    else:
        seconds = gemm_seconds(m, n, k, groups, 2.0, 2.0, device, gpu.gemm[1])
    entry["m"], entry["n"], entry["k"], entry["groups"] = int(m), int(n), int(k), sign * int(groups)
    entry["seconds"] = seconds
    return seconds


@inlined
def execution_seconds(
    row: Record, gpu: GpuArrays, tp_size: int, operator_class: int, memo: Array
) -> tuple[float, bool]:
    """Fitted seconds of one execution of a row, and whether its class's parameters were fitted on such rows."""
    count = float(row["count"])
    if operator_class == ALL_REDUCE_TIME:
        return all_reduce_seconds(
            row["write_bytes"] / count, float(tp_size), gpu.link_bytes_per_s, gpu.all_reduce[0]
        ), True
    if operator_class == ELEMENTWISE_TIME:
        kernels = float(row["groups"])
        moved = moved_bytes(row, tp_size) / count / kernels
        return kernels * elementwise_seconds(moved, gpu.bandwidth_bytes_per_s, gpu.elementwise[0]), True
    if row["kind"] == ATTENTION:
        return attention_seconds(row, gpu, tp_size, operator_class)
    m, n, k = gemm_shape(row, tp_size)
    groups = float(row["groups"])
    if row["kind"] == GEMM:
        weighted = row["weight_bytes"] > 0
        # Experts were measured; products of activations side by side were not.
        return product_seconds(m, n, k, groups, weighted, gpu, memo), weighted
    # Stored attention weights: two batched products, and the softmax between them reads and writes the weights.
    groups = float(math.ceil(groups / tp_size))
    softmax = elementwise_seconds(4.0 * m * n * groups, gpu.bandwidth_bytes_per_s, gpu.elementwise[0])
    products = product_seconds(m, n, k, groups, False, gpu, memo) + product_seconds(m, k, n, groups, False, gpu, memo)
    return products + softmax, False


@inlined
def row_time(row: Record, gpu: GpuArrays, tp_size: int, memo: Array) -> tuple[float, float, float, int, int]:
    """Time of all executions of one operator row on each of ``tp_size`` GPUs at once.

    The median of one execution is whole ticks, so medians add up without error in whatever order.

    Returns
    -------
    tuple
        Seconds at 5 %, at the median and at 95 %, nan at both ends of a roofline; the operator class; the
        source of the time, a code of ``parameters.SOURCE_NAMES``.
    """
    operator_class = time_class(row)
    source = gpu.sources[operator_class]
    count = float(row["count"])
    if source == ROOFLINE:
        roofline_s = count * whole_ticks_s(roofline_seconds(row, gpu, tp_size, True))
        return math.nan, roofline_s, math.nan, operator_class, source
    execution_s, measured = execution_seconds(row, gpu, tp_size, operator_class, memo)
    if not measured:
        source = min(source, TRANSFERRED)
    quantiles = gpu.intervals[operator_class] if measured else gpu.intervals[NUM_TIME_CLASSES + operator_class]
    execution_s *= quantiles["time_scale"]
    # Bands are of one kernel's time, of which an element-wise row has several.
    kernel_s = execution_s / row["groups"] if operator_class == ELEMENTWISE_TIME else execution_s
    edges, band = quantiles["band_edges_s"], 0
    while band < BANDS - 1 and kernel_s >= edges[band + 1]:
        band += 1
    floor_s = roofline_seconds(row, gpu, tp_size, False)
    seconds = count * whole_ticks_s(max(execution_s, floor_s))
    floor_s *= count
    low = max(seconds * min(1.0, quantiles["ratio_p05"][band]), floor_s)
    return low, seconds, seconds * max(1.0, quantiles["ratio_p95"][band]), operator_class, source


@kernel
def row_times(rows: Array, gpu: GpuArrays, tp_size: int, into: Array, sources: Array) -> None:
    """Fill ``into`` (rows, 3) with the quantiles of each row's ``row_time``, and ``sources`` (rows) with its source."""
    memo = np.zeros(1, MEMO)
    for index in range(len(rows)):
        low, middle, high, _, source = row_time(rows[index], gpu, tp_size, memo)
        into[index, 0], into[index, 1], into[index, 2] = low, middle, high
        sources[index] = source


@kernel
def row_interval(row: Record, gpu: GpuArrays, tp_size: int) -> tuple[float, float, float, int]:
    """Seconds of one row at 5 %, at the median and at 95 %, and its operator class, as ``row_time`` has them."""
    low, middle, high, operator_class, _ = row_time(row, gpu, tp_size, np.zeros(1, MEMO))
    return low, middle, high, operator_class


@kernel
def row_roofline(row: Record, gpu: GpuArrays, tp_size: int) -> float:
    """The hardware's bound on all executions of one operator row, tiles and waves aside."""
    return row["count"] * roofline_seconds(row, gpu, tp_size, False)


@kernel
def joint_interval(seconds: Array, phases: Array, into: Array) -> None:
    """Time of several phases together: errors within an operator class add up, errors of two classes do not.

    A class errs alike wherever it occurs, so its quantiles are added; classes err independently, so their
    distances from the median are joined as root of the sum of squares.

    Parameters
    ----------
    seconds : array, shape (phases, classes, 3)
    phases : array of int64, shape (number,)
        The phases to join.
    into : array, shape (3,)
        5 %, median, 95 %.
    """
    below = above = median = 0.0
    for operator_class in range(seconds.shape[1]):
        low = middle = high = 0.0
        for phase in phases:
            low += seconds[phase, operator_class, 0]
            middle += seconds[phase, operator_class, 1]
            high += seconds[phase, operator_class, 2]
        median += middle
        below += (middle - low) * (middle - low)
        above += (high - middle) * (high - middle)
    into[0] = median - math.sqrt(below)
    into[1] = median
    into[2] = median + math.sqrt(above)
