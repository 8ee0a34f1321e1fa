"""Writers of operator rows: one matrix product, one attention, one layer's dense part.

Shapes here are those of the whole model; ``latency`` divides them by the tensor-parallel size.
"""

from __future__ import annotations

from asymsim.core.arrays import Array, Record
from asymsim.core.jit import kernel
from asymsim.core.model_arrays import Precision
from asymsim.core.operators.layout import (
    ALL_REDUCE,
    ATTEND,
    ATTENTION,
    BY_COLUMNS,
    BY_HEADS,
    BY_INNER,
    DECODE,
    DOWN,
    ELEMENTWISE,
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
    UNFUSED_ATTENTION,
    UP,
)

# Element-wise FLOPs per element, our own count: square, sum, scale and weight of a norm; exp, multiply,
# add and divide of a gated activation; two multiplies and an add per rotated element; max, subtract,
# exp, sum and divide of a softmax. They are reported as a class of their own and never in a total.
NORM_FLOPS = 4
ACTIVATION_FLOPS = 5
ROPE_FLOPS = 3
SOFTMAX_FLOPS = 5


@kernel
def begin_row(
    rows: Array, at: int, name: int, kind: int, phase: int, layer: int, layers: int, count: int, m: int, n: int, k: int
) -> None:
    """Begin row ``at`` with all its costs at zero."""
    row = rows[at]
    row["name"] = name
    row["kind"] = kind
    row["phase"] = phase
    row["layer"] = layer
    row["layers"] = layers
    row["count"] = count
    row["m"] = m
    row["n"] = n
    row["k"] = k
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
    rows: Array,
    at: int,
    name: int,
    phase: int,
    layer: int,
    layers: int,
    count: int,
    m: int,
    n: int,
    k: int,
    split: int,
    precision: Precision,
) -> int:
    """A product of ``m`` rows with an n x k weight, ``count`` times; returns the next free row."""
    if m == 0 or count == 0:
        return at
    begin_row(rows, at, name, GEMM, phase, layer, layers, count, m, n, k)
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
    rows: Array,
    at: int,
    name: int,
    phase: int,
    layer: int,
    layers: int,
    count: int,
    read_bytes: int,
    write_bytes: int,
    flops: int,
    kernels: int = 1,
) -> int:
    """Memory-bound work without matrix products, ``count`` times, in ``kernels`` launches each time."""
    if count == 0 or read_bytes + write_bytes == 0:
        return at
    begin_row(rows, at, name, ELEMENTWISE, phase, layer, layers, count, 0, 0, 0)
    row = rows[at]
    row["groups"] = kernels
    row["elementwise_flops"] = flops * count
    row["read_bytes"] = read_bytes * count
    row["write_bytes"] = write_bytes * count
    return at + 1


@kernel
def touched_experts(tokens: int, active: int, experts: int) -> int:
    """Experts that any of ``tokens`` chose under uniform routing: E (1 - (1 - a/E)^tokens), rounded up."""
    # The small term keeps a product such as 5 (1 - 4/5) = 0.9999... from rounding down.
    untouched = int(experts * (1.0 - active / experts) ** tokens + 1e-9)
    return min(experts, tokens * active, max(active, experts - untouched))


