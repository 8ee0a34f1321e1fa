"""How long a step of a ragged batch takes: the operator rows of `core.operators.table`, put together for it."""

from __future__ import annotations

from asymsim.core.arrays import Array, Record
from asymsim.core.jit import inlined, kernel
from asymsim.core.kv_cache import SequenceCache, attended_entries
from asymsim.core.operators.layout import BY_COLUMNS, EMBED, HEAD, PREFILL
from asymsim.core.operators.mask_pairs import prefill_pairs
from asymsim.core.operators.rows import put_attention, put_dense, put_elementwise, put_linear
from asymsim.core.operators.table import put_decode_step_attention
from asymsim.core.serving.batch_scaling import interpolated_share, prefix_ticks, scaled_ticks
from asymsim.core.serving.layout import NONE, State, StepTimeModel
from asymsim.core.times.device import TICKS_PER_S
from asymsim.core.times.gpu_arrays import GpuArrays
from asymsim.core.times.row_time import row_time


@kernel
def rows_ticks(rows: Array, first: int, last: int, gpu: GpuArrays, tp_size: int, memo: Array) -> int:
    """Ticks of some operator rows, one after the other."""
    ticks = 0
    for index in range(first, last):
        ticks += int(row_time(rows[index], gpu, tp_size, memo)[1] * TICKS_PER_S)
    return ticks


@inlined
def ticks_of(pace: StepTimeModel, first: int, last: int) -> int:
    """Ticks of the rows that were put together last."""
    return rows_ticks(pace.scratch_rows, first, last, pace.gpu, pace.precision.tp_size, pace.product_memo)


@inlined
def dense_ticks(pace: StepTimeModel, index: int, tokens: int, kv_rows: int) -> int:
    """One layer of a kind but for its attention; ``kv_rows`` where its keys are made of other tokens than its own."""
    kind, precision = pace.model.lm_kinds[index], pace.precision
    if tokens == 0:
        return 0
    known = not kind["cross"] and tokens < pace.dense_memo.shape[1]
    if known and pace.dense_memo[index, tokens] != NONE:
        return pace.dense_memo[index, tokens]
    kv_rows = kv_rows if kind["cross"] else tokens
    ticks = ticks_of(
        pace, 0, put_dense(pace.scratch_rows, 0, kind, PREFILL, 0, 1, 1, tokens, kv_rows, tokens, precision)
    )
    if known:
        pace.dense_memo[index, tokens] = ticks
    return ticks


@inlined
def head_ticks(pace: StepTimeModel, sequences: int) -> int:
    """The head at one position of each sequence."""
    if sequences < len(pace.lm_head_memo) and pace.lm_head_memo[sequences] != NONE:
        return pace.lm_head_memo[sequences]
    model, layers = pace.model, len(pace.model.lm_prefix) - 1
    width, hidden, split = model.vocab_size, model.hidden_size, BY_COLUMNS
    rows = put_linear(
        pace.scratch_rows, 0, HEAD, PREFILL, layers, 1, 1, sequences, width, hidden, split, pace.precision
    )
    ticks = ticks_of(pace, 0, rows)
    if sequences < len(pace.lm_head_memo):
        pace.lm_head_memo[sequences] = ticks
    return ticks


@inlined
def embed_ticks(pace: StepTimeModel, tokens: int) -> int:
    """The embedding of a step's tokens."""
    if tokens < len(pace.embedding_memo) and pace.embedding_memo[tokens] != NONE:
        return pace.embedding_memo[tokens]
    width_bytes = tokens * pace.model.hidden_size * pace.precision.activation_bits // 8
    ticks = ticks_of(
        pace, 0, put_elementwise(pace.scratch_rows, 0, EMBED, PREFILL, 0, 1, 1, width_bytes, width_bytes, 0)
    )
    if tokens < len(pace.embedding_memo):
        pace.embedding_memo[tokens] = ticks
    return ticks


@kernel
def cache_from(record: Record) -> SequenceCache:
    """The cache that a record of ``layout.CACHE`` describes."""
    return SequenceCache(
        record["prompt_tokens"],
        record["kept_tokens"],
        record["kv_heads"],
        record["full_heads"],
        record["window_cap"],
        record["budget_cap"],
        record["chunk_tokens"],
        record["eviction_start"],
        record["retain_num"],
        record["retain_den"],
        record["self_token"],
    )


@kernel
def decode_selection_ticks(kind: Record, cached: int, steps: int) -> int:
    """The method's own work in ``steps`` decode steps after ``cached``: its whole, shared out evenly to the tick."""
    whole, all_steps = kind["decode_selection_ticks"], max(1, kind["output_tokens"] - 1)
    return prefix_ticks(whole, cached + steps, all_steps) - prefix_ticks(whole, cached, all_steps)


