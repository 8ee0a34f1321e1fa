"""How long a step takes, put together row by row in plain Python; and how one cache grows."""

from __future__ import annotations

from typing import Any

import numpy as np

from asymsim.core.operators.attention_rows import AttentionShape, put_attention, put_decode_attention
from asymsim.core.operators.layer_rows import put_dense
from asymsim.core.operators.layout import BY_COLUMNS, DECODE, EMBED, HEAD, OPERATOR, PREFILL
from asymsim.core.operators.mask_pairs import prefill_pairs
from asymsim.core.operators.rows import Placement, ProductShape, put_elementwise, put_linear
from asymsim.core.serving.layout import State, StepTimeModel
from asymsim.estimator.operator_table import operator_times

TICKS_PER_S = 2**42
ONCE = Placement(PREFILL, 0, 1, 1)


def cached(cache: Any, generated: int) -> tuple[int, int]:
    """Entries of a head that keeps everything, and of another, after so many generated tokens."""
    if generated <= cache["eviction_start"]:
        grown = generated
    else:
        grown = (
            cache["eviction_start"] + cache["retain_num"] * (generated - cache["eviction_start"]) // cache["retain_den"]
        )
    return min(cache["prompt_tokens"] + grown, cache["window_cap"]), min(
        cache["kept_tokens"] + grown, cache["budget_cap"]
    )


def attended(cache: Any, step: int, chunked: bool) -> int:
    """Entries that one decode step meets, after ``step`` generated tokens are cached."""
    whole, other = cached(cache, step)
    if chunked and cache["chunk_tokens"] > 0:
        begun = (cache["prompt_tokens"] + step) % cache["chunk_tokens"]
        whole, other = min(whole, begun), min(other, begun)
    heads = int(cache["kv_heads"])
    return (
        int(cache["full_heads"]) * int(whole)
        + (heads - int(cache["full_heads"])) * int(other)
        + heads * int(cache["self_token"])
    )


def at_number(powers: list[int], number: int) -> int:
    """A time at ``number``, between those at 1, 2, 4 ..., and in proportion beyond."""
    low = min(number.bit_length() - 1, len(powers) - 1)
    if low == len(powers) - 1:
        return powers[low] * number // 2**low
    return powers[low] + (powers[low + 1] - powers[low]) * (number - 2**low) // 2**low


