"""Builder of the operator rows of one kernel: attention, products, element-wise work and selection operations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from math import prod

import numpy as np

from asymsim.catalogue.number_format import NumberFormat
from asymsim.core.arrays import Array
from asymsim.core.model_arrays import LAYER, Precision
from asymsim.core.operators.attention_rows import AttentionShape, put_attention
from asymsim.core.operators.layout import GEMM, OPERATOR, PREFILL, REPLICATED, SELECT, SELECTION, UP
from asymsim.core.operators.rows import Placement, ProductShape, begin_row, put_elementwise, put_linear
from asymsim.methods.schedule import Operation


class OperatorRows:
    """Operator rows of tensors of one number format, on one GPU.

    Attributes
    ----------
    precision : Precision
    table : array of ``core.operators.layout.OPERATOR``
        Its first ``used`` rows are written.
    used : int
    """

    def __init__(self, dtype: NumberFormat) -> None:
        bits = dtype.activation_bits
        self.precision = Precision(weight_bits=bits, activation_bits=bits, kv_bits=bits, tp_size=1)
        self.table = np.zeros(64, OPERATOR)
        self.used = 0

    def written(self) -> Array:
        """The rows written so far."""
        return self.table[: self.used]

    def _next_row(self) -> tuple[Array, int]:
        """The table and the index of the next row; compiled writers do not check that the table is long enough."""
        if self.used == len(self.table):
            self.table = np.concatenate([self.table, np.zeros_like(self.table)])
        return self.table, self.used

    def _bytes(self, elements: int) -> int:
        return elements * self.precision.activation_bits // 8

    def attention(
        self,
        heads: int,
        kv_heads: int,
        head_size: int,
        sequences: Iterable[tuple[int, int, int]],
        fused: bool,
        phase: int = PREFILL,
    ) -> None:
        """Attention over (queries, keys, pairs) of each sequence, without the KV cache's writes."""
        layer = np.zeros(1, LAYER)[0]
        layer["heads"], layer["kv_heads"], layer["head_size"] = heads, kv_heads, head_size
        for (queries, keys, pairs), times in Counter(sequences).items():
            table, at = self._next_row()
            shape = AttentionShape(times, queries, keys, times * pairs, times * queries * keys)
            place = Placement(phase, 0, 1, 1)
            self.used = put_attention(table, at, layer, place, shape, int(not fused), self.precision)
            if self.used > at:
                table[at]["kv_write_bytes"] = 0

    def product(self, m: int, n: int, k: int, groups: int, written: int, count: int = 1) -> None:
        """``groups`` products of data with data, run ``count`` times, that write ``written`` elements in all."""
        if m * n * k * groups == 0:
            return
        table, at = self._next_row()
        begin_row(table, at, SELECT, GEMM, Placement(SELECTION, 0, 1, count), ProductShape(m, n, k))
        row = table[at]
        row["groups"] = groups
        row["flops"] = row["torch_flops"] = 2 * m * n * k * groups * count
        row["read_bytes"] = self._bytes((m * k + n * k) * groups * count)
        row["write_bytes"] = self._bytes(written)
        self.used += 1

    def linear(self, m: int, n: int, k: int) -> None:
        """Product of m tokens with a weight of n columns and k rows."""
        place, shape = Placement(PREFILL, 0, 1, 1), ProductShape(m, n, k)
        self.used = put_linear(*self._next_row(), UP, place, shape, REPLICATED, self.precision)

    def elementwise(self, read: int, written: int, flops: int = 0) -> None:
        """Element-wise kernel that reads and writes so many elements."""
        self.used = put_elementwise(
            *self._next_row(), SELECT, Placement(SELECTION, 0, 1, 1), self._bytes(read), self._bytes(written), flops
        )

    def operations(self, chosen: Iterable[Operation], sequences: int = 1, **sizes: int) -> None:
        """Selection operations of a schedule, at the sizes that they name."""

        def size(text: str) -> int:
            return prod(int(word) if word.isdigit() else sizes[word] for word in text.split("*"))

        for operation in chosen:
            m, n, k = size(operation.rows), size(operation.columns), size(operation.inner)
            times = size(operation.times) * sequences
            if operation.kind == "elementwise":
                elements = m * n * times
                flops = elements * operation.flops_per_element
                self.elementwise(elements * operation.reads, elements * operation.writes, flops)
            else:
                self.product(m, n, k, times, m * n * times)
