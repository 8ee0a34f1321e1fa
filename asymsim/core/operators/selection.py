"""Operator rows of a pruning method's selection: the work that the method itself adds."""

from __future__ import annotations

from typing import NamedTuple

from asymsim.core.arrays import Array, Record
from asymsim.core.jit import inlined, kernel
from asymsim.core.model_arrays import ModelArrays, Precision
from asymsim.core.operators.layout import ATTENTION, DECODE_SELECTION, ELEMENTWISE, GEMM, SELECT, SELECTION
from asymsim.core.operators.rows import Placement, ProductShape, begin_row
from asymsim.core.schedule_arrays import (
    ATTENTION_RULE,
    DECODING,
    DIVIDE_UP,
    ELEMENTWISE_RULE,
    ENCODER_END,
    FACTORS,
    KV,
    MULTIPLY,
    PROJECTION_RULE,
    S_DROPPED,
    S_KEPT,
    S_KV,
    S_LAYERS,
    S_MERGED,
    S_ORIGINAL,
    S_POOL,
    S_REMAINING,
    S_SEQUENCES,
    S_TEXT,
    S_TOKENS,
    S_TOWER_TOKENS,
    S_VISUAL,
    ScheduleArrays,
)
from asymsim.core.token_counts import TokenCounts
from asymsim.core.workspace import Workspace


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


class Execution(NamedTuple):
    """One execution for one request: shape, FLOPs (element-wise FLOPs of an element-wise rule), elements moved."""

    m: int
    n: int
    k: int
    times: int
    flops: int
    weights: int
    read: int
    written: int


@kernel
def execute(rule: Record, symbols: Array) -> Execution:
    """A rule at the symbols' values; all costs are linear in each symbol that the rule names once."""
    m, n = product(rule["rows"], symbols), product(rule["columns"], symbols)
    k, times = product(rule["inner"], symbols), product(rule["times"], symbols)
    queries, keys, scores = m * k * times, n * k * times, m * n * times
    if rule["kind"] == ELEMENTWISE_RULE:
        flops, read, written = scores * rule["flops_per_element"], scores * rule["reads"], scores * rule["writes"]
        return Execution(m, n, k, times, flops, 0, read, written)
    if rule["kind"] == ATTENTION_RULE:
        return Execution(m, n, k, times, 4 * scores * k, 0, queries + 2 * keys, queries)
    if rule["kind"] == PROJECTION_RULE:
        return Execution(m, n, k, times, 2 * scores * k, keys, queries, scores)
    return Execution(m, n, k, times, 2 * scores * k, 0, queries + keys, scores)


@kernel
def add_up(low: int, high: int, steps: int, rest: int, heads: int) -> int:
    """Sum over ``steps`` of the mean over ``heads`` of a cost that is linear in the cached entries.

    It is ``low`` at their mean rounded down and ``high`` at one more; ``rest`` of the steps x heads entries lie
    above that.
    """
    if rest == 0:
        return low * steps
    slope = high - low
    return low * steps + slope // heads * rest + slope % heads * rest // heads


