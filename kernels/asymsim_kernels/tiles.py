"""What kernel files share: tile costs, block sizes, dtypes and the description of one compilation."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

MAX_HEAD_SIZE = 128
"""Largest head size of the attention kernels; smaller ones are padded to a power of two in registers."""

LOG2_E = 1.4426950408889634
"""The kernels take exponentials in base 2, which the hardware has; scores are multiplied by this constant."""

DTYPE_NAMES = {torch.float16: "fp16", torch.bfloat16: "bf16", torch.float32: "fp32"}
"""Element types that the kernels take, by the name that Triton's signatures use."""

ELEMENT_BYTES = {"fp16": 2, "bf16": 2, "fp32": 4}

ARCHITECTURES = ("sm_80", "sm_90", "sm_100", "gfx942")
"""Targets with block sizes of their own; any other GPU runs those of sm_80, the smallest."""


class TileCost(NamedTuple):
    """What a kernel executes, padding included: the sum over all of its programs.

    Attributes
    ----------
    flops : int
        FLOPs of the matrix products on whole tiles, 2 a multiply-accumulate. Element-wise work is not in it.
    load_bytes, store_bytes : int
        Bytes that unmasked lanes read and write, every repetition counted: traffic before any cache.
    """

    flops: int
    load_bytes: int
    store_bytes: int


def add(costs: Iterable[TileCost]) -> TileCost:
    """Sum of the costs; all zeros for none."""
    flops = load_bytes = store_bytes = 0
    for cost in costs:
        flops += cost.flops
        load_bytes += cost.load_bytes
        store_bytes += cost.store_bytes
    return TileCost(flops, load_bytes, store_bytes)


class Blocks(NamedTuple):
    """Block sizes and scheduling of a launch: rows and columns of a tile, warps, software-pipeline stages."""

    m: int
    n: int
    warps: int = 4
    stages: int = 2


@dataclass(frozen=True, kw_only=True)
class Build:
    """One compilation of a kernel, enough for Triton to compile it without tensors or a GPU.

    Attributes
    ----------
    kernel : str
        Name of the kernel, for reports.
    label : str
        What sets this build apart from the kernel's others, such as ``"bf16 d128"``.
    function : JITFunction
        The ``@triton.jit`` function; interpreted functions cannot be compiled.
    arguments : dict of str to str
        Type of each run-time argument in Triton's notation (``"*bf16"``, ``"i32"``, ``"fp32"``).
    constants : dict
        Values of the ``tl.constexpr`` arguments and of strides known to be 1.
    aligned : tuple of str
        Arguments divisible by 16, as Triton finds them at a launch: pointers and strides of ordinary tensors.
    warps, stages : int
        ``num_warps`` and ``num_stages`` of the launch.
    matrix_flops : int
        FLOPs of the matrix products written in the kernel's code, each loop body counted once; 0 where the
        products do not run on matrix units (fp32 at full precision).
    """

    kernel: str
    label: str
    function: Any
    arguments: dict[str, str]
    constants: dict[str, Any]
    aligned: tuple[str, ...]
    warps: int
    stages: int
    matrix_flops: int


def ceil_div(a: int, b: int) -> int:
    """Quotient rounded up."""
    return -(-a // b)


def next_power_of_2(n: int) -> int:
    """Smallest power of two that is at least `n`; 1 for n < 1."""
    return 1 << max(0, n - 1).bit_length()


def padded_size(size: int) -> int:
    """Extent of a tile's side that holds `size`: a power of two, at least 16, the least that a matrix unit takes."""
    return max(16, next_power_of_2(size))


def stride_unit(*tensors: torch.Tensor) -> int:
    """Largest power of two, at most 16, that divides every stride but that of the last axis: what a load may assume."""
    return math.gcd(16, *(stride for tensor in tensors for stride in tensor.stride()[:-1]))


def architecture(device: torch.device) -> str:
    """Name of `device` among `ARCHITECTURES`; the CPU, which interprets, counts as the first of them.

    Parts of a generation with less shared memory than its data-centre part (sm_86, sm_89, sm_120) take sm_80's blocks.
    """
    if device.type != "cuda":
        return ARCHITECTURES[0]
    if torch.version.hip is not None:
        return "gfx942"
    major, _ = torch.cuda.get_device_capability(device)
    return {9: "sm_90", 10: "sm_100"}.get(major, ARCHITECTURES[0])
