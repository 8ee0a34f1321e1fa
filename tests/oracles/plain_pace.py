"""How long a step takes, put together row by row from the model's shape in plain Python."""

from __future__ import annotations

from typing import Any

import numpy as np

from asymsim.catalogue.model import Layer
from asymsim.core.operators.layout import BY_COLUMNS
from asymsim.estimator.operator_table import operator_times
from oracles.naive import dealt
from oracles.plain_classes import TICKS_PER_S, WHOLE_SHARE, Classes
from oracles.plain_rows import Rows


def at_number(powers: list[int], number: int) -> int:
    """A time at ``number``, between those at 1, 2, 4 ..., and in proportion beyond."""
    low = min(number.bit_length() - 1, len(powers) - 1)
    if low == len(powers) - 1:
        return powers[low] * number // 2**low
    return powers[low] + (powers[low + 1] - powers[low]) * (number - 2**low) // 2**low


class PlainPace:
    """Times of steps for requests as `oracles.plain_fleet` has them."""

    def __init__(self, classes: Classes) -> None:
        self.classes, self.rows = classes, Rows(classes.precision)
        self.text = classes.model.language_model
        self._known: dict[bytes, int] = {}

    def share(self, kind: Any, row: int, number: int, ticks: int) -> int:
        """What one of so many requests adds of the method's own work, of ``ticks`` that it takes alone."""
        powers = self.classes.sharing[kind.schedule][row]
        low = min(number.bit_length() - 1, len(powers) - 1)
        share = powers[low]
        if low < len(powers) - 1:
            share += (powers[low + 1] - share) * (number - 2**low) // 2**low
        return ticks * share // WHOLE_SHARE

    def ticks(self, running: Any, steps: int) -> int:
        """The next steps, row by row as an operator table has them."""
        batch = [each for each in running if each.chunk is not None]
        decoders = [each for each in batch if each.chunk == 0]
        selecting = 0
        for each in decoders:
            whole, all_steps = each.kind.decode_selection_ticks, max(1, each.kind.output - 1)
            before = each.generated - 1
            part = whole * (before + steps) // all_steps - whole * before // all_steps
            selecting += self.share(each.kind, 1, len(decoders), part)
        ticks = self.classes.host_ticks
        for at, group in enumerate(self.classes.groups):
            ticks += group.layers * self.layer_ticks(group.kind, at, batch, steps)
        entering = sum(each.chunk or 1 for each in batch) * self.text.hidden_size
        last = self.rows.elementwise(entering, entering, 0, 1)
        last += self.rows.product(len(batch), self.text.vocab_size, self.text.hidden_size, BY_COLUMNS)
        return steps * (ticks + self.seconds(last)) + selecting

    def layer_ticks(self, layer: Layer, at: int, batch: Any, steps: int) -> int:
        """One layer of one step, its decode attention the mean over all ``steps``."""
        cross = layer.attention == "cross"
        decoding = [each for each in batch if each.chunk == 0 and not each.kind.caches[at].skipped]
        prompts = []
        for each in batch:
            cache = each.kind.caches[at]
            if not each.chunk or cache.skipped:
                continue
            entered = cache.queries + each.goal - each.kind.prompt
            first = entered * each.computed // each.goal
            last = entered * (each.computed + each.chunk) // each.goal
            if last > first:
                prompts.append((cache, first, last, each.computed == each.shared))
        queries = sum(last - first for _, first, last, _ in prompts)
        if not decoding and not prompts:
            return 0
        new_keys = sum(cache.visual for cache, *_, new in prompts if new)
        ticks = self.seconds(self.rows.dense(layer, queries + len(decoding), new_keys))
        if prompts:
            keys = pairs = rectangle = 0
            for cache, first, last, _ in prompts:
                if cross:
                    keys, pairs = keys + cache.visual, pairs + (last - first) * cache.visual
                    rectangle += (last - first) * cache.visual
                    continue
                earliest = 0
                if layer.window_tokens:
                    earliest = max(0, first - layer.window_tokens + 1)
                elif layer.chunk_tokens:
                    earliest = first - first % layer.chunk_tokens
                keys, rectangle = keys + last - earliest, rectangle + (last - first) * last
                pairs += self.pairs(layer, cache, last) - self.pairs(layer, cache, first)
            means = -(-queries // len(prompts)), -(-keys // len(prompts))
            unfused = any(cache.unfused for cache, *_ in prompts)
            ticks += self.seconds(self.rows.prompt_attention(layer, len(prompts), *means, pairs, rectangle, unfused))
        seen = 0
        for each in decoding:
            for head in each.kind.caches[at].heads:
                seen += sum(head.seen[each.generated - 1 : each.generated - 1 + steps])
        if decoding:
            ticks += self.seconds(self.rows.decode_attention(layer, len(decoding), steps, seen)) // steps
        return ticks

    def pairs(self, layer: Layer, cache: Any, tokens: int) -> int:
        """Pairs of the first ``tokens`` of a prompt, query by query."""
        if self.text.mask == "prefix":
            return tokens * tokens
        reach = layer.window_tokens or tokens
        if layer.chunk_tokens:
            return sum(query % layer.chunk_tokens + 1 for query in range(tokens))
        pairs = sum(min(query + 1, reach) for query in range(tokens))
        if self.text.mask == "image_bidirectional" and cache.images:
            pairs += sum(length * (length - 1) // 2 for length in dealt(min(cache.visual, tokens), cache.images))
        return pairs

    def seconds(self, rows: list[Any]) -> int:
        """Ticks of some rows, one after the other."""
        if not rows:
            return 0
        table = np.concatenate(rows)
        known = table.tobytes()
        if known not in self._known:
            medians = operator_times(table, self.classes.gpu_arrays, self.classes.precision.tp_size)[0][:, 1]
            self._known[known] = sum(int(each * TICKS_PER_S) for each in medians.tolist())
        return self._known[known]
