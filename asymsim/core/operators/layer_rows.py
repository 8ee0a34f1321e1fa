"""Operator rows of one layer but for its attention: projections, FFN or experts, element-wise work, all-reduces."""

from __future__ import annotations

from asymsim.core.arrays import Array, Record
from asymsim.core.jit import kernel
from asymsim.core.model_arrays import Precision
from asymsim.core.operators.layout import (
    ALL_REDUCE,
    BY_COLUMNS,
    BY_HEADS,
    BY_INNER,
    DECODE,
    DOWN,
    ELEMENTWISE_LAYER,
    GEMM,
    KEY_VALUE,
    OUTPUT,
    PREFILL,
    QKV,
    QUERY,
    REDUCE,
    REPLICATED,
    ROUTER,
    SHARED_DOWN,
    SHARED_UP,
    UP,
)
from asymsim.core.operators.rows import Placement, ProductShape, begin_row, put_elementwise, put_linear

# Element-wise FLOPs per element, our own count: square, sum, scale and weight of a norm; exp, multiply,
# add and divide of a gated activation; two multiplies and an add per rotated element. They are reported as
# a class of their own and never in a total.
NORM_FLOPS = 4
ACTIVATION_FLOPS = 5
ROPE_FLOPS = 3


@kernel
def touched_experts(tokens: int, active: int, experts: int) -> int:
    """Experts that any of ``tokens`` chose under uniform routing: E (1 - (1 - a/E)^tokens), rounded up."""
    # The small term keeps a product such as 5 (1 - 4/5) = 0.9999... from rounding down.
    untouched = int(experts * (1.0 - active / experts) ** tokens + 1e-9)
    return min(experts, tokens * active, max(active, experts - untouched))


@kernel
def put_experts(rows: Array, at: int, kind: Record, place: Placement, tokens: int, precision: Precision) -> int:
    """Router, routed experts and shared expert of a mixture of experts.

    Each of the ``experts`` is read once if any token chose it.
    """
    hidden, width, experts = kind["hidden_size"], kind["intermediate_size"], kind["experts"]
    active, executed = kind["experts_per_token"], kind["framework_experts_per_token"]
    router = ProductShape(tokens, experts, hidden)
    at = put_linear(rows, at, ROUTER, place, router, REPLICATED, precision)
    count = place.executions
    if tokens == 0 or count == 0:
        return at
    touched = touched_experts(tokens, active, experts)
    mean_tokens = -(-tokens * active // touched)
    for part in range(2):
        n, k = (kind["ups"] * width, hidden) if part == 0 else (hidden, width)
        name = UP if part == 0 else DOWN
        begin_row(rows, at, name, GEMM, place, ProductShape(mean_tokens, n, k))
        row = rows[at]
        row["groups"] = touched
        row["split"] = BY_COLUMNS if part == 0 else BY_INNER
        row["flops"] = 2 * tokens * active * n * k * count
        row["torch_flops"] = 2 * tokens * executed * n * k * count
        row["weight_bytes"] = touched * n * k * precision.weight_bits // 8 * count
        row["read_bytes"] = tokens * active * k * precision.activation_bits // 8 * count
        row["write_bytes"] = tokens * active * n * precision.activation_bits // 8 * count
        at += 1
    shared = kind["shared_intermediate_size"]
    if shared > 0:
        up, down = ProductShape(tokens, 2 * shared, hidden), ProductShape(tokens, hidden, shared)
        at = put_linear(rows, at, SHARED_UP, place, up, BY_COLUMNS, precision)
        at = put_linear(rows, at, SHARED_DOWN, place, down, BY_INNER, precision)
    return at


@kernel
def put_dense(
    rows: Array,
    at: int,
    kind: Record,
    place: Placement,
    tokens: int,
    kv_rows: int,
    mlp_tokens: int,
    precision: Precision,
) -> int:
    """All of a layer but its attention product: projections, FFN, element-wise work, all-reduces.

    ``kv_rows`` is the number of rows that keys and values are made of: ``tokens`` in
    self-attention, the visual tokens in cross-attention (0 once they are cached).
    """
    hidden, width = kind["hidden_size"], kind["intermediate_size"]
    query_width = kind["heads"] * kind["head_size"]
    kv_width = 2 * kind["kv_heads"] * kind["head_size"]
    if kind["cross"]:
        query, key_value = ProductShape(tokens, query_width, hidden), ProductShape(kv_rows, kv_width, hidden)
        at = put_linear(rows, at, QUERY, place, query, BY_COLUMNS, precision)
        at = put_linear(rows, at, KEY_VALUE, place, key_value, BY_COLUMNS, precision)
    else:
        qkv = ProductShape(tokens, query_width + kv_width, hidden)
        at = put_linear(rows, at, QKV, place, qkv, BY_COLUMNS, precision)
    at = put_linear(rows, at, OUTPUT, place, ProductShape(tokens, hidden, query_width), BY_INNER, precision)
    ups = kind["ups"]
    if kind["experts"] > 0:
        at = put_experts(rows, at, kind, place, mlp_tokens, precision)
        width = width * kind["experts_per_token"] + kind["shared_intermediate_size"]
    else:
        up, down = ProductShape(mlp_tokens, ups * width, hidden), ProductShape(mlp_tokens, hidden, width)
        at = put_linear(rows, at, UP, place, up, BY_COLUMNS, precision)
        at = put_linear(rows, at, DOWN, place, down, BY_INNER, precision)
    rotated = query_width + kv_width // 2 if place.phase in (PREFILL, DECODE) else 0
    norms = kind["norms"]
    # Norms read and write the stream; each of the two residual additions reads and writes it again.
    stream = tokens * (norms + 2) * hidden
    stream_flops = tokens * (NORM_FLOPS * norms + 2) * hidden
    # Rotation and activation follow heads and columns, which tensor parallelism divides.
    read, write = tokens * rotated + mlp_tokens * ups * width, tokens * rotated + mlp_tokens * width
    flops = tokens * ROPE_FLOPS * rotated + mlp_tokens * width * ACTIVATION_FLOPS
    bits = precision.activation_bits
    # Engines fuse a residual addition into the norm after it.
    divided = 1 + (1 if rotated > 0 else 0)
    if precision.tp_size > 1:
        before = at
        at = put_elementwise(rows, at, ELEMENTWISE_LAYER, place, read * bits // 8, write * bits // 8, flops, divided)
        if at > before:
            rows[before]["split"] = BY_HEADS
        read, write, flops, divided = 0, 0, 0, 0
    stream_read_bytes, stream_write_bytes = (stream + read) * bits // 8, (stream + write) * bits // 8
    at = put_elementwise(
        rows, at, ELEMENTWISE_LAYER, place, stream_read_bytes, stream_write_bytes, stream_flops + flops,
        max(1, norms + divided),
    )  # fmt: skip
    if precision.tp_size > 1 and tokens > 0 and place.executions > 0:
        twice = Placement(place.phase, place.layer, place.layers, 2 * place.executions)
        begin_row(rows, at, REDUCE, ALL_REDUCE, twice, ProductShape(tokens, hidden, 0))
        rows[at]["write_bytes"] = 2 * tokens * hidden * bits // 8 * place.executions
        at += 1
    return at
