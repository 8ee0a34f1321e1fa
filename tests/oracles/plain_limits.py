"""Memory for the cache, and a replica's limits, from the model's shape and the server's settings."""

from __future__ import annotations

import math
from typing import NamedTuple

from asymsim.catalogue.model import Layer
from asymsim.core.token_counts import TokenCounts
from asymsim.methods.schedule import Schedule
from asymsim.serving.config import ClusterConfig, EngineConfig
from oracles.naive_tokens import tokens
from oracles.plain_classes import TICKS_PER_S, Classes

WORKSPACE_BYTES = 32 * 2**20


class PlainLimits(NamedTuple):
    """Limits of one replica and of the router, by the names of the simulator's."""

    max_seqs: int
    max_tokens: int
    encoder_budget: int
    encoder_cache: int
    kv_capacity: int
    context: int
    prefix_share: float
    router: str
    concurrency: int
    ticks_per_byte: float
    transfer_ticks: int


def limits(classes: Classes, server: EngineConfig, fleet: ClusterConfig) -> PlainLimits:
    """Limits of a server whose requests are of some classes."""
    max_tokens, max_seqs = server.batch_on(classes.gpu)
    budget = server.encoder_budget_tokens or max_tokens
    return PlainLimits(
        max_seqs=max_seqs,
        max_tokens=max_tokens,
        encoder_budget=budget,
        encoder_cache=server.encoder_cache_tokens or budget,
        kv_capacity=server.kv_cache_bytes or capacity_bytes(classes, server, max_tokens),
        context=classes.context_tokens,
        prefix_share=server.prefix_share,
        router=fleet.router,
        concurrency=fleet.concurrency,
        ticks_per_byte=TICKS_PER_S / fleet.transfer_bytes_per_s,
        transfer_ticks=round(fleet.transfer_latency_s * TICKS_PER_S),
    )


def capacity_bytes(classes: Classes, server: EngineConfig, max_tokens: int) -> int:
    """All GPUs' memory less weights, workspace and the largest activations."""
    tp_size = classes.precision.tp_size
    weights = math.ceil(classes.model.parameters["total"] * classes.precision.weight_bits / (8 * tp_size))
    left = server.gpu_memory_utilization * classes.gpu.capacity_bytes - WORKSPACE_BYTES - weights
    text = TokenCounts(0, 0, 0, 0, 0, 0, 0, max_tokens, 1, 1)
    most = activation_bytes(classes, Schedule(), text)
    for request in range(len(classes.requests)):
        most = max(most, activation_bytes(classes, classes.schedule_of(request), classes.load(request)))
    heads = classes.model.language_model.layer_kinds[0].kv_heads
    copies = math.ceil(heads / tp_size) * tp_size / heads
    return int((left - most) * tp_size / copies)


def activation_bytes(classes: Classes, schedule: Schedule, load: TokenCounts) -> int:
    """Bytes alive at the widest layer of encoder or decoder, or logits of 4 bytes."""
    counts = tokens(classes.model, schedule, load)
    text, tower = classes.model.language_model, classes.model.vision_tower
    widths = [text.vocab_size * 32 // classes.precision.activation_bits]
    waiting = load.visual_tokens * text.hidden_size
    sequences = load.images * load.sequences
    for layer, place in enumerate(counts.tower):
        assert tower is not None
        rows = sequences * (tower.extra_tokens + place.after)
        mlp_rows = sequences * (tower.extra_tokens + counts.tower_mlp[layer])
        pairs = rows * (tower.extra_tokens + place.after) if ("encoder", layer) in schedule.unfused else 0
        kind = tower.layer_kinds[tower.layer_pattern[layer]]
        widths.append(waiting + _alive(kind, rows, mlp_rows, pairs, classes.precision.tp_size))
    for layer, place in enumerate(counts.lm):
        rows = place.text + place.after * text.visual_in_sequence
        pairs = rows * rows if ("lm", layer) in schedule.unfused else 0
        kind = text.layer_kinds[text.layer_pattern[layer]]
        widths.append(_alive(kind, rows, rows, pairs, classes.precision.tp_size))
    return max(widths) * classes.precision.activation_bits // 8


def _alive(kind: Layer, rows: int, mlp_rows: int, pairs: int, tp_size: int) -> int:
    """The stream and its normed copy, beside attention's inputs and output, or the FFN's; the latter are divided."""
    attention = rows * kind.head_size * (2 * kind.heads + 2 * kind.kv_heads) + 2 * pairs * kind.heads
    wide = kind.intermediate_size * max(1, kind.experts_per_token) + kind.shared_intermediate_size
    ffn = mlp_rows * wide * (3 if kind.gated else 2)
    return 2 * rows * kind.hidden_size + math.ceil(max(attention, ffn) / tp_size)
