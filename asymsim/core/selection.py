"""Operator rows for the work that a pruning method itself adds."""

from __future__ import annotations

from asymsim.core.jit import inlined, kernel
from asymsim.core.layout import (
    ATTENTION,
    ATTENTION_RULE,
    DECODE_SELECTION,
    DECODING,
    DIVIDE_UP,
    ELEMENTWISE_RULE,
    ENCODER_END,
    FACTORS,
    GEMM,
    KV,
    MULTIPLY,
    PROJECTION_RULE,
    REPLICATED,
    S_DROPPED,
    S_KEPT,
    S_KV,
    S_LAYERS,
    S_MERGED,
    S_ORIGINAL,
    S_REMAINING,
    S_SEQUENCES,
    S_TEXT,
    S_TOKENS,
    S_TOWER_TOKENS,
    S_VISUAL,
    SELECT,
    SELECTION,
    Array,
    Load,
    ModelArrays,
    Precision,
    Record,
    ScheduleArrays,
    Workspace,
)
from asymsim.core.rows import put, put_elementwise, put_linear


@kernel
def product(factors: Array, symbols: Array) -> int:
    """A dimension: symbols and literals multiplied and divided from left to right; a divisor of 0 counts as 1."""
    size = 1
    for index in range(FACTORS):
        value, sign = symbols[factors[index, 0]], factors[index, 1]
        if sign == MULTIPLY:
            size *= value
        elif sign == DIVIDE_UP:
            size = -(-size // max(1, value))
        else:
            size //= max(1, value)
    return size


@kernel
def put_operation(
    rows: Array, at: int, rule: Record, symbols: Array, layer: int, steps: int, batch: int, precision: Precision
) -> int:
    """One selection operator at one place; ``steps`` executions of it."""
    m, n = product(rule["rows"], symbols), product(rule["columns"], symbols)
    k, times = product(rule["inner"], symbols), product(rule["times"], symbols)
    phase = DECODE_SELECTION if rule["stage"] == DECODING else SELECTION
    count = steps
    if rule["stage"] == KV or rule["stage"] == DECODING:
        count *= symbols[S_LAYERS]
    if m * n * k * times * count == 0:
        return at
    bits, groups = precision.activation_bits, times * batch
    if rule["kind"] == PROJECTION_RULE:
        return put_linear(rows, at, SELECT, phase, layer, 1, count * times, m * batch, n, k, REPLICATED, precision)
    if rule["kind"] == ELEMENTWISE_RULE:
        elements = m * n * groups
        return put_elementwise(
            rows,
            at,
            SELECT,
            phase,
            layer,
            1,
            count,
            elements * rule["reads"] * bits // 8,
            elements * rule["writes"] * bits // 8,
            elements * rule["flops_per_element"],
        )
    if rule["kind"] == ATTENTION_RULE:
        put(rows, at, SELECT, ATTENTION, phase, layer, 1, count, m, n, k)
        work, read, written = 4, m * k + 2 * n * k, m * k
    else:
        put(rows, at, SELECT, GEMM, phase, layer, 1, count, m, n, k)
        work, read, written = 2, m * k + n * k, m * n
    row = rows[at]
    row["groups"] = groups
    row["flops"] = work * m * n * k * groups * count
    row["torch_flops"] = row["flops"]
    row["read_bytes"] = read * groups * bits // 8 * count
    row["write_bytes"] = written * groups * bits // 8 * count
    return at + 1


@inlined
def put_selection(
    model: ModelArrays, schedule: ScheduleArrays, load: Load, precision: Precision, work: Workspace, at: int
) -> int:
    """All selection operators, each with the counts of its own place.

    Operators of the stages "kv" and "decode" run at every segment unless they name a layer, once for each
    kind of layer there, because a window limits what a kind caches.
    """
    symbols = work.symbols
    symbols[S_ORIGINAL] = load.visual_tokens
    symbols[S_SEQUENCES] = load.images * load.sequences
    tower_end = len(schedule.tower_starts) - 2
    for index in range(len(schedule.operations)):
        rule = schedule.operations[index]
        stage, first, last = rule["stage"], rule["segment"], rule["segment"] + 1
        if stage >= KV and first < 0:
            first, last = 0, len(schedule.lm_starts) - 1
        for segment in range(first, last):
            start, stop = 0, 0
            symbols[S_TOWER_TOKENS] = model.extra_tokens + work.tower_counts[tower_end, 2] if tower_end >= 0 else 0
            if stage < ENCODER_END:
                # Counts per encoder sequence, without extra tokens but for tower_tokens.
                counts = work.tower_counts[segment]
                set_counts(symbols, counts[0], counts[2], counts[3], 0)
                symbols[S_TOWER_TOKENS] = model.extra_tokens + counts[0]
                start = schedule.tower_starts[segment]
            elif stage == ENCODER_END:
                set_counts(symbols, work.end[0], work.end[1], work.end[2], load.text_tokens)
            else:
                counts = work.lm_counts[segment]
                start, stop = schedule.lm_starts[segment], schedule.lm_starts[segment + 1]
                if stage >= KV:
                    set_counts(symbols, counts[1], counts[1], 0, counts[2])
                else:
                    set_counts(symbols, counts[0], counts[1], counts[3], counts[2])
            if stage < KV:
                # Nothing is cached yet.
                symbols[S_KV], symbols[S_LAYERS] = 0, 1
                at = put_operation(work.operators, at, rule, symbols, start, 1, load.batch_size, precision)
                continue
            for kind in range(len(model.lm_kinds)):
                symbols[S_LAYERS] = model.lm_prefix[stop, kind] - model.lm_prefix[start, kind]
                symbols[S_KV] = work.kv[segment, kind, 0]
                steps = 1
                if stage == DECODING:
                    # A decode step sees the cache at the mean of its first and last length.
                    symbols[S_KV] = (work.kv[segment, kind, 0] + work.kv[segment, kind, 1]) // 2
                    steps = load.output_tokens - 1
                at = put_operation(work.operators, at, rule, symbols, start, steps, load.batch_size, precision)
    return at


@kernel
def set_counts(symbols: Array, before: int, after: int, merged: int, text: int) -> None:
    """Visual tokens before and after a place's steps; ``kept`` excludes the merged ones."""
    symbols[S_VISUAL] = before
    symbols[S_KEPT] = after - merged
    symbols[S_DROPPED] = before - after + merged
    symbols[S_MERGED] = merged
    symbols[S_TEXT] = text
    symbols[S_TOKENS] = before + text
    symbols[S_REMAINING] = after + text
