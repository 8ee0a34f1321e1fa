"""What a fit may move, where it begins and how far it may go; and what the GPU's architecture settles."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from asymsim.catalogue.fitted_parameters import SECTIONS
from asymsim.catalogue.gpu import Gpu
from asymsim.core.arrays import Array


class Number(NamedTuple):
    """A fitted number, or one of an array: where the search begins, and the bounds that physics gives it."""

    start: float | tuple[float, ...]
    low: float
    high: float


_GEMM = {
    "launch_s": Number(2.2e-6, 3e-7, 1e-5),
    "memory_share": Number(0.87, 0.4, 1.0),
    "l2_speed": Number(1.5, 1.0, 20.0),
    "l2_share": Number(0.6, 0.02, 3.0),
    "l2_sharpness": Number(3.0, 0.5, 8.0),
    "tile_s": Number(2e-7, 1e-8, 1e-5),
    "tile_area_s": Number(8e-7, 1e-9, 1e-5),
    "quantised_share": Number(0.2, 1e-3, 1.0),
    "sm_bytes_per_s": Number(150e9, 5e9, 1000e9),
    "overlap": Number(2.5, 1.0, 20.0),
    "throttle": Number(0.1, 1e-3, 2.0),
    "throttle_s": Number(6e-4, 2e-5, 5e-3),
    "throttle_sharpness": Number(2.0, 0.5, 6.0),
    "reread_region": Number(5.0, 0.1, 50.0),
    # In the order of efficiency.TILE_ROWS.
    "tile_efficiency": Number((0.12, 0.22, 0.5, 0.75, 0.8, 0.65, 0.8, 0.7, 0.8, 0.85, 0.3), 0.02, 1.0),
}
FREE_PARAMETERS: dict[str, dict[str, Number]] = {
    "gemm_bf16": {
        **_GEMM,
        "split_s": Number(2.5e-6, 1e-8, 2e-5),
        "split_speed": Number(1.0, 0.1, 50.0),
        "vector_s": Number(3e-6, 3e-7, 1e-5),
    },
    "gemm_fp8": {
        **_GEMM,
        "quantise_s": Number(1e-6, 1e-8, 1e-5),
        "quantise_row_s": Number(3e-9, 1e-11, 5e-8),
        "quantise_share": Number(0.4, 0.02, 1.0),
    },
    "prefill_attention": {
        "memory_share": Number(0.7, 0.1, 1.0),
        "query_traffic": Number(0.8, 0.05, 8.0),
        "kv_traffic": Number(2.0, 0.05, 8.0),
        "l2_share": Number(0.5, 0.05, 3.0),
        "tile_s": Number(1.5e-6, 1e-8, 1e-5),
        "tile_area_s": Number(5e-7, 1e-9, 1e-5),
        "tail": Number(0.2, 0.01, 1.5),
        "balance": Number(4.0, 1.0, 20.0),
        "throttle": Number(0.1, 1e-3, 2.0),
        "throttle_s": Number(2e-3, 2e-5, 2e-2),
        "overlap": Number(1.5, 1.0, 15.0),
        "launch_s": Number(9e-6, 5e-7, 4e-5),
        "tile_efficiency": Number(0.5, 0.03, 1.0),
    },
    "decode_attention": {
        "memory_share": Number(0.9, 0.3, 1.0),
        "l2_speed": Number(2.0, 1.0, 10.0),
        "l2_share": Number(0.7, 0.05, 3.0),
        "l2_sharpness": Number(8.0, 1.0, 20.0),
        "tile_s": Number(2e-6, 1e-8, 2e-5),
        "quantised_share": Number(0.6, 0.01, 1.0),
        "slots": Number(1.1, 0.5, 8.0),
        "split_tokens": Number(64.0, 16.0, 1024.0),
        "merge_s": Number(5e-7, 1e-8, 2e-5),
        "merge_split_s": Number(2e-7, 1e-9, 3e-6),
        "merge_speed": Number(1.0, 0.05, 20.0),
        "token_s": Number(1.5e-8, 1e-9, 2e-6),
        "copy_s": Number(2e-6, 1e-8, 2e-5),
        "overlap": Number(2.5, 1.0, 15.0),
        "launch_s": Number(8e-6, 5e-7, 4e-5),
        "sm_bytes_per_s": Number(60e9, 2e9, 600e9),
    },
    "encoder_attention": {
        "memory_share": Number(0.8, 0.2, 1.0),
        "l2_speed": Number(1.5, 1.0, 10.0),
        "l2_share": Number(0.5, 0.05, 3.0),
        "tile_s": Number(8e-7, 1e-8, 1e-5),
        "tile_area_s": Number(1e-6, 1e-9, 1e-5),
        "quantised_share": Number(0.7, 0.01, 1.0),
        "throttle": Number(0.05, 1e-3, 2.0),
        "throttle_s": Number(2e-3, 2e-5, 2e-2),
        "overlap": Number(2.0, 1.0, 15.0),
        "launch_s": Number(8e-6, 1e-6, 4e-5),
        "tile_efficiency": Number(0.5, 0.03, 1.0),
    },
    "elementwise": {
        "launch_s": Number(2e-6, 5e-7, 2e-5),
        "memory_share": Number(0.85, 0.2, 1.0),
        "overlap": Number(2.0, 1.0, 10.0),
    },
    # Link shares may exceed 1: switches that add up on the way halve the bytes.
    "all_reduce": {
        "launch_s": Number(4e-6, 5e-7, 5e-5),
        "peer_s": Number(5e-7, 1e-9, 1e-5),
        "link_share": Number(0.5, 0.005, 1.3),
        "one_shot_share": Number(0.3, 0.005, 1.3),
    },
    "grouped_gemm": {},
}
# Arrays with an entry, or a row, a class of head size: a class without measured rows has none of its own.
BY_SIZE = ("launch_s", "tile_efficiency", "sm_bytes_per_s")


def settled(section: str, device: Gpu) -> dict[str, float | tuple[float, ...]]:
    """Numbers that the kernel on this architecture settles.

    FlashAttention-3, Hopper's, packs queries; FlashAttention-2 serves Ampere, Ada and RTX Blackwell; data-centre
    Blackwell takes two query tiles of 128 at once. cuBLAS takes bf16 operands as they are and may split the inner
    dimension or take a matrix-vector kernel; vLLM's CUTLASS kernels for fp8 do neither.
    """
    if section == "gemm_bf16":
        return {"dispatched": 0.0, "quantise_s": 0.0, "quantise_row_s": 0.0, "quantise_share": 1.0}
    if section == "gemm_fp8":
        return {"dispatched": 1.0, "split_s": 0.0, "split_speed": 1.0, "vector_s": math.inf}
    return {
        "packs": float(device.architecture == "hopper"),
        "flash2": float(device.architecture in ("ampere", "ada", "blackwell_rtx")),
        "query_tiles": (64.0, 128.0, 256.0 if device.architecture == "blackwell" else 192.0),
    }


class SearchSpace(NamedTuple):
    """The vector that is a section's record, and the part of it that a search moves, bounds by entry."""

    dtype: np.dtype[np.void]
    start: Array
    low: Array
    high: Array
    free: Array

    def record(self, vector: Array) -> Array:
        """The whole vector as one record, shape (1,)."""
        return vector.view(self.dtype)


