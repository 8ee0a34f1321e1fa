"""Duration of an engine step of a ragged batch, from operator rows as in `core.operators.table`."""

from __future__ import annotations

from asymsim.core.arrays import Array, Record
from asymsim.core.fields import read_fields
from asymsim.core.jit import inlined, kernel
from asymsim.core.kv_cache import SequenceCache, attended_entries
from asymsim.core.operators.attention_rows import AttentionShape, put_attention, put_decode_attention
from asymsim.core.operators.layer_rows import put_dense
from asymsim.core.operators.layout import BY_COLUMNS, DECODE, EMBED, HEAD, PREFILL
from asymsim.core.operators.mask_pairs import prefill_pairs
from asymsim.core.operators.rows import Placement, ProductShape, put_elementwise, put_linear
from asymsim.core.serving.batch_scaling import interpolated_share, prefix_ticks, scaled_ticks
from asymsim.core.serving.layout import NONE, State, StepTimeModel
from asymsim.core.times.device import TICKS_PER_S
from asymsim.core.times.gpu_arrays import GpuArrays
from asymsim.core.times.row_time import row_time


@kernel
def rows_ticks(rows: Array, first: int, last: int, gpu: GpuArrays, tp_size: int, memo: Array) -> int:
    """Ticks of operator rows, one after the other."""
    ticks = 0
    for index in range(first, last):
        ticks += int(row_time(rows[index], gpu, tp_size, memo)[1] * TICKS_PER_S)
    return ticks


@inlined
def scratch_ticks(step_time_model: StepTimeModel, first: int, last: int) -> int:
    """Ticks of the model's scratch rows from ``first`` to before ``last``."""
    gpu, tp_size, memo = step_time_model.gpu, step_time_model.precision.tp_size, step_time_model.product_memo
    return rows_ticks(step_time_model.scratch_rows, first, last, gpu, tp_size, memo)


@inlined
def dense_ticks(step_time_model: StepTimeModel, kind_index: int, tokens: int, kv_rows: int) -> int:
    """Ticks of one layer of a kind but for its attention; ``kv_rows`` counts where keys are of other tokens."""
    kind, memo = step_time_model.model.lm_kinds[kind_index], step_time_model.dense_memo
    if tokens == 0:
        return 0
    in_memo = not kind["cross"] and tokens < memo.shape[1]
    if in_memo and memo[kind_index, tokens] != NONE:
        return memo[kind_index, tokens]
    kv_rows = kv_rows if kind["cross"] else tokens
    rows, place = step_time_model.scratch_rows, Placement(PREFILL, 0, 1, 1)
    last = put_dense(rows, 0, kind, place, tokens, kv_rows, tokens, step_time_model.precision)
    ticks = scratch_ticks(step_time_model, 0, last)
    if in_memo:
        memo[kind_index, tokens] = ticks
    return ticks


@inlined
def lm_head_ticks(step_time_model: StepTimeModel, sequences: int) -> int:
    """Ticks of the head at one position of each sequence."""
    model, memo = step_time_model.model, step_time_model.lm_head_memo
    if sequences < len(memo) and memo[sequences] != NONE:
        return memo[sequences]
    place = Placement(PREFILL, len(model.lm_prefix) - 1, 1, 1)
    head = ProductShape(sequences, model.vocab_size, model.hidden_size)
    last = put_linear(step_time_model.scratch_rows, 0, HEAD, place, head, BY_COLUMNS, step_time_model.precision)
    ticks = scratch_ticks(step_time_model, 0, last)
    if sequences < len(memo):
        memo[sequences] = ticks
    return ticks


@inlined
def embedding_ticks(step_time_model: StepTimeModel, tokens: int) -> int:
    """Ticks of the embedding of a step's tokens."""
    memo = step_time_model.embedding_memo
    if tokens < len(memo) and memo[tokens] != NONE:
        return memo[tokens]
    width_bytes = tokens * step_time_model.model.hidden_size * step_time_model.precision.activation_bits // 8
    place = Placement(PREFILL, 0, 1, 1)
    last = put_elementwise(step_time_model.scratch_rows, 0, EMBED, place, width_bytes, width_bytes, 0)
    ticks = scratch_ticks(step_time_model, 0, last)
    if tokens < len(memo):
        memo[tokens] = ticks
    return ticks


@kernel
def decode_selection_ticks(request_class: Record, cached: int, steps: int) -> int:
    """The method's selection in ``steps`` decode steps after ``cached``: its total, divided evenly to the tick."""
    total, all_steps = request_class["decode_selection_ticks"], max(1, request_class["output_tokens"] - 1)
    return prefix_ticks(total, cached + steps, all_steps) - prefix_ticks(total, cached, all_steps)


