"""Layout of the numbers that operator times are fitted with, one record an operator class and GPU.

All fields are float64, so a vector of a search is a record by a change of view. Shares are of the data
sheet's rates; seconds are of one execution. Where a class has sizes, its arrays have one entry a size.
"""

from __future__ import annotations

import itertools

import numpy as np

from asymsim.core.arrays import Array, codes
from asymsim.core.times.gpu_arrays import GpuArrays

# Operator classes: what one set of numbers, and one error, stands for.
(
    GEMM_TIME,
    PREFILL_ATTENTION_TIME,
    DECODE_ATTENTION_TIME,
    ENCODER_ATTENTION_TIME,
    ELEMENTWISE_TIME,
    ALL_REDUCE_TIME,
    GROUPED_TIME,
    HOST_TIME,
) = codes(8)
NUM_TIME_CLASSES = HOST_TIME + 1
_stamps = itertools.count(1)

# Where a time comes from, least certain first: a sum is as certain as the least certain of its parts.
ROOFLINE, TRANSFERRED, FITTED, MEASURED = codes(4)
SOURCE_NAMES = ("roofline", "transferred", "fitted", "measured")

# Output tiles of matrix kernels, rows (tokens) x columns (features); each has its own efficiency.
TILE_ROWS = np.array([16.0, 32.0, 64.0, 128.0, 256.0, 64.0, 128.0, 256.0, 64.0, 128.0, 64.0])
TILE_COLUMNS = np.array([64.0, 64.0, 64.0, 64.0, 64.0, 128.0, 128.0, 128.0, 256.0, 256.0, 32.0])
# Head sizes of attention kernels; a size takes the class of the next larger one, the largest that of the last.
CAUSAL_SIZES = (64, 128, 192, 256)
ENCODER_SIZES = (64, 72, 80)
QUERY_TILES = 3


def _record(*fields: str, **arrays: tuple[int, ...]) -> np.dtype[np.void]:
    return np.dtype([(name, np.float64) for name in fields] + [(name, np.float64, arrays[name]) for name in arrays])


# launch_s: before and after the work: launch, first loads, last stores.
# memory_share: share of the data sheet's bandwidth that streaming operands reach.
# l2_speed: bandwidth of activations that lie in L2, in data-sheet bandwidths of device memory.
# l2_share, l2_sharpness: footprint, in L2 sizes, at which half of the activations lie there; exponent of the switch.
# tile_s, tile_area_s: prologue and epilogue of any tile, and for each 128 x 128 elements of one.
# quantised_share: 0, waves count as broken numbers (persistent kernels); 1, as whole ones.
# sm_bytes_per_s: rate at which one SM loads operands.
# split_s, split_speed: reduction after a split inner dimension; its fp32 partials, in data-sheet bandwidths.
# overlap: exponent p of (compute^p + memory^p)^(1/p): 1 no overlap, large complete overlap.
# throttle, throttle_s, throttle_sharpness: slow-down of long kernels (0.1 is 10 %) by the power limit; the
#   compute time at which half of it has set in; exponent of the switch.
# reread_region: side of the output region that shares operands through L2, in gemm_time.REGION sqrt(SMs).
# dispatched: 0, the library takes the best tile and split (cuBLAS); 1, it has kernels by the number of rows
#   alone and never splits (the CUTLASS kernels for one-byte operands).
# vector_s: before and after the work of a matrix-vector kernel, which one row may take instead.
# quantise_s, quantise_row_s, quantise_share: one-byte operands only: the kernel that quantises the 2-byte
#   activations first, the least seconds a row, and its share of the bandwidth.
# tile_efficiency: share of the peak in the main loop of each tile shape.
GEMM_PARAMETERS = _record(
    "launch_s",
    "memory_share",
    "l2_speed",
    "l2_share",
    "l2_sharpness",
    "tile_s",
    "tile_area_s",
    "quantised_share",
    "sm_bytes_per_s",
    "split_s",
    "split_speed",
    "overlap",
    "throttle",
    "throttle_s",
    "throttle_sharpness",
    "reread_region",
    "dispatched",
    "vector_s",
    "quantise_s",
    "quantise_row_s",
    "quantise_share",
    tile_efficiency=(len(TILE_ROWS),),
)
# As above where names agree; the switch of throttle is a square.
# packs: 1, the queries of one KV head share tiles (FlashAttention-3); 0, they do not.
# query_traffic, kv_traffic: passes over queries and outputs, keys and values (a kernel of its own writes the cache).
# tail: share of the longest tile that ends alone; balance: exponent that joins an SM's mean load and that tile.
PREFILL_ATTENTION_PARAMETERS = _record(
    "packs",
    "memory_share",
    "query_traffic",
    "kv_traffic",
    "l2_share",
    "tile_s",
    "tile_area_s",
    "tail",
    "balance",
    "throttle",
    "throttle_s",
    "overlap",
    query_tiles=(QUERY_TILES,),
    launch_s=(len(CAUSAL_SIZES),),
    fitted_size=(len(CAUSAL_SIZES),),
    tile_efficiency=(len(CAUSAL_SIZES), QUERY_TILES),
)
# flash2: 1, FlashAttention-2, which splits the cache whenever it is longer than split_tokens and the tiles
#   leave SMs idle, never splits without grouped queries, and copies the queries of several KV heads and
#   sequences (copy_s); 0, a kernel that takes the best split.
# slots: tiles that an SM holds at once. token_s: for each 4096 query and KV elements of a sequence (rotate, write).
# merge_s, merge_split_s, merge_speed: after a split, in all, per part, and for the partials.
DECODE_ATTENTION_PARAMETERS = _record(
    "flash2",
    "memory_share",
    "l2_speed",
    "l2_share",
    "l2_sharpness",
    "tile_s",
    "quantised_share",
    "slots",
    "split_tokens",
    "merge_s",
    "merge_split_s",
    "merge_speed",
    "token_s",
    "copy_s",
    "overlap",
    launch_s=(len(CAUSAL_SIZES),),
    fitted_size=(len(CAUSAL_SIZES),),
    sm_bytes_per_s=(len(CAUSAL_SIZES),),
)
ENCODER_ATTENTION_PARAMETERS = _record(
    "memory_share",
    "l2_speed",
    "l2_share",
    "tile_s",
    "tile_area_s",
    "quantised_share",
    "throttle",
    "throttle_s",
    "overlap",
    query_tiles=(QUERY_TILES,),
    launch_s=(len(ENCODER_SIZES),),
    fitted_size=(len(ENCODER_SIZES),),
    tile_efficiency=(len(ENCODER_SIZES), QUERY_TILES),
)
ELEMENTWISE_PARAMETERS = _record("launch_s", "memory_share", "overlap")
# launch_s: an all-reduce of no bytes; peer_s: more a peer; shares of the link in two shots and in one.
ALL_REDUCE_PARAMETERS = _record("launch_s", "peer_s", "link_share", "one_shot_share")