@kernel
def burst_ticks(state: State, pace: StepTimeModel, replica: int, steps: int) -> int:
    """Ticks of the next ``steps`` steps of a replica, all alike, whose requests have their ``chunk`` set.

    A chunk of 0 decodes, one of ``NONE`` waits. Decoding attention is timed at its mean over the steps, as `estimate`
    times it; requests of one step share each kernel, whose shape is their mean.
    """
    model, precision, requests = pace.model, pace.precision, state.requests
    running = state.replicas[replica]["running"]
    entering, sequences, all_decoding, ticks, selecting = 0, 0, 0, pace.host_ticks, 0
    for at in range(running):
        chunk = requests[state.running_requests[replica, at]]["chunk"]
        if chunk >= 0:
            entering += max(1, chunk)
            sequences += 1
            all_decoding += 1 if chunk == 0 else 0
    for at in range(running if state.fleet[0]["decode_selection"] == 1 else 0):
        request = requests[state.running_requests[replica, at]]
        kind = state.request_classes[request["request_class"]]
        if request["chunk"] == 0:
            share = interpolated_share(state.batch_scaling[kind["schedule"], 1], all_decoding)
            selecting += scaled_ticks(decode_selection_ticks(kind, request["generated"] - 1, steps), share)
    for index in range(len(state.groups)):
        layer, layers = pace.model.lm_kinds[state.groups[index]["layer_kind"]], state.groups[index]["layers"]
        tokens, kv_rows, decoding, attended = 0, 0, 0, 0
        prompts, queries, keys, pairs, rectangle, unfused = 0, 0, 0, 0, 0, 0
        for at in range(running):
            request = requests[state.running_requests[replica, at]]
            chunk, record = request["chunk"], state.caches[request["request_class"], index]
            if chunk == 0:
                if record["prompt_tokens"] == 0 and record["self_token"] == 0:
                    # A cross-attention layer that has nothing to attend to is skipped.
                    continue
                cache, cached = cache_from(record), request["generated"] - 1
                decoding += 1
                attended += attended_entries(cache, cached + steps) - attended_entries(cache, cached)
            elif chunk > 0:
                goal, computed = request["prefill_tokens"], request["computed"]
                again = goal - state.request_classes[request["request_class"]]["prompt_tokens"]
                entered = record["queries"] + again
                # Each segment takes its share of the chunk, so that shares of all chunks make the whole.
                first, last = entered * computed // goal, entered * (computed + chunk) // goal
                if layer["cross"]:
                    if record["visual_tokens"] == 0 or first == last:
                        continue
                    kv_rows += record["visual_tokens"] if computed == request["prefix_tokens"] else 0
                    keys += record["visual_tokens"]
                    pairs += (last - first) * record["visual_tokens"]
                    rectangle += (last - first) * record["visual_tokens"]
                else:
                    if first == last:
                        continue
                    window, span = layer["window_tokens"], layer["chunk_tokens"]
                    visual, images = record["visual_tokens"], record["images"]
                    # A window or chunk of attention reaches no further back than that from the first query.
                    keys += last
                    if window > 0:
                        keys -= max(0, first - window + 1)
                    elif span > 0:
                        keys -= first // span * span
                    pairs += prefill_pairs(model.mask, last, min(visual, last), images, window, span)
                    if first > 0:
                        pairs -= prefill_pairs(model.mask, first, min(visual, first), images, window, span)
                    rectangle += (last - first) * last
                queries += last - first
                prompts += 1
                unfused = max(unfused, record["unfused"])
        tokens = decoding + queries
        if tokens == 0:
            continue
        ticks += layers * dense_ticks(pace, state.groups[index]["layer_kind"], tokens, kv_rows)
        rows = 0
        if prompts > 0:
            queries, keys = -(-queries // prompts), -(-keys // prompts)
            rows = put_attention(
                pace.scratch_rows, 0, layer, PREFILL, 0, 1, prompts, queries, keys, pairs, rectangle, unfused, precision
            )
        ticks += layers * ticks_of(pace, 0, rows)
        # What the framework would count is of no matter to a fused kernel's time.
        last = put_decode_step_attention(
            pace.scratch_rows, rows, layer, 0, 1, decoding, steps, attended, attended, precision
        )
        ticks += layers * (ticks_of(pace, rows, last) // steps)
    ticks += embed_ticks(pace, entering) + head_ticks(pace, sequences)
    return steps * ticks + selecting