def search_space(section: str, device: Gpu, sizes: Array) -> SearchSpace:
    """Start and bounds of a section on a GPU.

    Parameters
    ----------
    section : str
    device : Gpu
    sizes : array of int64
        Index of the class of head size of each row to fit on; other classes stay at their start.
    """
    dtype = SECTIONS[section]
    fixed = settled(section, device)
    start, low, high, free = (np.zeros(1, dtype) for _ in range(4))
    for name in dtype.names or ():
        number = FREE_PARAMETERS[section].get(name)
        if number is not None:
            start[name], low[name], high[name], free[name] = number.start, number.low, number.high, 1.0
            if start[name].ndim > 1 and "fitted_size" in (dtype.names or ()):
                absent = np.setdiff1d(np.arange(start[name].shape[1]), sizes)
                free[name][0, absent] = 0.0
        elif name == "fitted_size":
            start[name] = np.isin(np.arange(start[name].shape[1]), sizes)
        else:
            start[name] = fixed[name]
    first, least, most, moved = (part.view(np.float64).ravel() for part in (start, low, high, free))
    return SearchSpace(dtype, first, least, most, moved > 0.0)


def fill_head_sizes(numbers: Array) -> None:
    """Give each class of head size without rows the numbers of the nearest that has some."""
    if "fitted_size" not in (numbers.dtype.names or ()):
        return
    fitted = np.flatnonzero(numbers["fitted_size"][0])
    for size in np.flatnonzero(numbers["fitted_size"][0] == 0.0):
        nearest = fitted[np.argmin(np.abs(fitted - size))]
        for name in BY_SIZE:
            if name in (numbers.dtype.names or ()):
                numbers[name][0, size] = numbers[name][0, nearest]
