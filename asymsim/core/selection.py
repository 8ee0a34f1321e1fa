"""Operator rows for the work that a pruning method itself adds."""

from __future__ import annotations

from asymsim.core.jit import kernel
from asymsim.core.layout import (
    ATTENTION,
    ATTENTION_RULE,
    DECODE_SELECTION,
    DECODING,
    ELEMENTWISE_RULE,
    ENCODER_END,
    FACTORS,
    GEMM,
    KV,
    LM,
    PROJECTION_RULE,
    REPLICATED,
    S_DROPPED,
    S_HEAD_SIZE,
    S_HEADS,
    S_HIDDEN,
    S_KEPT,
    S_KV,
    S_KV_HEADS,
    S_KV_WIDTH,
    S_LAYERS,
    S_MERGED,
    S_ORIGINAL,
    S_QUERY_WIDTH,
    S_REMAINING,
    S_SEQUENCES,
    S_TEXT,
    S_TOKENS,
    S_TOWER_HEAD_SIZE,
    S_TOWER_HEADS,
    S_TOWER_HIDDEN,
    S_TOWER_TOKENS,
    S_VISUAL,
    SELECT,
    SELECTION,
    Array,
    Load,
    ModelArrays,
    Precision,
    ScheduleArrays,
    Workspace,
)
from asymsim.core.rows import put, put_elementwise, put_linear


@kernel
def product(factors: Array, symbols: Array) -> int:
    """A dimension: each factor is a symbol's index, or a literal stored as -1 - value."""
    value = 1
    for index in range(FACTORS):
        factor = factors[index]
        value *= symbols[factor] if factor >= 0 else -1 - factor
    return value


@kernel
def put_operation(rows: Array, at: int, rule: Array, symbols: Array, layer: int, steps: int, batch: int,
                  precision: Precision) -> int:
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
            rows, at, SELECT, phase, layer, 1, count, elements * rule["reads"] * bits // 8,
            elements * rule["writes"] * bits // 8, elements * rule["flops_per_element"],
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


@kernel
def put_selection(
    model: ModelArrays, schedule: ScheduleArrays, load: Load, precision: Precision, work: Workspace, at: int
) -> int:
    """All selection operators, each with the counts of its own place."""
    if len(schedule.operations) == 0:
        return at
    symbols = work.symbols
    kind = model.lm_kinds[0]
    symbols[S_ORIGINAL] = load.visual_tokens
    symbols[S_HIDDEN] = model.hidden_size
    symbols[S_HEADS] = kind["heads"]
    symbols[S_KV_HEADS] = kind["kv_heads"]
    symbols[S_HEAD_SIZE] = kind["head_size"]
    symbols[S_QUERY_WIDTH] = kind["heads"] * kind["head_size"]
    symbols[S_KV_WIDTH] = 2 * kind["kv_heads"] * kind["head_size"]
    symbols[S_SEQUENCES] = load.images * load.sequences
    if len(model.tower_kinds) > 0:
        tower = model.tower_kinds[0]
        symbols[S_TOWER_HIDDEN] = tower["hidden_size"]
        symbols[S_TOWER_HEADS] = tower["heads"]
        symbols[S_TOWER_HEAD_SIZE] = tower["head_size"]
    decode_steps = load.output_tokens - 1
    for index in range(len(schedule.operations)):
        rule = schedule.operations[index]
        segment = rule["segment"]
        if rule["stage"] < ENCODER_END:
            set_encoder_symbols(model, work, segment, symbols)
            at = put_operation(work.operators, at, rule, symbols, schedule.tower_starts[segment], 1,
                               load.batch_size, precision)
        elif rule["stage"] == ENCODER_END:
            last = len(schedule.tower_starts) - 2
            symbols[S_TOWER_TOKENS] = model.extra_tokens + work.tower_counts[last, 2] if last >= 0 else 0
            set_counts(symbols, work.end[0], work.end[1], work.end[2], load.text_tokens)
            at = put_operation(work.operators, at, rule, symbols, 0, 1, load.batch_size, precision)
        elif rule["stage"] == LM:
            counts = work.lm_counts[segment]
            set_counts(symbols, counts[0], counts[1], counts[3], counts[2])
            at = put_operation(work.operators, at, rule, symbols, schedule.lm_starts[segment], 1,
                               load.batch_size, precision)
        else:
            steps = decode_steps if rule["stage"] == DECODING else 1
            for place in range(len(schedule.lm_starts) - 1):
                if segment >= 0 and place != segment:
                    continue
                counts = work.lm_counts[place]
                set_counts(symbols, counts[1], counts[1], 0, counts[2])
                kept = work.kv[place, 0, 0]
                # A decode step sees the cache at the mean of its first and last length.
                symbols[S_KV] = (kept + work.kv[place, 0, 1]) // 2 if rule["stage"] == DECODING else kept
                single = rule["single_layer"] == 1
                symbols[S_LAYERS] = 1 if single else schedule.lm_starts[place + 1] - schedule.lm_starts[place]
                at = put_operation(work.operators, at, rule, symbols, schedule.lm_starts[place], steps,
                                   load.batch_size, precision)
    return at


@kernel
def set_encoder_symbols(model: ModelArrays, work: Workspace, segment: int, symbols: Array) -> None:
    """Counts of one encoder segment, per sequence and without extra tokens but for ``tower_tokens``."""
    counts = work.tower_counts[segment]
    set_counts(symbols, counts[0], counts[2], counts[3], 0)
    symbols[S_TOWER_TOKENS] = model.extra_tokens + counts[0]


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
