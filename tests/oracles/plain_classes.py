"""Classes of requests from a model's shape and a method's schedule, layer by layer and one decode step at a time."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from asymsim import Scenario
from asymsim.catalogue.engine import load_engine
from asymsim.catalogue.gpu import load_gpu
from asymsim.catalogue.load import load_model
from asymsim.catalogue.model import Layer, VlmModel
from asymsim.catalogue.number_format import kv_bits
from asymsim.catalogue.number_format import number_format as dtype
from asymsim.core.model_arrays import Precision
from asymsim.core.operators.layout import DECODE_SELECTION, PROJECTOR, SELECTION, VISION
from asymsim.core.token_counts import TokenCounts
from asymsim.estimator.gpu_arrays import gpu_arrays
from asymsim.estimator.model_arrays import model_arrays
from asymsim.estimator.operator_table import operator_table
from asymsim.estimator.resolve import method_mixture
from asymsim.estimator.schedule_arrays import schedule_arrays
from asymsim.estimator.token_counts import request_tokens
from asymsim.methods.schedule import Schedule
from asymsim.serving.config import EngineConfig
from asymsim.serving.request_classes import MIXTURE_SEED
from asymsim.serving.workload.requests import Requests
from asymsim.util.sampling import uniform_samples
from oracles.naive_cache import Decoded, heads, policy_budget
from oracles.naive_tokens import tokens

BLOCK = 16
TICKS_PER_S = 2**42
WHOLE_SHARE = 2**20
TOGETHER = [2**power for power in range(9)]


@dataclass(frozen=True)
class Group:
    """Layers of one kind that every request treats alike: their index among kinds, and how many."""

    kind: Layer
    layers: int


@dataclass(frozen=True)
class LayerCache:
    """One layer's view of a request: tokens that enter it, and each KV head's cache step by step."""

    kind: Layer
    visual: int
    queries: int
    images: int
    unfused: bool
    tokens: int
    heads: list[Decoded]

    @property
    def skipped(self) -> bool:
        """Whether a cross-attention layer has nothing to attend to."""
        return self.kind.attention == "cross" and self.visual == 0

    def blocks(self, generated: int, block: int) -> int:
        """Entries of all KV heads after so many generated tokens, each head's in whole blocks."""
        held = [head.found[generated] if generated < len(head.found) else head.final for head in self.heads]
        return sum(-(-entries // block) * block for entries in held)

    def whole_blocks(self, generated: int) -> int:
        """Entries of the prompt and so many generated tokens, nothing dropped but what a window forgets."""
        reach = (self.kind.window_tokens or self.kind.chunk_tokens or 10**9) - 1
        kept = self.visual if self.kind.attention == "cross" else min(self.tokens + generated, reach)
        return self.kind.kv_heads * -(-kept // BLOCK) * BLOCK


@dataclass(frozen=True)
class RequestClass:
    """What requests of one shape and schedule have in common, by the names of the simulator's records."""

    prompt: int
    output: int
    context: int
    encoder_tokens: int
    images: tuple[int, ...]
    schedule: int
    selection_ticks: int
    early: bool
    decode_selection_ticks: int
    embedding_bytes: int
    splits: bool
    caches: list[LayerCache]


class Classes:
    """The classes of some requests on a scenario's model, and times of the work that they share."""

    def __init__(self, scenario: Scenario, requests: Requests, server: EngineConfig) -> None:
        self.model: VlmModel = load_model(scenario.model)
        self.gpu = load_gpu(scenario.gpu)
        number_format = dtype(scenario.dtype)
        bits = number_format.weight_bits, number_format.activation_bits, kv_bits(scenario.kv_dtype, number_format)
        self.precision = Precision(*bits, scenario.tp_size)
        host = load_engine(scenario.engine)
        self.host_ticks = math.ceil(host.host_s * TICKS_PER_S) if host else 0
        self.gpu_arrays = gpu_arrays(self.gpu, number_format, host)
        self.mixture = method_mixture(scenario.method, scenario.keep, scenario.settings, self.model)[0]
        self.chunked_prefill, self.requests = server.chunked_prefill, requests
        self.context_tokens = server.max_model_len or self.model.language_model.context_tokens or 2**62
        self.arrays = model_arrays(self.model)
        self.groups, self.places = self._groups()
        self._known: dict[Any, RequestClass] = {}
        self._encoder: dict[tuple[int, ...], list[int]] = {}

    def load(self, request: int) -> TokenCounts:
        """The token counts of a request."""
        asked = self.requests
        visual = int(asked.visual_tokens[request])
        counts = request_tokens(
            self.model,
            num_images=int(asked.num_images[request]) if self.model.image_rule else None,
            visual_tokens=visual if visual >= 0 else None,
            text_tokens=int(asked.text_tokens[request]),
            output_tokens=int(asked.output_tokens[request]),
        )
        return counts.token_counts()

    @cached_property
    def schedules(self) -> list[int]:
        """The schedule of each request: the first whose share of the mixture reaches its draw."""
        total = sum(share for share, _ in self.mixture)
        drawn = uniform_samples(MIXTURE_SEED, 0, np.arange(len(self.requests), dtype=np.uint64)) * total
        chosen = []
        for draw in drawn.tolist():
            reached, index = self.mixture[0][0], 0
            while reached <= draw and index + 1 < len(self.mixture):
                index += 1
                reached += self.mixture[index][0]
            chosen.append(index)
        return chosen

    def schedule_of(self, request: int) -> Schedule:
        """The schedule of a request."""
        return self.mixture[self.schedules[request]][1]

    def of(self, request: int) -> RequestClass:
        """The class of a request."""
        at, load = self.schedules[request], self.load(request)
        if (at, load) not in self._known:
            self._known[at, load] = self._made(at, load)
        return self._known[at, load]

    def _groups(self) -> tuple[list[Group], list[int]]:
        """Layers that are alike under every schedule, and the first layer of each group."""
        text = self.model.language_model
        alike: dict[Any, list[int]] = {}
        for layer, index in enumerate(text.layer_pattern):
            treated = tuple(self._treatment(schedule, layer) for _, schedule in self.mixture)
            alike.setdefault((index, treated), []).append(layer)
        groups = [Group(text.layer_kinds[index], len(layers)) for (index, _), layers in alike.items()]
        return groups, [layers[0] for layers in alike.values()]

    @staticmethod
    def _treatment(schedule: Schedule, layer: int) -> Any:
        """Rules that hold in a layer: tokens that left before it, its cache's budget, whether it stores weights."""
        before = tuple(step for step in schedule.steps if step.stage == "lm" and step.layer <= layer)
        budget = policy_budget(schedule.kv, layer, 10**6), policy_budget(schedule.kv, layer, 0)
        return before, budget, ("lm", layer) in schedule.unfused

    def _made(self, at: int, load: TokenCounts) -> RequestClass:
        schedule = self.mixture[at][1]
        counts = tokens(self.model, schedule, load)
        text = self.model.language_model
        in_sequence = text.visual_in_sequence
        context = load.visual_tokens * in_sequence + load.text_tokens + load.output_tokens
        # What is too long is refused: nothing more is asked about it.
        steps = load.output_tokens if context <= self.context_tokens else 0
        caches = []
        for group, layer in zip(self.groups, self.places, strict=True):
            place = counts.lm[layer]
            length = place.text + place.after * in_sequence
            unfused = ("lm", layer) in schedule.unfused
            if group.kind.attention == "cross":
                same = [place.after] * steps
                decoded = [Decoded(same, same, same, place.after, place.after)] * group.kind.kv_heads
            else:
                decoded = heads(group.kind, schedule, layer, length, place.text, steps)
            caches.append(LayerCache(group.kind, place.after, length, load.images, unfused, length, decoded))
        table = self._table(at, load) if steps else None
        acts = () if schedule.masking else schedule.steps
        return RequestClass(
            prompt=counts.lm[0].after * in_sequence + counts.lm[0].text,
            output=load.output_tokens,
            context=context,
            encoder_tokens=load.visual_tokens,
            images=(at, *load[:7]),
            schedule=at,
            selection_ticks=_ticks(table.phase_seconds[SELECTION]) if table else 0,
            early=len(schedule.operations) > 0
            and all(each.stage in ("encoder", "encoder_mlp", "encoder_end") for each in schedule.operations),
            decode_selection_ticks=_ticks(table.phase_seconds[DECODE_SELECTION]) if table else 0,
            embedding_bytes=counts.end.after * text.hidden_size * self.precision.activation_bits // 8,
            splits=self.chunked_prefill and not any(step.stage == "lm" and step.layer > 0 for step in acts),
            caches=caches,
        )

    def _table(self, at: int, load: TokenCounts) -> Any:
        arrays = schedule_arrays(self.mixture[at][1], self.model)
        return operator_table(self.arrays, arrays, load, self.precision, self.gpu_arrays)

    def encoder(self, images: tuple[int, ...]) -> list[int]:
        """Ticks of encoding like images of 1, 2, 4 ... requests at once."""
        if images not in self._encoder:
            tables = [
                self._table(images[0], TokenCounts(*images[1:], text_tokens=1, output_tokens=1, batch_size=number))
                for number in TOGETHER
            ]
            self._encoder[images] = [
                _ticks(table.phase_seconds[VISION]) + _ticks(table.phase_seconds[PROJECTOR]) for table in tables
            ]
        return self._encoder[images]

    @cached_property
    def sharing(self) -> list[list[list[int]]]:
        """Of each schedule, the share of its work a request has in a batch of 1, 2, 4 ...: on prompts, in decoding.

        Taken from the usual request, the smallest of the most frequent.
        """
        made = []
        for at, (_, schedule) in enumerate(self.mixture):
            rows = [[WHOLE_SHARE] * len(TOGETHER) for _ in range(2)]
            if schedule.operations and len(self.requests):
                load = self._usual()
                tables = [self._table(at, load._replace(batch_size=number)) for number in TOGETHER]
                for row, phase in zip(rows, (SELECTION, DECODE_SELECTION), strict=True):
                    taken = [_ticks(table.phase_seconds[phase]) for table in tables]
                    if taken[0]:
                        pairs = zip(taken, TOGETHER, strict=True)
                        row[:] = [round(WHOLE_SHARE * (ticks / number / taken[0])) for ticks, number in pairs]
            made.append(rows)
        return made

    def _usual(self) -> TokenCounts:
        asked = self.requests
        columns: Sequence[Any] = (
            asked.num_images,
            asked.image_height,
            asked.image_width,
            asked.visual_tokens,
            asked.text_tokens,
            asked.output_tokens,
        )
        shapes = list(zip(*(column.tolist() for column in columns), strict=True))
        often = Counter(shapes)
        usual = min(shape for shape in often if often[shape] == max(often.values()))
        load = self.load(shapes.index(usual))
        context = load.visual_tokens * self.model.language_model.visual_in_sequence
        if context + load.text_tokens + load.output_tokens > self.context_tokens:
            return TokenCounts(0, 0, 0, 0, 0, 0, 0, 1, 1, 1)
        return load._replace(text_tokens=min(8192, load.text_tokens), output_tokens=min(512, load.output_tokens))


def _ticks(seconds: float) -> int:
    return round(float(seconds) * TICKS_PER_S)
