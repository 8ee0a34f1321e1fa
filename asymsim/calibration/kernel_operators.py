"""Operator rows of one kernel at one shape, made by the formulas that estimates use.

A fused kernel is one row that reads each input once and writes each output once. A kernel that PyTorch runs operator by
operator ("materialised") is the rows that a method's schedule charges for the same work.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from asymsim.calibration.launch_shape import Shape
from asymsim.calibration.operator_rows import OperatorRows
from asymsim.catalogue.number_format import NumberFormat
from asymsim.core.arrays import Array
from asymsim.core.model_arrays import CAUSAL
from asymsim.core.operators.layout import DECODE, PREFILL, VISION
from asymsim.core.operators.mask_pairs import prefill_pairs
from asymsim.methods.common.operations import average_into, gather, normalise, reduce, similarity, top_k
from asymsim.methods.schedule import Operation
from asymsim.util.errors import InputError, UnknownNameError

# Kernels leave masses and logarithms of sums in fp32 whatever the type of their tensors.
LSE_BYTES = 4


def _attended_pairs(shape: Shape, counted: int = 0) -> list[tuple[int, int, int]]:
    """(queries, keys, pairs) of each sequence; of its last ``counted`` queries alone where that is not 0."""
    causal, window = shape.count("causal", 1), shape.count("window", 0)
    sequences: list[tuple[int, int, int]] = []
    for queries, keys in shape.pairs("queries", "keys"):
        q = min(queries, counted) if counted else queries
        if not causal:
            sequences.append((q, keys, q * keys))
            continue
        if queries > keys:
            raise InputError("shape", shape.text, "give causal queries that are the last of the keys")
        # Pairs of a query at every key, less the pairs of queries before the last q.
        all_pairs, earlier_pairs = (prefill_pairs(CAUSAL, tokens, 0, 0, window, 0) for tokens in (keys, keys - q))
        sequences.append((q, keys, all_pairs - earlier_pairs))
    return sequences


def _heads(shape: Shape) -> tuple[int, int, int]:
    heads, kv_heads = shape.count("heads"), shape.count("kv_heads")
    if kv_heads < 1 or heads < 1 or heads % kv_heads:
        raise InputError("shape", shape.text, "give heads as a positive multiple of kv_heads")
    return heads, kv_heads, shape.count("head_size")


def _prefill(rows: OperatorRows, shape: Shape, fused: bool) -> None:
    # Vision encoders attend without a mask.
    phase = PREFILL if shape.count("causal", 1) else VISION
    rows.attention(*_heads(shape), _attended_pairs(shape), fused, phase)


def _decode(rows: OperatorRows, shape: Shape, fused: bool) -> None:
    heads, kv_heads, size = _heads(shape)
    entries = shape.lengths("entries")
    entries_by_head = [entries[at : at + kv_heads] for at in range(0, len(entries), kv_heads)]
    if all(len(per_head) == kv_heads and len({*per_head}) == 1 for per_head in entries_by_head):
        sequences = [(1, per_head[0], per_head[0]) for per_head in entries_by_head]
        rows.attention(heads, kv_heads, size, sequences, fused, DECODE)
    else:
        # A cache evicted head by head: each KV head is charged as a sequence of its own.
        rows.attention(heads // kv_heads, 1, size, [(1, count, count) for count in entries], fused, DECODE)


def _column_mass(rows: OperatorRows, shape: Shape, fused: bool) -> None:
    heads, kv_heads, size = _heads(shape)
    rows.attention(heads, kv_heads, size, _attended_pairs(shape, shape.count("counted", 0)), fused)
    for row in rows.written():
        # Scores whose weights are summed by column: values are not read, outputs not computed.
        for name in ("flops", "torch_flops", "kv_read_bytes"):
            row[name] //= 2
        if fused:
            row["write_bytes"] = LSE_BYTES * row["n"] * row["groups"] // heads * kv_heads


def _scorer(rows: OperatorRows, shape: Shape, fused: bool) -> None:
    hidden, weighted = shape.count("hidden"), shape.count("weighted", 0)
    weight = Operation(kind="elementwise", stage="lm", rows="visual", columns="hidden", writes=1)
    chosen = [normalise("lm"), normalise("lm", 0, "text"), *([weight] if weighted else [])]
    chosen += [similarity("lm", rows="visual", columns="text"), reduce("lm", rows="visual", columns="text")]
    for (visual, text), times in Counter(shape.pairs("visual", "text")).items():
        if fused:
            rows.product(visual, text, hidden, times, visual * times)
        else:
            rows.operations(chosen, times, visual=visual, text=text, hidden=hidden)


def _similarity(rows: OperatorRows, shape: Shape, fused: bool) -> None:
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


def _top_k(rows: OperatorRows, shape: Shape, _fused: bool) -> None:
    rows.operations([top_k("lm", times="rows")], visual=sum(shape.lengths("tokens")), rows=shape.count("rows"))


def _merge_tokens(rows: OperatorRows, shape: Shape, fused: bool) -> None:
    kept, assigned, hidden = sum(shape.lengths("kept")), shape.count("assigned"), shape.count("hidden")
    if fused:
        rows.elementwise(assigned * hidden, kept * hidden, assigned * hidden)
        return
    chosen = [average_into("lm", width="hidden"), gather("lm", rows="kept")]
    rows.operations(chosen, kept=kept, dropped=max(0, assigned - kept), hidden=hidden)


def _compact(rows: OperatorRows, shape: Shape, _fused: bool) -> None:
    width = 2 * shape.count("head_size")
    rows.operations([gather("kv", rows="kv", width="kv_width")], kv=sum(shape.lengths("kept")), kv_width=width)


def _copy(rows: OperatorRows, shape: Shape, _fused: bool) -> None:
    elements = 8 * shape.count("bytes", largest=2**40) // rows.precision.activation_bits
    rows.elementwise(elements, elements)


def _matmul(rows: OperatorRows, shape: Shape, _fused: bool) -> None:
    rows.linear(*(shape.count(side) for side in "mnk"))


OPERATORS: dict[str, Callable[[OperatorRows, Shape, bool], None]] = {
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
        Its keys depend on the operator: queries and keys (prefill, column_mass), entries of each sequence and KV head
        (decode), heads, kv_heads, head_size; visual, text, hidden or joint (scorer, similarity); tokens, rows (top_k);
        kept, assigned, hidden (merge_tokens); kept, head_size (compact); bytes (copy); m, n, k (matmul).
    dtype : NumberFormat
        Number format of all tensors.
    fused : bool
        One pass, as the kernel runs; otherwise operator by operator, with intermediate tensors stored, as PyTorch runs.

    Returns
    -------
    numpy.ndarray of ``core.operators.layout.OPERATOR``

    Raises
    ------
    InputError
        If the operator is unknown, or the shape lacks a key of it or is out of range.
    """
    if operator not in OPERATORS:
        raise UnknownNameError("operator", operator, OPERATORS)
    rows = OperatorRows(dtype)
    try:
        OPERATORS[operator](rows, shape, fused)
        table = rows.written()
        # Compiled writers wrap where Python raises; four operations on each multiply-add bound every count.
        if any(4 * int(row["m"]) * int(row["n"]) * int(row["k"]) * int(row["groups"]) > 2**62 for row in table):
            raise OverflowError
    except OverflowError:
        raise InputError("shape", shape.text, "is too large to count in 64 bits") from None
    return table
