"""Operator rows of attention: one pass over a prompt, decode steps over a cache."""

from __future__ import annotations

from typing import NamedTuple

from asymsim.core.arrays import Array, Record
from asymsim.core.jit import kernel
from asymsim.core.model_arrays import Precision
from asymsim.core.operators.layout import ATTEND, ATTENTION, BY_HEADS, PREFILL, UNFUSED_ATTENTION
from asymsim.core.operators.rows import Placement, ProductShape, begin_row

# Element-wise FLOPs per query-key pair, our own count: max, subtract, exp, sum and divide of a softmax.
SOFTMAX_FLOPS = 5


class AttentionShape(NamedTuple):
    """Attention of ``queries`` to ``keys`` in each of ``sequences``.

    ``pairs`` are the query-key pairs that the mask allows and ``torch_pairs`` those that the framework multiplies, both
    of all sequences together.
    """

    sequences: int
    queries: int
    keys: int
    pairs: int
    torch_pairs: int


@kernel
def put_attention(
    rows: Array, at: int, kind: Record, place: Placement, shape: AttentionShape, unfused: int, precision: Precision
) -> int:
    """Attention of one pass over the sequences, once in each layer.

    Unfused attention stores the weights: written and read around the softmax, and read again for the
    product with the values, over the whole rectangle.
    """
    count = place.executions
    if count == 0 or shape.sequences * shape.queries * shape.keys == 0:
        return at
    product = ProductShape(shape.queries, shape.keys, kind["head_size"])
    begin_row(rows, at, ATTEND, UNFUSED_ATTENTION if unfused else ATTENTION, place, product)
    row = rows[at]
    heads, size, bits = kind["heads"], kind["head_size"], precision.activation_bits
    row["groups"] = shape.sequences * heads
    row["heads"] = heads
    row["kv_heads"] = kind["kv_heads"]
    row["split"] = BY_HEADS
    row["flops"] = 4 * shape.pairs * heads * size * count
    row["torch_flops"] = 4 * shape.torch_pairs * heads * size * count
    row["elementwise_flops"] = SOFTMAX_FLOPS * shape.pairs * heads * count
    row["read_bytes"] = shape.sequences * shape.queries * heads * size * bits // 8 * count
    row["write_bytes"] = row["read_bytes"]
    kv_bits = precision.kv_bits if place.phase == PREFILL else bits
    row["kv_read_bytes"] = shape.sequences * shape.keys * 2 * kind["kv_heads"] * size * kv_bits // 8 * count
    if place.phase == PREFILL:
        row["kv_write_bytes"] = row["kv_read_bytes"]
    if unfused:
        weights_bytes = shape.torch_pairs * heads * bits // 8 * count
        row["read_bytes"] += 2 * weights_bytes
        row["write_bytes"] += 2 * weights_bytes
    return at + 1


@kernel
def kv_entry_bytes(kind: Record, layers: int, precision: Precision) -> int:
    """Key and value of one token and KV head in ``layers``."""
    return 2 * kind["head_size"] * precision.kv_bits // 8 * layers


@kernel
def put_decode_attention(
    rows: Array,
    at: int,
    kind: Record,
    place: Placement,
    sequences: int,
    attended: int,
    torch_attended: int,
    precision: Precision,
) -> int:
    """Attention of decode steps of ``sequences``, ``place.executions`` being layers x steps.

    ``attended`` entries are those of all steps and KV heads together; the row's shape has a step's mean number of them.
    """
    count = place.executions
    if count == 0 or attended == 0:
        return at
    kv_heads, size, steps = kind["kv_heads"], kind["head_size"], count // place.layers
    mean_keys = int(attended / (kv_heads * steps * sequences))
    begin_row(rows, at, ATTEND, ATTENTION, place, ProductShape(1, mean_keys, size))
    row = rows[at]
    row["groups"] = sequences * kind["heads"]
    row["heads"] = kind["heads"]
    row["kv_heads"] = kv_heads
    row["split"] = BY_HEADS
    flops = 4 * kind["queries_per_kv_head"] * size * place.layers
    row["flops"] = attended * flops
    row["torch_flops"] = torch_attended * flops
    row["elementwise_flops"] = SOFTMAX_FLOPS * attended * kind["queries_per_kv_head"] * place.layers
    row["read_bytes"] = sequences * kind["heads"] * size * precision.activation_bits // 8 * place.executions
    row["write_bytes"] = row["read_bytes"]
    entry_bytes = kv_entry_bytes(kind, place.layers, precision)
    row["kv_read_bytes"] = attended * entry_bytes
    if not kind["cross"]:
        row["kv_write_bytes"] = sequences * steps * kv_heads * entry_bytes
    return at + 1
