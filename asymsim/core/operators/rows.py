"""Operator rows of single operators: a matrix product with a weight, element-wise work.

Shapes are those of the whole model; times divide them by the tensor-parallel size.
"""

from __future__ import annotations

from typing import NamedTuple

from asymsim.core.arrays import Array
from asymsim.core.jit import kernel
from asymsim.core.model_arrays import Precision
from asymsim.core.operators.layout import ELEMENTWISE, GEMM, REPLICATED


class Placement(NamedTuple):
    """Where and how often an operator runs.

    Attributes
    ----------
    phase : index of ``PHASE_NAMES``.
    layer, layers : the first of ``layers`` equal layers.
    executions : in all of these layers together.
    """

    phase: int
    layer: int
    layers: int
    executions: int


class ProductShape(NamedTuple):
    """A product of m rows with a weight of n columns, over an inner dimension k."""

    m: int
    n: int
    k: int


@kernel
def begin_row(rows: Array, at: int, name: int, kind: int, place: Placement, shape: ProductShape) -> None:
    """Begin row ``at`` with all its costs at zero."""
    row = rows[at]
    row["name"] = name
    row["kind"] = kind
    row["phase"] = place.phase
    row["layer"] = place.layer
    row["layers"] = place.layers
    row["count"] = place.executions
    row["m"] = shape.m
    row["n"] = shape.n
    row["k"] = shape.k
    row["groups"] = 1
    row["heads"] = 1
    row["kv_heads"] = 1
    row["split"] = REPLICATED
    row["flops"] = 0
    row["torch_flops"] = 0
    row["elementwise_flops"] = 0
    row["weight_bytes"] = 0
    row["read_bytes"] = 0
    row["write_bytes"] = 0
    row["kv_read_bytes"] = 0
    row["kv_write_bytes"] = 0


@kernel
def repeat(rows: Array, at: int, times: int) -> None:
    """Turn row ``at`` into ``times`` executions of itself."""
    row = rows[at]
    row["count"] *= times
    row["flops"] *= times
    row["torch_flops"] *= times
    row["elementwise_flops"] *= times
    row["weight_bytes"] *= times
    row["read_bytes"] *= times
    row["write_bytes"] *= times
    row["kv_read_bytes"] *= times
    row["kv_write_bytes"] *= times


@kernel
def put_linear(
    rows: Array, at: int, name: int, place: Placement, shape: ProductShape, split: int, precision: Precision
) -> int:
    """A product of ``m`` rows with an n x k weight; returns the next free row."""
    m, n, k = shape
    count = place.executions
    if m == 0 or count == 0:
        return at
    begin_row(rows, at, name, GEMM, place, shape)
    row = rows[at]
    row["split"] = split
    row["flops"] = 2 * m * n * k * count
    row["torch_flops"] = row["flops"]
    row["weight_bytes"] = n * k * precision.weight_bits // 8 * count
    row["read_bytes"] = m * k * precision.activation_bits // 8 * count
    row["write_bytes"] = m * n * precision.activation_bits // 8 * count
    return at + 1


@kernel
def put_elementwise(
    rows: Array, at: int, name: int, place: Placement, read_bytes: int, write_bytes: int, flops: int, kernels: int = 1
) -> int:
    """Memory-bound work without matrix products, in ``kernels`` launches an execution."""
    count = place.executions
    if count == 0 or read_bytes + write_bytes == 0:
        return at
    begin_row(rows, at, name, ELEMENTWISE, place, ProductShape(0, 0, 0))
    row = rows[at]
    row["groups"] = kernels
    row["elementwise_flops"] = flops * count
    row["read_bytes"] = read_bytes * count
    row["write_bytes"] = write_bytes * count
    return at + 1
