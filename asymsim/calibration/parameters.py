"""Parameters of a fit: starting values and bounds of the free ones, and values that the GPU's architecture fixes."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from asymsim.catalogue.fitted_parameters import SECTIONS
from asymsim.catalogue.gpu import Gpu
from asymsim.core.arrays import Array


class FreeParameter(NamedTuple):
    """Starting value and physical bounds of a fitted parameter, or of each element of an array."""

    start: float | tuple[float, ...]
    low: float
    high: float


_GEMM = {
    "launch_s": FreeParameter(2.2e-6, 3e-7, 1e-5),
    "memory_share": FreeParameter(0.87, 0.4, 1.0),
    "l2_speed": FreeParameter(1.5, 1.0, 20.0),
    "l2_share": FreeParameter(0.6, 0.02, 3.0),
    "l2_sharpness": FreeParameter(3.0, 0.5, 8.0),
    "tile_s": FreeParameter(2e-7, 1e-8, 1e-5),
    "tile_area_s": FreeParameter(8e-7, 1e-9, 1e-5),
    "quantised_share": FreeParameter(0.2, 1e-3, 1.0),
    "sm_bytes_per_s": FreeParameter(150e9, 5e9, 1000e9),
    "overlap": FreeParameter(2.5, 1.0, 20.0),
    "throttle": FreeParameter(0.1, 1e-3, 2.0),
    "throttle_s": FreeParameter(6e-4, 2e-5, 5e-3),
    "throttle_sharpness": FreeParameter(2.0, 0.5, 6.0),
    "reread_region": FreeParameter(5.0, 0.1, 50.0),
    # In the order of core.times.parameters.TILE_ROWS.
    "tile_efficiency": FreeParameter((0.12, 0.22, 0.5, 0.75, 0.8, 0.65, 0.8, 0.7, 0.8, 0.85, 0.3), 0.02, 1.0),
}
FREE_PARAMETERS: dict[str, dict[str, FreeParameter]] = {
    "gemm_bf16": {
        **_GEMM,
        "split_s": FreeParameter(2.5e-6, 1e-8, 2e-5),
        "split_speed": FreeParameter(1.0, 0.1, 50.0),
        "vector_s": FreeParameter(3e-6, 3e-7, 1e-5),
    },
    "gemm_fp8": {
        **_GEMM,
        "quantise_s": FreeParameter(1e-6, 1e-8, 1e-5),
        "quantise_row_s": FreeParameter(3e-9, 1e-11, 5e-8),
        "quantise_share": FreeParameter(0.4, 0.02, 1.0),
    },
    "prefill_attention": {
        "memory_share": FreeParameter(0.7, 0.1, 1.0),
        "query_traffic": FreeParameter(0.8, 0.05, 8.0),
        "kv_traffic": FreeParameter(2.0, 0.05, 8.0),
        "l2_share": FreeParameter(0.5, 0.05, 3.0),
        "tile_s": FreeParameter(1.5e-6, 1e-8, 1e-5),
        "tile_area_s": FreeParameter(5e-7, 1e-9, 1e-5),
        "tail": FreeParameter(0.2, 0.01, 1.5),
        "balance": FreeParameter(4.0, 1.0, 20.0),
        "throttle": FreeParameter(0.1, 1e-3, 2.0),
        "throttle_s": FreeParameter(2e-3, 2e-5, 2e-2),
        "overlap": FreeParameter(1.5, 1.0, 15.0),
        "launch_s": FreeParameter(9e-6, 5e-7, 4e-5),
        "tile_efficiency": FreeParameter(0.5, 0.03, 1.0),
    },
    "decode_attention": {
        "memory_share": FreeParameter(0.9, 0.3, 1.0),
        "l2_speed": FreeParameter(2.0, 1.0, 10.0),
        "l2_share": FreeParameter(0.7, 0.05, 3.0),
        "l2_sharpness": FreeParameter(8.0, 1.0, 20.0),
        "tile_s": FreeParameter(2e-6, 1e-8, 2e-5),
        "quantised_share": FreeParameter(0.6, 0.01, 1.0),
        "slots": FreeParameter(1.1, 0.5, 8.0),
        "split_tokens": FreeParameter(64.0, 16.0, 1024.0),
        "merge_s": FreeParameter(5e-7, 1e-8, 2e-5),
        "merge_split_s": FreeParameter(2e-7, 1e-9, 3e-6),
        "merge_speed": FreeParameter(1.0, 0.05, 20.0),
        "token_s": FreeParameter(1.5e-8, 1e-9, 2e-6),
        "copy_s": FreeParameter(2e-6, 1e-8, 2e-5),
        "overlap": FreeParameter(2.5, 1.0, 15.0),
        "launch_s": FreeParameter(8e-6, 5e-7, 4e-5),
        "sm_bytes_per_s": FreeParameter(60e9, 2e9, 600e9),
    },
    "encoder_attention": {
        "memory_share": FreeParameter(0.8, 0.2, 1.0),
        "l2_speed": FreeParameter(1.5, 1.0, 10.0),
        "l2_share": FreeParameter(0.5, 0.05, 3.0),
        "tile_s": FreeParameter(8e-7, 1e-8, 1e-5),
        "tile_area_s": FreeParameter(1e-6, 1e-9, 1e-5),
        "quantised_share": FreeParameter(0.7, 0.01, 1.0),
        "throttle": FreeParameter(0.05, 1e-3, 2.0),
        "throttle_s": FreeParameter(2e-3, 2e-5, 2e-2),
        "overlap": FreeParameter(2.0, 1.0, 15.0),
        "launch_s": FreeParameter(8e-6, 1e-6, 4e-5),
        "tile_efficiency": FreeParameter(0.5, 0.03, 1.0),
    },
    "elementwise": {
        "launch_s": FreeParameter(2e-6, 5e-7, 2e-5),
        "memory_share": FreeParameter(0.85, 0.2, 1.0),
        "overlap": FreeParameter(2.0, 1.0, 10.0),
    },
    # Link shares may exceed 1: switches that add up in the network halve the bytes.
    "all_reduce": {
        "launch_s": FreeParameter(4e-6, 5e-7, 5e-5),
        "peer_s": FreeParameter(5e-7, 1e-9, 1e-5),
        "link_share": FreeParameter(0.5, 0.005, 1.3),
        "one_shot_share": FreeParameter(0.3, 0.005, 1.3),
    },
    "grouped_gemm": {},
}
# Arrays with an entry, or a row, for each class of head size; a class without measured rows has nothing to fit.
BY_HEAD_SIZE = ("launch_s", "tile_efficiency", "sm_bytes_per_s")


def fixed_parameters(section: str, gpu: Gpu) -> dict[str, float | tuple[float, ...]]:
    """Parameters that the kernel on this architecture fixes.

    FlashAttention-3, on Hopper, packs queries; FlashAttention-2 serves Ampere, Ada and RTX Blackwell; data-centre
    Blackwell takes two query tiles of 128 at once. cuBLAS takes bf16 operands as they are and may split the inner
    dimension or take a matrix-vector kernel; vLLM's CUTLASS kernels for fp8 do neither.
    """
    if section == "gemm_bf16":
        return {"dispatched": 0.0, "quantise_s": 0.0, "quantise_row_s": 0.0, "quantise_share": 1.0}
    if section == "gemm_fp8":
        return {"dispatched": 1.0, "split_s": 0.0, "split_speed": 1.0, "vector_s": math.inf}
    return {
        "packs": float(gpu.architecture == "hopper"),
        "flash2": float(gpu.architecture in ("ampere", "ada", "blackwell_rtx")),
        "query_tiles": (64.0, 128.0, 256.0 if gpu.architecture == "blackwell" else 192.0),
    }


class SearchSpace(NamedTuple):
    """Vector of a section's parameters, with the bounds of each element and a mask of the ones that a search moves."""

    dtype: np.dtype[np.void]
    start: Array
    low: Array
    high: Array
    free: Array

    def record(self, vector: Array) -> Array:
        """The vector of all parameters as one record, shape (1,)."""
        return vector.view(self.dtype)


