"""Measured rows of an operator class, and the split into sites to fit on and sites to judge on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from machine import Array, Machine
from reader import Rows

SEED = 4
HELD_OUT = 0.25


class Table(NamedTuple):
    """Measured rows of one operator class on one GPU, ready to be predicted.

    ``predict(index, fitted)`` gives the seconds of the rows ``index`` with the fitted numbers.
    """

    seconds: Array
    roofline: Array
    held_out: Array
    predict: Callable[[Array, Any], Array]
    dropped: dict[str, int]
    source: str
    columns: dict[str, Array]


def held_out(*columns: Array) -> Array:
    """Mask of the sites that SEED holds out: a hash of the site alone, the same on every GPU and framework."""
    key = np.full(len(columns[0]), SEED, np.uint64)
    for column in columns:
        key = (key ^ column.astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        key ^= key >> np.uint64(29)
        key *= np.uint64(0xBF58476D1CE4E5B9)
        key ^= key >> np.uint64(32)
    return (key % np.uint64(10_000)) < HELD_OUT * 10_000


def assemble(
    rows: Rows,
    columns: dict[str, Array],
    site: tuple[str, ...],
    flops: Array,
    moved_bytes: Array,
    machine: Machine,
    many: Callable[[list[Array], Any, Array], None],
) -> Table:
    """A table without the rows that beat the hardware; ``many(columns, fitted, out)`` predicts rows in bulk."""
    compute_s, memory_s = flops / machine.flops_per_s, moved_bytes / machine.bandwidth_bytes_per_s
    beats_peak, beats_memory = rows["seconds"] < compute_s, rows["seconds"] < memory_s
    keep = ~beats_peak & ~beats_memory
    dropped = {
        **rows.dropped,
        "beats_peak": int(beats_peak.sum()),
        "beats_memory": int((beats_memory & ~beats_peak).sum()),
    }
    kept = {name: column[keep] for name, column in columns.items()}

    def predict(index: Array, fitted: Any) -> Array:
        out = np.empty(len(index))
        many([column[index] for column in kept.values()], fitted, out)
        return out

    return Table(
        rows["seconds"][keep],
        np.maximum(compute_s, memory_s)[keep],
        held_out(*(kept[name] for name in site)),
        predict,
        {name: count for name, count in dropped.items() if count},
        rows.source,
        kept,
    )


def size_class(head_size: Array, sizes: tuple[int, ...]) -> Array:
    """Index of the next larger head size, the last for all beyond."""
    return np.minimum(np.searchsorted(sizes, head_size), len(sizes) - 1)
