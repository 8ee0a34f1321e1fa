"""What the simulator charges for one kernel at one shape: operator rows, made by the formulas that estimates use.

A fused kernel is one row that reads each input once and writes each output once. What PyTorch runs operator by operator
("materialised") is the rows that a method's schedule charges for the same work.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from math import prod

import numpy as np

from asymsim.calibration.launch_shape import Shape
from asymsim.catalogue.number_format import NumberFormat
from asymsim.core.arrays import Array
from asymsim.core.model_arrays import CAUSAL, LAYER, Precision
from asymsim.core.operators.layout import DECODE, GEMM, OPERATOR, PREFILL, REPLICATED, SELECT, SELECTION, UP, VISION
from asymsim.core.operators.mask_pairs import prefill_pairs
from asymsim.core.operators.rows import begin_row, put_attention, put_elementwise, put_linear
from asymsim.methods.common.operations import average_into, gather, normalise, reduce, similarity, top_k
from asymsim.methods.schedule import Operation
from asymsim.util.errors import InputError, UnknownNameError

LSE_BYTES = 4
"""Kernels leave masses and logarithms of sums in fp32 whatever the type of their tensors."""


class _Rows:
    """Operator rows in the making."""

    def __init__(self, dtype: NumberFormat) -> None:
        bits = dtype.activation_bits
        self.precision = Precision(weight_bits=bits, activation_bits=bits, kv_bits=bits, tp_size=1)
        self.table = np.zeros(64, OPERATOR)
        self.used = 0

    def _room(self) -> tuple[Array, int]:
        """The table with room for a row, which the compiled writers do not check, and where it goes."""
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
        work: Iterable[tuple[int, int, int]],
        fused: bool,
        phase: int = PREFILL,
    ) -> None:
        """Rows for (queries, keys, pairs) of each sequence, without the cache writes of a whole layer."""
        kind = np.zeros(1, LAYER)[0]
        kind["heads"], kind["kv_heads"], kind["head_size"] = heads, kv_heads, head_size
        for (queries, keys, pairs), times in Counter(work).items():
            table, at = self._room()
            self.used = put_attention(
                table, at, kind, phase, 0, 1, times, queries, keys, times * pairs, times * queries * keys,
                int(not fused), self.precision,
            )  # fmt: skip
            if self.used > at:
                table[at]["kv_write_bytes"] = 0

    def product(self, m: int, n: int, k: int, groups: int, written: int, count: int = 1) -> None:
        """`groups` products of data with data, `count` times over, leaving `written` elements in all."""
        if m * n * k * groups == 0:
            return
        table, at = self._room()
        begin_row(table, at, SELECT, GEMM, SELECTION, 0, 1, count, m, n, k)
        row = table[at]
        row["groups"] = groups
        row["flops"] = row["torch_flops"] = 2 * m * n * k * groups * count
        row["read_bytes"] = self._bytes((m * k + n * k) * groups * count)
        row["write_bytes"] = self._bytes(written)
        self.used += 1

    def linear(self, m: int, n: int, k: int) -> None:
        """A product with a weight."""
        self.used = put_linear(*self._room(), UP, PREFILL, 0, 1, 1, m, n, k, REPLICATED, self.precision)

    def moved(self, read: int, written: int, flops: int = 0) -> None:
        """Element-wise work on elements read and written."""
        self.used = put_elementwise(
            *self._room(), SELECT, SELECTION, 0, 1, 1, self._bytes(read), self._bytes(written), flops
        )

    def operations(self, chosen: Iterable[Operation], sequences: int = 1, **quantities: int) -> None:
        """What a schedule charges for selection operators, at the quantities that they name."""

        def size(text: str) -> int:
            return prod(int(word) if word.isdigit() else quantities[word] for word in text.split("*"))

        for each in chosen:
            m, n, k, times = size(each.rows), size(each.columns), size(each.inner), size(each.times) * sequences
            if each.kind == "elementwise":
                elements = m * n * times
                self.moved(elements * each.reads, elements * each.writes, elements * each.flops_per_element)
            else:
                self.product(m, n, k, times, m * n * times)


def _work(shape: Shape, counted: int = 0) -> list[tuple[int, int, int]]:
    """(queries, keys, pairs) of each sequence, of its last `counted` queries where that is not 0."""
    causal, window, work = shape.count("causal", 1), shape.count("window", 0), []
    for queries, keys in shape.pairs("queries", "keys"):
        q = min(queries, counted) if counted else queries
        if not causal:
            work.append((q, keys, q * keys))
            continue
        if queries > keys:
            raise InputError("shape", shape.text, "give causal queries that are the last of the keys")
        # What all keys' own queries would see, less what those before the last q see.
        pairs = [prefill_pairs(CAUSAL, n, 0, 0, window, 0) for n in (keys, keys - q)]
        work.append((q, keys, pairs[0] - pairs[1]))
    return work


def _heads(shape: Shape) -> tuple[int, int, int]:
    heads, kv_heads = shape.count("heads"), shape.count("kv_heads")
    if kv_heads < 1 or heads < 1 or heads % kv_heads:
        raise InputError("shape", shape.text, "give heads as a positive multiple of kv_heads")
    return heads, kv_heads, shape.count("head_size")


def _prefill(rows: _Rows, shape: Shape, fused: bool) -> None:
    # Without a mask it is what vision encoders run.
    phase = PREFILL if shape.count("causal", 1) else VISION
    rows.attention(*_heads(shape), _work(shape), fused, phase)


def _decode(rows: _Rows, shape: Shape, fused: bool) -> None:
    heads, kv_heads, size = _heads(shape)
    entries = shape.lengths("entries")
    sequences = [entries[at : at + kv_heads] for at in range(0, len(entries), kv_heads)]
    if all(len(each) == kv_heads and len({*each}) == 1 for each in sequences):
        work = [(1, each[0], each[0]) for each in sequences]
        rows.attention(heads, kv_heads, size, work, fused, DECODE)
    else:
        # Evicted head by head: each KV head is a sequence of its own.
        work = [(1, count, count) for count in entries]
        rows.attention(heads // kv_heads, 1, size, work, fused, DECODE)


def _column_mass(rows: _Rows, shape: Shape, fused: bool) -> None:
    heads, kv_heads, size = _heads(shape)
    rows.attention(heads, kv_heads, size, _work(shape, shape.count("counted", 0)), fused)
    for row in rows.table[: rows.used]:
        # Scores alone, whose weights are summed down: neither values nor outputs.
        for name in ("flops", "torch_flops", "kv_read_bytes"):
            row[name] //= 2
        if fused:
            row["write_bytes"] = LSE_BYTES * row["n"] * row["groups"] // heads * kv_heads


def _scorer(rows: _Rows, shape: Shape, fused: bool) -> None:
    hidden, weighted = shape.count("hidden"), shape.count("weighted", 0)
    weight = Operation(kind="elementwise", stage="lm", rows="visual", columns="hidden", writes=1)
    chosen = [normalise("lm"), normalise("lm", 0, "text"), *([weight] if weighted else [])]
    chosen += [similarity("lm", rows="visual", columns="text"), reduce("lm", rows="visual", columns="text")]
    for (visual, text), times in Counter(shape.pairs("visual", "text")).items():
        if fused:
            rows.product(visual, text, hidden, times, visual * times)
        else:
            rows.operations(chosen, times, visual=visual, text=text, hidden=hidden)


def _similarity(rows: _Rows, shape: Shape, fused: bool) -> None:
    joint = shape.count("joint")
    softmax = Operation(
        kind="elementwise", stage="lm", rows="visual", columns="text", times="2", reads=2, writes=1, flops_per_element=6
    )
    mean = Operation(kind="elementwise", stage="lm", rows="visual", columns="text", reads=3, flops_per_element=3)
    sides = [similarity("lm", rows=side, columns="1", inner="joint") for side in ("visual", "text")]
    chosen = [similarity("lm", rows="visual", columns="text", inner="joint"), *sides, softmax, mean]
    for (visual, text), times in Counter(shape.pairs("visual", "text")).items():
        if fused:
            # Once for the statistics of the softmax over the visual tokens, once for the scores.
            rows.product(visual, text, joint, times, 2 * visual * times, count=2)
        else:
            rows.operations(chosen, times, visual=visual, text=text, joint=joint)


def _top_k(rows: _Rows, shape: Shape, _fused: bool) -> None:
    rows.operations([top_k("lm", times="rows")], visual=sum(shape.lengths("tokens")), rows=shape.count("rows"))


def _merge_tokens(rows: _Rows, shape: Shape, fused: bool) -> None:
    kept, assigned, hidden = sum(shape.lengths("kept")), shape.count("assigned"), shape.count("hidden")
    if fused:
        rows.moved(assigned * hidden, kept * hidden, assigned * hidden)
        return
    chosen = [average_into("lm", width="hidden"), gather("lm", rows="kept")]
    rows.operations(chosen, kept=kept, dropped=max(0, assigned - kept), hidden=hidden)


def _compact(rows: _Rows, shape: Shape, _fused: bool) -> None:
    width = 2 * shape.count("head_size")
    rows.operations([gather("kv", rows="kv", width="kv_width")], kv=sum(shape.lengths("kept")), kv_width=width)


def _copy(rows: _Rows, shape: Shape, _fused: bool) -> None:
    elements = 8 * shape.count("bytes", largest=2**40) // rows.precision.activation_bits
    rows.moved(elements, elements)


def _matmul(rows: _Rows, shape: Shape, _fused: bool) -> None:
    rows.linear(*(shape.count(side) for side in "mnk"))


OPERATORS: dict[str, Callable[[_Rows, Shape, bool], None]] = {
    "prefill": _prefill,
    "decode": _decode,
    "column_mass": _column_mass,
    "scorer": _scorer,
    "similarity": _similarity,
    "top_k": _top_k,
    "merge_tokens": _merge_tokens,
    "compact": _compact,
    "copy": _copy,
    "matmul": _matmul,
}


def kernel_rows(operator: str, shape: Shape, dtype: NumberFormat, *, fused: bool = True) -> Array:
    """Operator rows of one kernel.

    Parameters
    ----------
    operator : str
        One of `OPERATORS`.
    shape : Shape
        With the keys that the operator needs: queries and keys (prefill, column_mass), entries of each sequence and KV
        head (decode), heads, kv_heads, head_size; visual, text, hidden or joint (scorer, similarity); tokens, rows
        (top_k); kept, assigned, hidden (merge_tokens); kept, head_size (compact); bytes (copy); m, n, k (matmul).
    dtype : Dtype
        Of all tensors.
    fused : bool
        As the kernel runs it, in one pass; otherwise as PyTorch does, storing what lies between.

    Returns
    -------
    numpy.ndarray of ``core.operators.layout.OPERATOR``

    Raises
    ------
    InputError
        If the operator is unknown, or the shape lacks what it needs or is out of range.
    """
    if operator not in OPERATORS:
        raise UnknownNameError("operator", operator, OPERATORS)
    rows = _Rows(dtype)
    try:
        OPERATORS[operator](rows, shape, fused)
        table = rows.table[: rows.used]
        # Compiled writers wrap where Python raises; four operations on each multiply-add bound every count.
        if any(4 * int(row["m"]) * int(row["n"]) * int(row["k"]) * int(row["groups"]) > 2**62 for row in table):
            raise OverflowError
    except OverflowError:
        raise InputError("shape", shape.text, "is too large to count in 64 bits") from None
    return table