@kernel
def put_operation(
    rows: Array,
    at: int,
    rule: Record,
    symbols: Array,
    layer: int,
    layers: int,
    steps: int,
    heads: int,
    entries: int,
    batch: int,
    precision: Precision,
) -> int:
    """One selection operator at one place, ``steps`` times in each of ``layers``.

    ``entries`` are the cached entries, added up over the steps and ``heads``. Costs are linear in them, since a rule
    names them once, so the sums are exact. The row's shape has their mean, rounded up.
    """
    if layers * steps == 0:
        return at
    mean = entries // (steps * heads)
    rest = entries - mean * steps * heads
    symbols[S_KV] = mean
    low = execute(rule, symbols)
    high = low
    if rest > 0:
        symbols[S_KV] = mean + 1
        high = execute(rule, symbols)
    if high.m * high.n * high.k * high.times == 0:
        return at
    flops = add_up(low.flops, high.flops, steps, rest, heads)
    read = add_up(low.read, high.read, steps, rest, heads)
    written = add_up(low.written, high.written, steps, rest, heads)
    phase = DECODE_SELECTION if rule["stage"] == DECODING else SELECTION
    place = Placement(phase, layer, 1, layers * steps)
    bits, copies = precision.activation_bits, layers * batch
    if rule["kind"] == ELEMENTWISE_RULE:
        if read + written == 0:
            return at
        begin_row(rows, at, SELECT, ELEMENTWISE, place, ProductShape(0, 0, 0))
        rows[at]["elementwise_flops"] = flops * copies
    else:
        begin_row(rows, at, SELECT, GEMM, place, ProductShape(high.m, high.n, high.k))
        row = rows[at]
        row["groups"] = high.times * batch
        if rule["kind"] == ATTENTION_RULE:
            row["kind"] = ATTENTION
        elif rule["kind"] == PROJECTION_RULE:
            # The batch shares the weight, so its rows are one product's.
            row["m"], row["groups"], row["count"] = high.m * batch, 1, layers * steps * high.times
            weights = add_up(low.weights, high.weights, steps, rest, heads)
            row["weight_bytes"] = weights * precision.weight_bits // 8 * layers
        row["flops"] = flops * copies
        row["torch_flops"] = row["flops"]
    rows[at]["read_bytes"] = read * bits // 8 * copies
    rows[at]["write_bytes"] = written * bits // 8 * copies
    return at + 1


@inlined
def put_selection(
    model: ModelArrays,
    schedule: ScheduleArrays,
    token_counts: TokenCounts,
    precision: Precision,
    work: Workspace,
    at: int,
) -> int:
    """All selection operators, each with the token counts of its place.

    Operators of the stages "kv" and "decode" run at every segment unless they name a layer, once for each
    kind of layer there, because a window limits what a kind caches.
    """
    symbols = work.symbols
    symbols[S_ORIGINAL] = token_counts.visual_tokens
    symbols[S_SEQUENCES] = token_counts.images * token_counts.sequences
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
                set_counts(symbols, counts[0], counts[2], counts[3], counts[4], 0)
                symbols[S_TOWER_TOKENS] = model.extra_tokens + counts[0]
                start = schedule.tower_starts[segment]
            elif stage == ENCODER_END:
                set_counts(symbols, work.end[0], work.end[1], work.end[2], work.end[3], token_counts.text_tokens)
            else:
                counts = work.lm_counts[segment]
                start, stop = schedule.lm_starts[segment], schedule.lm_starts[segment + 1]
                if stage >= KV:
                    set_counts(symbols, counts[1], counts[1], 0, 0, counts[2])
                else:
                    set_counts(symbols, counts[0], counts[1], counts[3], counts[4], counts[2])
            if stage < KV:
                # Nothing is cached yet.
                symbols[S_LAYERS] = 1
                at = put_operation(
                    work.operators, at, rule, symbols, start, 1, 1, 1, 0, token_counts.batch_size, precision
                )
                continue
            steps = token_counts.output_tokens - 1 if stage == DECODING else 1
            for kind in range(len(model.lm_kinds)):
                layers = model.lm_prefix[stop, kind] - model.lm_prefix[start, kind]
                symbols[S_LAYERS] = layers
                at = put_operation(
                    work.operators,
                    at,
                    rule,
                    symbols,
                    start,
                    layers,
                    steps,
                    model.lm_kinds[kind]["kv_heads"],
                    work.kv[segment, kind, 3 if stage == DECODING else 2],
                    token_counts.batch_size,
                    precision,
                )
    return at


@kernel
def set_counts(symbols: Array, before: int, after: int, merged: int, pool: int, text: int) -> None:
    """Visual tokens before and after a place's steps; ``kept`` excludes the merged ones."""
    symbols[S_VISUAL] = before
    symbols[S_KEPT] = after - merged
    symbols[S_DROPPED] = before - after + merged
    symbols[S_MERGED] = merged
    symbols[S_POOL] = pool
    symbols[S_TEXT] = text
    symbols[S_TOKENS] = before + text
    symbols[S_REMAINING] = after + text