# Bands of predicted time that keep their own residual quantiles, each with as many measured rows.
BANDS = 12
# time_scale: what predicted times of the class are multiplied by before anything else, 1 unless a user's own
#   measurements say otherwise; never below the roofline. Then measured / predicted at 5 % and 95 %, by band.
INTERVAL = _record("time_scale", band_edges_s=(BANDS + 1,), ratio_p05=(BANDS,), ratio_p95=(BANDS,))


def roofline_gpu(
    flops_per_s: float,
    vector_flops_per_s: float,
    bandwidth_bytes_per_s: float,
    link_bytes_per_s: float,
    sm_count: float,
    l2_bytes: float = 1.0,
) -> GpuArrays:
    """A GPU of which nothing was measured: all its times are a roofline."""
    intervals = np.zeros(2 * NUM_TIME_CLASSES, INTERVAL)
    intervals["time_scale"] = 1.0
    return GpuArrays(
        flops_per_s=flops_per_s,
        activation_flops_per_s=flops_per_s,
        vector_flops_per_s=vector_flops_per_s,
        bandwidth_bytes_per_s=bandwidth_bytes_per_s,
        link_bytes_per_s=link_bytes_per_s,
        l2_bytes=l2_bytes,
        sm_count=float(sm_count),
        input_bytes=2.0,
        weight_bytes=2.0,
        host_s=0.0,
        host_p05=0.0,
        host_p95=0.0,
        gemm=np.zeros(2, GEMM_PARAMETERS),
        prefill_attention=np.zeros(1, PREFILL_ATTENTION_PARAMETERS),
        decode_attention=np.zeros(1, DECODE_ATTENTION_PARAMETERS),
        encoder_attention=np.zeros(1, ENCODER_ATTENTION_PARAMETERS),
        elementwise=np.zeros(1, ELEMENTWISE_PARAMETERS),
        all_reduce=np.zeros(1, ALL_REDUCE_PARAMETERS),
        intervals=intervals,
        sources=np.full(NUM_TIME_CLASSES, ROOFLINE, np.int64),
        stamp=next(_stamps),
    )


def with_scaled_times(gpu: GpuArrays, factors: Array) -> GpuArrays:
    """The GPU if each operator class took ``factors`` (``NUM_TIME_CLASSES``) times as long, never below its bound."""
    intervals = gpu.intervals.copy()
    intervals["time_scale"] *= np.tile(factors, 2)
    # A stamp of its own, or times kept of the other one would be taken for its own.
    return gpu._replace(intervals=intervals, host_s=gpu.host_s * float(factors[HOST_TIME]), stamp=next(_stamps))
