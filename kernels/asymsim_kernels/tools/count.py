"""FLOPs and bytes that kernels execute, counted while Triton's interpreter runs them.

    with counting() as counts:
        prefill_attention(q, k, v, layout)
    assert counts.cost == cost(layout, ...)

Matrix FLOPs come from the shapes that reach the builder's dot, bytes from the lanes that a load's or store's mask lets
through times the element size. An atomic reads and writes. Nothing is cached: a tile loaded twice counts twice.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl

from asymsim_kernels.tiles import TileCost
from asymsim_kernels.tools.hooks import require_interpreter, wrapped


@dataclass
class Counts:
    """Totals since `counting` was entered; they grow while kernels run.

    Attributes
    ----------
    flops : int
        2 x rows x columns x inner extent of every dot, on whole tiles.
    load_bytes, store_bytes : int
        Bytes of the lanes that masks let through; atomics are in both.
    dots, loads, stores, atomics : int
        Operations on tiles or scalars, whatever their size.
    programs : int
        Grid points launched, those that return at once included.
    """

    flops: int = 0
    load_bytes: int = 0
    store_bytes: int = 0
    dots: int = 0
    loads: int = 0
    stores: int = 0
    atomics: int = 0
    programs: int = 0

    @property
    def cost(self) -> TileCost:
        """The three figures that a kernel's `cost` predicts."""
        return TileCost(self.flops, self.load_bytes, self.store_bytes)


@contextmanager
def counting() -> Iterator[Counts]:
    """Count what kernels launched inside the block execute. Blocks may nest; each counts for itself.

    Raises
    ------
    RuntimeError
        If kernels are compiled rather than interpreted, or if this triton's interpreter differs from the one that
        the counter was written for.
    """
    self_test()
    with _hooked() as counts:
        yield counts


@contextmanager
def _hooked() -> Iterator[Counts]:
    builder = require_interpreter().interpreter_builder
    counts = Counts()

    def dot(original: Callable[..., Any], a: Any, b: Any, *rest: Any) -> Any:
        *batch, m, k = a.data.shape
        counts.flops += 2 * int(np.prod(batch, dtype=np.int64)) * m * k * b.data.shape[-1]
        counts.dots += 1
        return original(a, b, *rest)

    def load(original: Callable[..., Any], pointers: Any, mask: Any, *rest: Any) -> Any:
        counts.load_bytes += int(np.count_nonzero(mask.data)) * _element_bytes(pointers)
        counts.loads += 1
        return original(pointers, mask, *rest)

    def store(original: Callable[..., Any], pointers: Any, value: Any, mask: Any, *rest: Any) -> Any:
        counts.store_bytes += int(np.count_nonzero(mask.data)) * _element_bytes(pointers)
        counts.stores += 1
        return original(pointers, value, mask, *rest)

    def atomic_rmw(original: Callable[..., Any], op: Any, pointers: Any, value: Any, mask: Any, *rest: Any) -> Any:
        size = int(np.count_nonzero(mask.data)) * _element_bytes(pointers)
        counts.load_bytes += size
        counts.store_bytes += size
        counts.atomics += 1
        return original(op, pointers, value, mask, *rest)

    def atomic_cas(original: Callable[..., Any], pointers: Any, *rest: Any) -> Any:
        size = pointers.data.size * _element_bytes(pointers)
        counts.load_bytes += size
        counts.store_bytes += size
        counts.atomics += 1
        return original(pointers, *rest)

    def grid_index(original: Callable[..., Any], *index: int) -> Any:
        counts.programs += 1
        return original(*index)

    with wrapped(
        builder,
        create_dot=dot,
        create_masked_load=load,
        create_masked_store=store,
        create_atomic_rmw=atomic_rmw,
        create_atomic_cas=atomic_cas,
        set_grid_idx=grid_index,
    ):
        yield counts


def _element_bytes(pointers: Any) -> int:
    return max(1, pointers.get_element_ty().primitive_bitwidth // 8)


@cache
def self_test() -> None:
    """Run one tile whose counts are known; RuntimeError naming the triton version if the counter misses one."""
    require_interpreter()
    x = torch.ones(16, 16, dtype=torch.float16)
    y, total = torch.zeros(16, 16), torch.zeros(1)
    with _hooked() as counts:
        _one_tile[(1,)](x, y, total, 12, SIDE=16)
    # Loads: 12 rows of x, the flag y[0, 0] and the atomic; stores: 12 rows of y and the atomic.
    expected = Counts(2 * 16**3, 12 * 16 * 2 + 4 + 4, 12 * 16 * 4 + 4, 1, 2, 1, 1, 1)
    right = bool((y[:12] == 12).all()) and not bool(y[12:].any()) and float(total) == 1
    if counts != expected or not right:
        raise RuntimeError(
            f"triton {triton.__version__}: the interpreter's counter saw {counts} where {expected} was executed; "
            "use triton 3.7.1, for which it was written"
        )


@triton.jit
def _one_tile(x_ptr, y_ptr, total_ptr, rows, SIDE: tl.constexpr):
    offsets = tl.arange(0, SIDE)[:, None] * SIDE + tl.arange(0, SIDE)[None, :]
    keep = tl.arange(0, SIDE)[:, None] < rows
    x = tl.load(x_ptr + offsets, mask=keep, other=0.0)
    flag = tl.load(y_ptr)
    tl.store(y_ptr + offsets, tl.dot(x, x) + flag, mask=keep)
    tl.atomic_add(total_ptr, 1.0)
