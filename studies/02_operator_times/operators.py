"""The fitted operator classes by name: their rows, their numbers, and the named tuple of a vector of numbers."""

from __future__ import annotations

from typing import Any

import context_attention
import encoder_attention
import gemm
import generation_attention
import numpy as np
from machine import Array, Number
from table import Table

CLASSES = ("gemm_bf16", "gemm_fp8", "context_attention", "generation_attention", "encoder_attention")
ATTENTION = {
    "context_attention": context_attention,
    "generation_attention": generation_attention,
    "encoder_attention": encoder_attention,
}


def load(gpu: str, kind: str, framework: str = "vllm") -> Table | None:
    """Rows of an operator class, traps dropped by name; None where the GPU has no table."""
    if kind in ATTENTION:
        return ATTENTION[kind].load(gpu, framework)
    return gemm.load(gpu, kind, framework)


def numbers_of(kind: str) -> list[Number]:
    """The fitted numbers of a class."""
    return ATTENTION[kind].NUMBERS if kind in ATTENTION else gemm.numbers_of(kind)


def build(kind: str, gpu: str, vector: Array) -> Any:
    """The named tuple of a parameter vector."""
    values: dict[str, Any] = {}
    for number, part in zip(numbers_of(kind), _parts(kind, vector), strict=True):
        values[number.name] = float(part[0]) if number.count == 1 else np.array(part)
    return ATTENTION[kind].build(gpu, values) if kind in ATTENTION else gemm.build(kind, values)


def start_of(kind: str) -> tuple[Array, Array, Array]:
    """Start, low and high of the whole vector."""
    numbers = numbers_of(kind)
    counts = [number.count for number in numbers]
    start, low, high = (
        np.repeat([getattr(number, field) for number in numbers], counts) for field in ("start", "low", "high")
    )
    if kind not in ATTENTION:
        start[-len(gemm.TILE_START) :] = gemm.TILE_START
    return start, low, high


def vector_of(kind: str, record: dict[str, Any]) -> Array:
    """The vector of a record's numbers."""
    return np.concatenate([np.ravel(record[number.name]) for number in numbers_of(kind)]).astype(float)


def _parts(kind: str, vector: Array) -> list[Array]:
    return np.split(vector, np.cumsum([number.count for number in numbers_of(kind)])[:-1])
