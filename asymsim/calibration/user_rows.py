"""Measured times of one section from a user's file, as rows that a scale or a fit takes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from asymsim.calibration.shape_groups import MeasuredRows, fold_of, held_out
from asymsim.catalogue.gpu import Gpu
from asymsim.catalogue.number_format import NumberFormat
from asymsim.core.arrays import Array
from asymsim.core.times.gpu_arrays import GpuArrays
from asymsim.core.times.parameters import (
    CAUSAL_SIZES,
    DECODE_ATTENTION_TIME,
    ELEMENTWISE_TIME,
    ENCODER_ATTENTION_TIME,
    ENCODER_SIZES,
    FITTED,
    GEMM_TIME,
    PREFILL_ATTENTION_TIME,
)
from asymsim.core.times.row_time import row_roofline
from asymsim.estimator.gpu_arrays import gpu_arrays
from asymsim.estimator.operator_table import operator_times

HEAD_SIZES = {
    PREFILL_ATTENTION_TIME: CAUSAL_SIZES,
    DECODE_ATTENTION_TIME: CAUSAL_SIZES,
    ENCODER_ATTENTION_TIME: ENCODER_SIZES,
}
# Factor that lifts a time off its roofline; a power of two, so that no bit is lost.
_LIFT = 2.0**40


@dataclass(frozen=True)
class UserRows:
    """Measured times of one section on one GPU, a row for each distinct shape.

    Attributes
    ----------
    section : str
    time_class : int
        The operator class, such as ``core.times.parameters.GEMM_TIME``.
    gpu : Gpu
    dtype : NumberFormat
        The number format at whose rates the rows are predicted.
    operators : array of ``core.operators.layout.OPERATOR``
        Operators of all rows, one row after another.
    begin : array of int64, shape (rows,)
        Index of each row's first operator.
    seconds : array, shape (rows,)
        Measured times.
    shape_group : array of int64, shape (rows, fields)
        n and k of a product; heads, KV heads and head size of attention; bytes of element-wise kernels.
    """

    section: str
    time_class: int
    gpu: Gpu
    dtype: NumberFormat
    operators: Array
    begin: Array
    seconds: Array
    shape_group: Array

    def __len__(self) -> int:
        return len(self.seconds)

    def shape_group_index(self) -> Array:
        """Index of each row's shape group."""
        return np.unique(self.shape_group, axis=0, return_inverse=True)[1].ravel()

    def keep(self, mask: Array) -> UserRows:
        """The rows of a mask."""
        row_of_operator = np.repeat(np.arange(len(self)), np.diff([*self.begin, len(self.operators)]))
        lengths = np.bincount(row_of_operator, minlength=len(self))[mask]
        return UserRows(
            section=self.section,
            time_class=self.time_class,
            gpu=self.gpu,
            dtype=self.dtype,
            operators=self.operators[mask[row_of_operator]],
            begin=np.cumsum(lengths) - lengths,
            seconds=self.seconds[mask],
            shape_group=self.shape_group[mask],
        )

    def simulated_seconds(self, arrays: GpuArrays) -> Array:
        """Predicted seconds of each row before scale and roofline; alters the scales of ``arrays``."""
        arrays.intervals["time_scale"] = _LIFT
        return np.add.reduceat(operator_times(self.operators, arrays, 1)[0][:, 1] / _LIFT, self.begin)

    def roofline_seconds(self, arrays: GpuArrays) -> Array:
        """Seconds of each row that peak and bandwidth allow."""
        return np.add.reduceat([row_roofline(row, arrays, 1) for row in self.operators], self.begin)

    def measured_rows(self) -> MeasuredRows:
        """The rows as a fit takes them; head sizes without fitted parameters must have been left out."""
        arrays = gpu_arrays(self.gpu, self.dtype)
        class_parameters = {
            GEMM_TIME: arrays.gemm[:1],
            PREFILL_ATTENTION_TIME: arrays.prefill_attention,
            DECODE_ATTENTION_TIME: arrays.decode_attention,
            ENCODER_ATTENTION_TIME: arrays.encoder_attention,
            ELEMENTWISE_TIME: arrays.elementwise,
        }[self.time_class]
        arrays.sources[self.time_class] = FITTED
        first_operators = self.operators[self.begin]
        group_columns = [column.astype(np.float64) for column in self.shape_group.T]
        tokens = first_operators["n"] if self.time_class == DECODE_ATTENTION_TIME else first_operators["m"]
        head_sizes = HEAD_SIZES.get(self.time_class)

        def predict(index: Array, parameters: Array) -> Array:
            class_parameters[:] = parameters
            return self.simulated_seconds(arrays)[index]

        return MeasuredRows(
            seconds=self.seconds,
            roofline_s=self.roofline_seconds(arrays),
            held_out=held_out(*group_columns),
            fold=fold_of(*group_columns),
            columns={"shape_group": self.shape_group_index(), "groups": first_operators["groups"], "tokens": tokens},
            predict=predict,
            runs=("shape_group", "groups", "tokens"),
            sizes=np.searchsorted(head_sizes, first_operators["k"]) if head_sizes else np.zeros(0, np.int64),
            dropped={},
            source="",
        )