def search_space(section: str, gpu: Gpu, sizes: Array) -> SearchSpace:
    """Start and bounds of a section on a GPU.

    Parameters
    ----------
    section : str
    gpu : Gpu
    sizes : array of int64
        Index of the class of head size of each row to fit on; other classes keep their starting values.
    """
    dtype = SECTIONS[section]
    fixed = fixed_parameters(section, gpu)
    start, low, high, free = (np.zeros(1, dtype) for _ in range(4))
    for name in dtype.names or ():
        parameter = FREE_PARAMETERS[section].get(name)
        if parameter is not None:
            start[name], low[name], high[name], free[name] = parameter.start, parameter.low, parameter.high, 1.0
            if start[name].ndim > 1 and "fitted_size" in (dtype.names or ()):
                absent = np.setdiff1d(np.arange(start[name].shape[1]), sizes)
                free[name][0, absent] = 0.0
        elif name == "fitted_size":
            start[name] = np.isin(np.arange(start[name].shape[1]), sizes)
        else:
            start[name] = fixed[name]
    start_vector, low_vector, high_vector, free_vector = (
        record.view(np.float64).ravel() for record in (start, low, high, free)
    )
    return SearchSpace(dtype, start_vector, low_vector, high_vector, free_vector > 0.0)


def fill_head_sizes(parameters: Array) -> None:
    """Copy the parameters of each class of head size without rows from the nearest class with rows."""
    if "fitted_size" not in (parameters.dtype.names or ()):
        return
    fitted = np.flatnonzero(parameters["fitted_size"][0])
    for size in np.flatnonzero(parameters["fitted_size"][0] == 0.0):
        nearest = fitted[np.argmin(np.abs(fitted - size))]
        for name in BY_HEAD_SIZE:
            if name in (parameters.dtype.names or ()):
                parameters[name][0, size] = parameters[name][0, nearest]
