"""Measured rows of an operator class, and their split into shape groups to fit on and shape groups held out.

A shape group is every row of one weight (n and k), one attention geometry (heads and head size) or one message size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from asymsim.calibration.table_rows import Rows
from asymsim.catalogue.gpu import Gpu
from asymsim.core.arrays import Array
from asymsim.core.times.device import Device

# Frozen before anything was fitted with it: another seed would let a choice be made on held-out shape groups.
SEED = 1729
HELD_OUT = 0.25
# Parts of the training shape groups, each left out once to see how far intervals reach.
FOLDS = 5


class MeasuredRows(NamedTuple):
    """Measured rows of one operator class on one GPU, ready to be predicted.

    Attributes
    ----------
    seconds, roofline_s : array, shape (rows,)
        Measured time, and the bound by peak and bandwidth with each operand moved once.
    held_out : array of bool, shape (rows,)
        Rows of shape groups that no fit may see.
    fold : array of int64, shape (rows,)
        One of FOLDS parts to which the row's shape group belongs, held out or not.
    columns : dict of str to array
        The shapes.
    predict : callable
        ``predict(index, parameters)``: seconds of the rows ``index`` with one record of fitted parameters, shape (1,).
    runs : tuple of str
        Columns that stay the same along a run of token counts in one shape group; the last is the token count.
    sizes : array of int64
        Index of each row's class of head size; empty where there are none.
    dropped : dict of str to int
        Rows left out, by exclusion rule.
    source : str
        Path of the table in the package.
    """

    seconds: Array
    roofline_s: Array
    held_out: Array
    fold: Array
    columns: dict[str, Array]
    predict: Callable[[Array, Array], Array]
    runs: tuple[str, ...]
    sizes: Array
    dropped: dict[str, int]
    source: str


def held_out(*shape_group: Array) -> Array:
    """Mask of the shape groups that SEED holds out: a hash of the group alone, the same on every GPU and framework.

    Parameters
    ----------
    *shape_group : array of whole numbers, shape (rows,)
        Columns that make a shape group, such as n and k of a weight.
    """
    return shape_group_hash(*shape_group) % np.uint64(10_000) < HELD_OUT * 10_000


def fold_of(*shape_group: Array) -> Array:
    """Fold of each row's shape group, int64 below FOLDS."""
    return (shape_group_hash(*shape_group) // np.uint64(10_000) % np.uint64(FOLDS)).astype(np.int64)


def shape_group_hash(*shape_group: Array) -> Array:
    """Hash of each row's shape group under SEED, uint64."""
    key = np.full(len(shape_group[0]), SEED, np.uint64)
    for column in shape_group:
        key = (key ^ column.astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        key ^= key >> np.uint64(29)
        key *= np.uint64(0xBF58476D1CE4E5B9)
        key ^= key >> np.uint64(32)
    return key


def assemble(
    rows: Rows,
    columns: dict[str, Array],
    *,
    shape_group: tuple[str, ...],
    runs: tuple[str, ...],
    bounds_s: Mapping[str, Array],
    many: Callable[[Array, Array, Array], None],
    sizes: Array | None = None,
) -> MeasuredRows:
    """Rows of a table that do not beat the hardware, ready to be predicted.

    Parameters
    ----------
    rows : Rows
    columns : dict of str to array
        Shapes as float64, in the order in which ``many`` takes them.
    shape_group : tuple of str
        Columns that make a shape group.
    runs : tuple of str
        As in `MeasuredRows`.
    bounds_s : mapping of str to array
        Least seconds of each row, by the exclusion rule of the rows below them.
    many : callable
        ``many(shapes, parameters, out)`` writes the seconds of all rows with one record of fitted parameters.
    sizes : array of int64, optional
    """
    keep = np.ones(len(rows), bool)
    dropped = dict(rows.dropped)
    for rule, bound in bounds_s.items():
        beaten = keep & (rows["seconds"] < bound)
        keep &= ~beaten
        if beaten.any():
            dropped[rule] = int(beaten.sum())
    kept = {name: column[keep] for name, column in columns.items()}
    group_columns = [kept[name] for name in shape_group]
    shapes = np.stack(list(kept.values()), axis=1)

    def predict(index: Array, parameters: Array) -> Array:
        out = np.empty(len(index))
        many(shapes[index], parameters, out)
        return out

    return MeasuredRows(
        seconds=rows["seconds"][keep],
        roofline_s=np.max(list(bounds_s.values()), axis=0)[keep],
        held_out=held_out(*group_columns),
        fold=fold_of(*group_columns),
        columns=kept,
        predict=predict,
        runs=runs,
        sizes=np.zeros(0, np.int64) if sizes is None else sizes[keep],
        dropped=dropped,
        source=rows.source,
    )


def device_of(gpu: Gpu, peak: str = "bf16") -> Device:
    """Data sheet of a GPU as the compiled kernels take it."""
    return Device(gpu.peak_flops_per_s[peak], gpu.bandwidth_bytes_per_s, float(gpu.l2_bytes), float(gpu.sm_count))


def hardware_bounds(device: Device, flops: Array, moved_bytes: Array) -> dict[str, Array]:
    """Least seconds by peak and by bandwidth, by the exclusion rule of the rows below them."""
    return {"beats_peak": flops / device.flops_per_s, "beats_memory": moved_bytes / device.bandwidth_bytes_per_s}
