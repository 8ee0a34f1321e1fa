"""Checks of launchers' arguments: one ValueError that names the argument, its value and what would be right.

A kernel that is given a wrong shape or length reads foreign memory or returns numbers that look plausible, so all of
this happens before the launch. Checks of shapes and types cost no device synchronisation; `lengths_within` and
`sorted_within` read values back, and launchers let the caller skip them in a hot loop.
"""

from __future__ import annotations

from typing import NoReturn

import torch

from asymsim_kernels.tiles import DTYPE_NAMES, MAX_HEAD_SIZE

INT32_MAX = 2**31 - 1


def fail(name: str, value: object, remedy: str) -> NoReturn:
    """Raise the ValueError that every check raises."""
    raise ValueError(f"{name} = {value}: {remedy}")


def floating(name: str, tensor: torch.Tensor) -> str:
    """Name of the tensor's element type if kernels take it."""
    if tensor.dtype not in DTYPE_NAMES:
        fail(f"{name}.dtype", tensor.dtype, f"must be one of {', '.join(str(d) for d in DTYPE_NAMES)}")
    return DTYPE_NAMES[tensor.dtype]


def same_dtype(**tensors: torch.Tensor) -> str:
    """Name of the one element type that all the tensors must have."""
    (first, reference), *others = tensors.items()
    name = floating(first, reference)
    for other, tensor in others:
        if tensor.dtype != reference.dtype:
            fail(f"{other}.dtype", tensor.dtype, f"must be {reference.dtype}, that of {first}")
    return name


def same_device(**tensors: torch.Tensor) -> torch.device:
    """The one device on which all the tensors must lie."""
    (first, reference), *others = tensors.items()
    for other, tensor in others:
        if tensor.device != reference.device:
            fail(f"{other}.device", tensor.device, f"must be {reference.device}, that of {first}")
    return reference.device


def shape(name: str, tensor: torch.Tensor, expected: tuple[int | None, ...], axes: str) -> None:
    """Check the number of axes and each extent that is not None; `axes` says in words what they are."""
    if tensor.dim() != len(expected):
        fail(f"{name}.shape", tuple(tensor.shape), f"must have {len(expected)} axes: {axes}")
    for size, right in zip(tensor.shape, expected, strict=True):
        if right is not None and size != right:
            wanted = ", ".join("any" if e is None else str(e) for e in expected)
            fail(f"{name}.shape", tuple(tensor.shape), f"must be ({wanted}): {axes}")


def integers(name: str, tensor: torch.Tensor) -> None:
    """Check that the tensor holds int32, the type in which the kernels read positions and lengths."""
    if tensor.dtype != torch.int32:
        fail(f"{name}.dtype", tensor.dtype, "must be torch.int32")


def head_groups(query_heads: int, kv_heads: int) -> int:
    """Query heads that share one KV head."""
    if kv_heads < 1 or query_heads < 1 or query_heads % kv_heads:
        fail("query heads", query_heads, f"must be a positive multiple of the KV heads ({kv_heads})")
    return query_heads // kv_heads


def head_size(size: int) -> None:
    """Check that the attention kernels take this head size."""
    if not 1 <= size <= MAX_HEAD_SIZE:
        fail("head size", size, f"must be from 1 to {MAX_HEAD_SIZE}")


def softmax_scale(scale: float | None, size: int) -> float:
    """The scale given, or 1/sqrt(head size); positive, since the kernels take the row maximum before scaling."""
    if scale is None:
        return size**-0.5
    if not 0 < scale < float("inf"):
        fail("scale", scale, "must be positive and finite")
    return float(scale)


def tile_extents(**extents: int) -> None:
    """Check the sides of a tile: Triton takes powers of two, and matrix units at least 16."""
    for name, extent in extents.items():
        if extent < 16 or extent & (extent - 1):
            fail(name, extent, "must be a power of two of at least 16")


def below_int32(name: str, value: int) -> None:
    """Check an index that kernels compute in int32."""
    if value > INT32_MAX:
        fail(name, value, f"must be at most {INT32_MAX}, since kernels index it in int32; split the batch")


def lengths_within(name: str, lengths: torch.Tensor, capacity: int) -> None:
    """Check every length against the cache's capacity. Reads back two values from the device."""
    if lengths.numel() == 0:
        return
    low, high = (int(x) for x in torch.aminmax(lengths))
    if low < 0:
        fail(name, low, "lengths must not be negative")
    if high > capacity:
        fail(name, high, f"lengths must not exceed the cache's capacity of {capacity} entries")


def sorted_within(name: str, values: torch.Tensor, cu_lengths: list[int]) -> None:
    """Check that `values` never decrease inside each packed sequence. Reads back one index from the device."""
    if values.numel() < 2:
        return
    falls = values[1:] < values[:-1]
    boundaries = [c - 1 for c in cu_lengths[1:-1] if 0 < c < values.numel()]
    falls[torch.tensor(boundaries, dtype=torch.long, device=values.device)] = False
    if bool(falls.any()):
        at = int(falls.nonzero()[0, 0]) + 1
        remedy = f"must not be below {name}[{at - 1}] = {int(values[at - 1])}: sort each sequence's tokens by position"
        fail(f"{name}[{at}]", int(values[at]), remedy)
