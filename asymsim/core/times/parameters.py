"""Records of the fitted parameters of operator times, one an operator class and GPU.

All fields are float64, so a vector of a search is a record by a change of view. Shares are of the data
sheet's rates; seconds are of one execution. Where a class has sizes, its arrays have one entry a size.
"""

from __future__ import annotations

import itertools

import numpy as np

from asymsim.core.arrays import Array, codes
from asymsim.core.times.gpu_arrays import GpuArrays

# Operator classes, each with its own fitted parameters and its own error.
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

# Sources of a time, least certain first: a sum is as certain as the least certain of its parts.
ROOFLINE, TRANSFERRED, FITTED, MEASURED = codes(4)
SOURCE_NAMES = ("roofline", "transferred", "fitted", "measured")

# Output tiles of matrix kernels, rows (tokens) x columns (features); each has its own efficiency.
TILE_ROWS = np.array([16.0, 32.0, 64.0, 128.0, 256.0, 64.0, 128.0, 256.0, 64.0, 128.0, 64.0])
TILE_COLUMNS = np.array([64.0, 64.0, 64.0, 64.0, 64.0, 128.0, 128.0, 128.0, 256.0, 256.0, 32.0])
# Head sizes of attention kernels. A head size takes the parameters of the next larger one, or of the last beyond.
CAUSAL_SIZES = (64, 128, 192, 256)
ENCODER_SIZES = (64, 72, 80)
QUERY_TILES = 3


def _record(*fields: str, **arrays: tuple[int, ...]) -> np.dtype[np.void]:
    return np.dtype([(name, np.float64) for name in fields] + [(name, np.float64, arrays[name]) for name in arrays])


GEMM_PARAMETERS = _record(
    "launch_s",  # before and after the work: launch, first loads, last stores
    "memory_share",  # share of the data sheet's bandwidth that streaming operands reach
    "l2_speed",  # bandwidth of activations in L2, in data-sheet bandwidths of device memory
    "l2_share",  # footprint, in L2 sizes, at which half of the activations are in L2
    "l2_sharpness",  # exponent of that switch
    "tile_s",  # prologue and epilogue of any tile
    "tile_area_s",  # the same for each 128 x 128 elements of a tile
    "quantised_share",  # 0: waves count as broken numbers (persistent kernels); 1: as whole ones
    "sm_bytes_per_s",  # rate at which one SM loads operands
    "split_s",  # reduction after a split inner dimension
    "split_speed",  # of its fp32 partials, in data-sheet bandwidths
    "overlap",  # exponent p of (compute^p + memory^p)^(1/p): 1 no overlap, large complete overlap
    "throttle",  # slow-down of long kernels by the power limit; 0.1 is 10 %
    "throttle_s",  # compute time at which half of it has set in
    "throttle_sharpness",  # exponent of that switch
    "reread_region",  # side of the output region that shares operands through L2, in gemm.REGION sqrt(SMs)
    "dispatched",  # 0: best tile and split (cuBLAS); 1: kernel by number of rows, no split (CUTLASS, one-byte operands)
    "vector_s",  # before and after the work of a matrix-vector kernel, which one row may take instead
    "quantise_s",  # one-byte operands: launch of the kernel that quantises the 2-byte activations first
    "quantise_row_s",  # its least seconds a row
    "quantise_share",  # its share of the bandwidth
    tile_efficiency=(len(TILE_ROWS),),  # share of the peak in the main loop of each tile shape
)
# Fields have the meaning that they have above where names agree; the switch of `throttle` is a square.
PREFILL_ATTENTION_PARAMETERS = _record(
    "packs",  # 1: the queries of one KV head share tiles (FlashAttention-3); 0: they do not
    "memory_share",
    "query_traffic",  # passes over queries and outputs
    "kv_traffic",  # passes over keys and values (a kernel of its own writes the cache)
    "l2_share",
    "tile_s",
    "tile_area_s",
    "tail",  # share of the longest tile that ends alone
    "balance",  # exponent that joins an SM's mean load and that tile
    "throttle",
    "throttle_s",
    "overlap",
    query_tiles=(QUERY_TILES,),  # query rows of each tile shape
    launch_s=(len(CAUSAL_SIZES),),
    fitted_size=(len(CAUSAL_SIZES),),  # 1: the head size was measured
    tile_efficiency=(len(CAUSAL_SIZES), QUERY_TILES),
)
# A kernel of FlashAttention-2 splits the cache whenever it is longer than `split_tokens` and the tiles leave SMs idle.
# It never splits without grouped queries, and copies the queries of several KV heads and sequences.
DECODE_ATTENTION_PARAMETERS = _record(
    "flash2",  # 1: FlashAttention-2; 0: a kernel that takes the best split
    "memory_share",
    "l2_speed",
    "l2_share",
    "l2_sharpness",
    "tile_s",
    "quantised_share",
    "slots",  # tiles that an SM runs at once
    "split_tokens",
    "merge_s",  # after a split
    "merge_split_s",  # after a split, for each part
    "merge_speed",  # of the partials, in data-sheet bandwidths
    "token_s",  # for each 4096 query and KV elements of a sequence: rotation, cache write
    "copy_s",  # of the queries
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
ALL_REDUCE_PARAMETERS = _record(
    "launch_s",  # of no bytes
    "peer_s",  # for each peer
    "link_share",  # share of the link's bandwidth in two shots
    "one_shot_share",  # share of the link's bandwidth in one shot
)

# Bands of predicted time that keep their own residual quantiles, each with as many measured rows.
BANDS = 12
INTERVAL = _record(
    "time_scale",  # factor of predicted times, 1 unless a user's measurements say otherwise; never below the roofline
    band_edges_s=(BANDS + 1,),
    ratio_p05=(BANDS,),  # measured / predicted at 5 %, by band
    ratio_p95=(BANDS,),  # measured / predicted at 95 %, by band
)


def roofline_gpu(
    flops_per_s: float,
    vector_flops_per_s: float,
    bandwidth_bytes_per_s: float,
    link_bytes_per_s: float,
    sm_count: float,
    l2_bytes: float = 1.0,
) -> GpuArrays:
    """A GPU without measurements: all its times are a roofline."""
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
    # With a new stamp, because a workspace keeps times by stamp.
    return gpu._replace(intervals=intervals, host_s=gpu.host_s * float(factors[HOST_TIME]), stamp=next(_stamps))