@kernel
def put_experts(
    rows: Array,
    at: int,
    kind: Record,
    phase: int,
    layer: int,
    layers: int,
    count: int,
    tokens: int,
    precision: Precision,
) -> int:
    """Router, routed experts and shared expert of a mixture of experts.

    Each of the ``experts`` is read once if any token chose it.
    """
    hidden, width, experts = kind["hidden_size"], kind["intermediate_size"], kind["experts"]
    active, executed = kind["experts_per_token"], kind["framework_experts_per_token"]
    at = put_linear(rows, at, ROUTER, phase, layer, layers, count, tokens, experts, hidden, REPLICATED, precision)
    if tokens == 0 or count == 0:
        return at
    touched = touched_experts(tokens, active, experts)
    each = -(-tokens * active // touched)
    for part in range(2):
        n, k = (kind["ups"] * width, hidden) if part == 0 else (hidden, width)
        name = UP if part == 0 else DOWN
        begin_row(rows, at, name, GEMM, phase, layer, layers, count, each, n, k)
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
        at = put_linear(
            rows, at, SHARED_UP, phase, layer, layers, count, tokens, 2 * shared, hidden, BY_COLUMNS, precision
        )
        at = put_linear(rows, at, SHARED_DOWN, phase, layer, layers, count, tokens, hidden, shared, BY_INNER, precision)
    return at


@kernel
def put_dense(
    rows: Array,
    at: int,
    kind: Record,
    phase: int,
    layer: int,
    layers: int,
    count: int,
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
        at = put_linear(
            rows, at, QUERY, phase, layer, layers, count, tokens, query_width, hidden, BY_COLUMNS, precision
        )
        at = put_linear(
            rows, at, KEY_VALUE, phase, layer, layers, count, kv_rows, kv_width, hidden, BY_COLUMNS, precision
        )
    else:
        at = put_linear(
            rows, at, QKV, phase, layer, layers, count, tokens, query_width + kv_width, hidden, BY_COLUMNS, precision
        )
    at = put_linear(rows, at, OUTPUT, phase, layer, layers, count, tokens, hidden, query_width, BY_INNER, precision)
    ups = kind["ups"]
    if kind["experts"] > 0:
        at = put_experts(rows, at, kind, phase, layer, layers, count, mlp_tokens, precision)
        width = width * kind["experts_per_token"] + kind["shared_intermediate_size"]
    else:
        at = put_linear(
            rows, at, UP, phase, layer, layers, count, mlp_tokens, ups * width, hidden, BY_COLUMNS, precision
        )
        at = put_linear(rows, at, DOWN, phase, layer, layers, count, mlp_tokens, hidden, width, BY_INNER, precision)
    rotated = query_width + kv_width // 2 if phase in (PREFILL, DECODE) else 0
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
        at = put_elementwise(
            rows,
            at,
            ELEMENTWISE_LAYER,
            phase,
            layer,
            layers,
            count,
            read * bits // 8,
            write * bits // 8,
            flops,
            divided,
        )
        if at > before:
            rows[before]["split"] = BY_HEADS
        read, write, flops, divided = 0, 0, 0, 0
    at = put_elementwise(
        rows,
        at,
        ELEMENTWISE_LAYER,
        phase,
        layer,
        layers,
        count,
        (stream + read) * bits // 8,
        (stream + write) * bits // 8,
        stream_flops + flops,
        max(1, norms + divided),
    )
    if precision.tp_size > 1 and tokens > 0 and count > 0:
        begin_row(rows, at, REDUCE, ALL_REDUCE, phase, layer, layers, 2 * count, tokens, hidden, 0)
        rows[at]["write_bytes"] = 2 * tokens * hidden * bits // 8 * count
        at += 1
    return at


@kernel
def put_attention(
    rows: Array,
    at: int,
    kind: Record,
    phase: int,
    layer: int,
    layers: int,
    sequences: int,
    queries: int,
    keys: int,
    pairs: int,
    torch_pairs: int,
    unfused: int,
    precision: Precision,
) -> int:
    """Attention of one pass over ``sequences`` of ``queries`` x ``keys``; ``pairs`` are totals over them.

    Unfused attention stores the weights: written and read around the softmax, and read again for the
    product with the values, over the whole rectangle.
    """
    if layers == 0 or sequences * queries * keys == 0:
        return at
    begin_row(
        rows,
        at,
        ATTEND,
        UNFUSED_ATTENTION if unfused else ATTENTION,
        phase,
        layer,
        layers,
        layers,
        queries,
        keys,
        kind["head_size"],
    )
    row = rows[at]
    heads, size, bits = kind["heads"], kind["head_size"], precision.activation_bits
    row["groups"] = sequences * heads
    row["heads"] = heads
    row["kv_heads"] = kind["kv_heads"]
    row["split"] = BY_HEADS
    row["flops"] = 4 * pairs * heads * size * layers
    row["torch_flops"] = 4 * torch_pairs * heads * size * layers
    row["elementwise_flops"] = SOFTMAX_FLOPS * pairs * heads * layers
    row["read_bytes"] = sequences * queries * heads * size * bits // 8 * layers
    row["write_bytes"] = row["read_bytes"]
    kv_bits = precision.kv_bits if phase == PREFILL else bits
    row["kv_read_bytes"] = sequences * keys * 2 * kind["kv_heads"] * size * kv_bits // 8 * layers
    if phase == PREFILL:
        row["kv_write_bytes"] = row["kv_read_bytes"]
    if unfused:
        weights_bytes = torch_pairs * heads * bits // 8 * layers
        row["read_bytes"] += 2 * weights_bytes
        row["write_bytes"] += 2 * weights_bytes
    return at + 1