@inlined
def selecting_ticks(state: State, replica: int, steps: int, decoding: int) -> int:
    """The method's selection for all ``decoding`` requests of a replica, in its next ``steps`` decode steps."""
    ticks = 0
    for at in range(state.replicas[replica]["running"]):
        request = state.requests[state.running_requests[replica, at]]
        request_class = state.request_classes[request["request_class"]]
        if request["chunk"] == 0:
            share = interpolated_share(state.batch_scaling[request_class["schedule"], 1], decoding)
            ticks += scaled_ticks(decode_selection_ticks(request_class, request["generated"] - 1, steps), share)
    return ticks


@kernel
def burst_ticks(state: State, step_time_model: StepTimeModel, replica: int, steps: int) -> int:
    """Ticks of the next ``steps`` engine steps of a replica, all alike, whose requests have their ``chunk`` set.

    A request with a chunk of 0 decodes, one of ``NONE`` waits. Decode attention is timed at its mean over the steps, as
    `estimate` times it. Requests of one step share each kernel, whose shape is their mean.
    """
    entering, sequences, decoding, selecting = 0, 0, 0, 0
    for at in range(state.replicas[replica]["running"]):
        chunk = state.requests[state.running_requests[replica, at]]["chunk"]
        if chunk >= 0:
            entering += max(1, chunk)
            sequences += 1
            decoding += 1 if chunk == 0 else 0
    if state.fleet[0]["decode_selection"] == 1:
        selecting = selecting_ticks(state, replica, steps, decoding)
    step_ticks = step_time_model.host_ticks
    for group in range(len(state.groups)):
        step_ticks += state.groups[group]["layers"] * layer_ticks(state, step_time_model, replica, group, steps)
    step_ticks += embedding_ticks(step_time_model, entering) + lm_head_ticks(step_time_model, sequences)
    return steps * step_ticks + selecting


@inlined
def layer_ticks(state: State, step_time_model: StepTimeModel, replica: int, group: int, steps: int) -> int:
    """Ticks of one layer of a group in each of the next ``steps`` engine steps of a replica."""
    model, precision, kind_index = step_time_model.model, step_time_model.precision, state.groups[group]["layer_kind"]
    layer = model.lm_kinds[kind_index]
    kv_rows, decoding, attended = 0, 0, 0
    prompts, queries, keys, pairs, rectangle, unfused = 0, 0, 0, 0, 0, 0
    for at in range(state.replicas[replica]["running"]):
        request = state.requests[state.running_requests[replica, at]]
        chunk, record = request["chunk"], state.caches[request["request_class"], group]
        if chunk == 0:
            if record["prompt_tokens"] == 0 and record["self_token"] == 0:
                # A cross-attention layer without anything to attend to is skipped.
                continue
            cache, cached = read_fields(SequenceCache, record), request["generated"] - 1
            decoding += 1
            attended += attended_entries(cache, cached + steps) - attended_entries(cache, cached)
        elif chunk > 0:
            prefill_tokens, computed = request["prefill_tokens"], request["computed"]
            recomputed = prefill_tokens - state.request_classes[request["request_class"]]["prompt_tokens"]
            entered = record["queries"] + recomputed
            # Each segment takes its share of the chunk, so that the shares of all chunks add up to the prompt.
            first, last = entered * computed // prefill_tokens, entered * (computed + chunk) // prefill_tokens
            visual = record["visual_tokens"]
            if first == last or (layer["cross"] and visual == 0):
                continue
            if layer["cross"]:
                kv_rows += visual if computed == request["prefix_tokens"] else 0
                keys += visual
                pairs += (last - first) * visual
                rectangle += (last - first) * visual
            else:
                images, window, span = record["images"], layer["window_tokens"], layer["chunk_tokens"]
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
        return 0
    ticks = dense_ticks(step_time_model, kind_index, tokens, kv_rows)
    rows, prefill_rows = step_time_model.scratch_rows, 0
    if prompts > 0:
        shape = AttentionShape(prompts, -(-queries // prompts), -(-keys // prompts), pairs, rectangle)
        prefill_rows = put_attention(rows, 0, layer, Placement(PREFILL, 0, 1, 1), shape, unfused, precision)
    ticks += scratch_ticks(step_time_model, 0, prefill_rows)
    # The entries that the framework would count do not matter to a fused kernel's time.
    place = Placement(DECODE, 0, 1, steps)
    all_rows = put_decode_attention(rows, prefill_rows, layer, place, decoding, attended, attended, precision)
    return ticks + scratch_ticks(step_time_model, prefill_rows, all_rows) // steps