class PlainPace:
    """Times of steps for requests as `oracles.plain_fleet` has them."""

    def __init__(self, state: State, pace: StepTimeModel) -> None:
        self.pace, self.groups, self.sharing = pace, state.groups, state.batch_scaling

    def share(self, kind: Any, name: str, row: int, number: int, ticks: int | None = None) -> int:
        """What one of so many requests adds of the method's own work."""
        powers = self.sharing[kind["schedule"], row].tolist()
        low = min(number.bit_length() - 1, len(powers) - 1)
        share = powers[low]
        if low < len(powers) - 1:
            share += (powers[low + 1] - share) * (number - 2**low) // 2**low
        ticks = int(kind[name]) if ticks is None else ticks
        return ticks // 2**20 * share + ticks % 2**20 * share // 2**20

    def ticks(self, running: Any, steps: int) -> int:
        """The next steps, row by row as an operator table has them."""
        model, precision, rows = self.pace.model, self.pace.precision, np.zeros(16, OPERATOR)
        batch = [each for each in running if each.chunk is not None]
        selecting, decoders = 0, [each for each in batch if each.chunk == 0]
        for each in decoders:
            whole, all_steps = int(each.kind["decode_selection_ticks"]), max(1, int(each.kind["output_tokens"]) - 1)
            before = each.generated - 1
            part = whole * (before + steps) // all_steps - whole * before // all_steps
            selecting += self.share(each.kind, "decode_selection_ticks", 1, len(decoders), part)
        ticks = self.pace.host_ticks
        for at, group in enumerate(self.groups):
            kind, cross = model.lm_kinds[group["layer_kind"]], bool(model.lm_kinds[group["layer_kind"]]["cross"])
            decoding = [
                e for e in batch if e.chunk == 0 and (e.caches[at]["prompt_tokens"] or e.caches[at]["self_token"])
            ]
            prompts = []
            for each in batch:
                if not each.chunk:
                    continue
                cache = each.caches[at]
                entered = int(cache["queries"]) + each.goal - int(each.kind["prompt_tokens"])
                first = entered * each.computed // each.goal
                last = entered * (each.computed + each.chunk) // each.goal
                if last > first and not (cross and cache["visual_tokens"] == 0):
                    prompts.append((cache, first, last, each.computed == each.shared))
            queries = sum(last - first for _, first, last, _ in prompts)
            if not decoding and not prompts:
                continue
            kv_rows = queries + len(decoding)
            if cross:
                kv_rows = sum(int(cache["visual_tokens"]) for cache, *_, new in prompts if new)
            tokens = queries + len(decoding)
            used = put_dense(rows, 0, kind, ONCE, tokens, kv_rows, tokens, precision)
            layer = self.seconds(rows[:used])
            if prompts:
                keys, pairs, rectangle, unfused = 0, 0, 0, 0
                for cache, first, last, _ in prompts:
                    visual = int(cache["visual_tokens"])
                    unfused = max(unfused, int(cache["unfused"]))
                    if cross:
                        keys, pairs = keys + visual, pairs + (last - first) * visual
                        rectangle += (last - first) * visual
                        continue
                    earliest = 0
                    if kind["window_tokens"]:
                        earliest = max(0, first - int(kind["window_tokens"]) + 1)
                    elif kind["chunk_tokens"]:
                        earliest = first - first % int(kind["chunk_tokens"])
                    keys, rectangle = keys + last - earliest, rectangle + (last - first) * last
                    pairs += self.pairs(kind, cache, last) - (self.pairs(kind, cache, first) if first else 0)
                mean_queries, mean_keys = -(-queries // len(prompts)), -(-keys // len(prompts))
                shape = AttentionShape(len(prompts), mean_queries, mean_keys, pairs, rectangle)
                used = put_attention(rows, 0, kind, ONCE, shape, unfused, precision)
                layer += self.seconds(rows[:used])
            met = torch_met = 0
            for each in decoding:
                for step in range(each.generated - 1, each.generated - 1 + steps):
                    met += attended(each.caches[at], step, chunked=True)
                    torch_met += attended(each.caches[at], step, chunked=False)
            place = Placement(DECODE, 0, 1, steps)
            used = put_decode_attention(rows, 0, kind, place, len(decoding), met, torch_met, precision)
            layer += self.seconds(rows[:used]) // steps
            ticks += int(group["layers"]) * layer
        entering = sum(each.chunk or 1 for each in batch)
        width_bytes = entering * model.hidden_size * precision.activation_bits // 8
        used = put_elementwise(rows, 0, EMBED, ONCE, width_bytes, width_bytes, 0)
        place = Placement(PREFILL, len(model.lm_prefix) - 1, 1, 1)
        shape = ProductShape(len(batch), model.vocab_size, model.hidden_size)
        used = put_linear(rows, used, HEAD, place, shape, BY_COLUMNS, precision)
        return steps * (ticks + self.seconds(rows[:used])) + selecting

    def pairs(self, kind: Any, cache: Any, tokens: int) -> int:
        visual = min(int(cache["visual_tokens"]), tokens)
        images, window, chunk = int(cache["images"]), int(kind["window_tokens"]), int(kind["chunk_tokens"])
        return prefill_pairs(self.pace.model.mask, tokens, visual, images, window, chunk)

    def seconds(self, rows: Any) -> int:
        medians = operator_times(rows, self.pace.gpu, self.pace.precision.tp_size)[0][:, 1]
        return sum(int(each * TICKS_PER_S) for each in medians.tolist())
