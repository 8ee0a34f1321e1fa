"""FLOPs by their definition: one matrix at a time, one query-key pair at a time, one decode step at a time.

Slow on purpose. ``framework`` counts what FlopCounterMode would: square attention, all experts that run.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

from asymsim.catalogue.model import Layer, VlmModel
from asymsim.core.token_counts import TokenCounts
from asymsim.methods.schedule import Schedule
from oracles.naive_cache import Decoded, heads
from oracles.naive_tokens import Tokens, tokens


@dataclass
class Counts:
    """FLOPs of the batch by phase and layer, and cache bytes."""

    tower: int = 0
    projector: int = 0
    prefill_layers: list[int] = field(default_factory=list)
    head: int = 0
    decode_steps: list[int] = field(default_factory=list)
    kv_prefill_bytes: int = 0
    kv_final_bytes: int = 0
    tokens: Tokens = field(default_factory=Tokens)


def matrix(rows: int, outputs: int, inputs: int) -> int:
    """A multiplication and an addition for each of ``inputs`` elements of each result."""
    return 2 * rows * outputs * inputs


def sees(query: int, key: int, mask: str, images: tuple[int, ...], kind: Layer) -> bool:
    """Whether a prompt token at ``query`` attends to ``key``; the images' tokens come first."""
    if mask == "prefix":
        return True
    if mask == "image_bidirectional" and key > query:
        return _image(query, images) is not None and _image(query, images) == _image(key, images)
    if key > query:
        return False
    if kind.window_tokens:
        return query - key < kind.window_tokens
    return not kind.chunk_tokens or query // kind.chunk_tokens == key // kind.chunk_tokens


def _image(position: int, images: tuple[int, ...]) -> int | None:
    for index, length in enumerate(images):
        if position < length:
            return index
        position -= length
    return None


@cache
def prefill_pairs(length: int, mask: str, images: tuple[int, ...], kind: Layer) -> int:
    """Pairs that the mask allows, counted one by one."""
    return sum(sees(query, key, mask, images, kind) for query in range(length) for key in range(length))


def dealt(visual: int, images: int) -> tuple[int, ...]:
    """Visual tokens of each image, dealt out like cards."""
    return tuple(len(range(image, visual, images)) for image in range(images))


def ffn(kind: Layer, rows: int, framework: bool) -> int:
    """Up, gate and down matrices, or those of a token's experts, the router and the shared expert."""
    matrices = (kind.intermediate_size,) * (3 if kind.gated else 2)
    if not kind.experts:
        return sum(matrix(rows, width, kind.hidden_size) for width in matrices)
    run = (framework and kind.framework_experts_per_token) or kind.experts_per_token
    flops = matrix(rows, kind.experts, kind.hidden_size)
    for _ in range(run):
        flops += sum(matrix(rows, width, kind.hidden_size) for width in matrices)
    return flops + 3 * matrix(rows, kind.shared_intermediate_size, kind.hidden_size)


def projections(kind: Layer, rows: int, kv_rows: int) -> int:
    """Query, key, value and output matrices."""
    query_width, kv_width = kind.heads * kind.head_size, kind.kv_heads * kind.head_size
    queries = matrix(rows, query_width, kind.hidden_size) + matrix(rows, kind.hidden_size, query_width)
    return queries + 2 * matrix(kv_rows, kv_width, kind.hidden_size)


def attention(kind: Layer, pairs: int) -> int:
    """Score and weighted value of each pair in each head."""
    return pairs * kind.heads * (2 * kind.head_size + 2 * kind.head_size)


def count(model: VlmModel, schedule: Schedule, load: TokenCounts, framework: bool = False, kv_bits: int = 16) -> Counts:
    """Count one scenario."""
    made = tokens(model, schedule, load)
    result = Counts(tokens=made)
    batch = load.batch_size
    _tower(model, load, framework, result)
    _projector(model, load, result)
    text_model = model.language_model
    in_sequence = text_model.visual_in_sequence
    steps = load.output_tokens - 1
    result.head = matrix(batch, text_model.vocab_size, text_model.hidden_size)
    result.decode_steps = [result.head] * steps
    for layer, index in enumerate(text_model.layer_pattern):
        kind = text_model.layer_kinds[index]
        visual, text = made.lm[layer].after, made.lm[layer].text
        length = text + (visual if in_sequence else 0)
        cross = kind.attention == "cross"
        if cross and visual == 0:
            result.prefill_layers.append(0)
            continue
        keys = visual if cross else length
        if cross or framework:
            pairs = length * keys
        else:
            pairs = prefill_pairs(length, text_model.mask, dealt(visual, load.images) if load.images else (), kind)
        dense = projections(kind, length, keys) + ffn(kind, length, framework)
        result.prefill_layers.append(batch * (dense + attention(kind, pairs)))
        if cross:
            decoded = [Decoded([visual] * steps, [visual] * steps, [visual] * steps, visual, visual)] * kind.kv_heads
        else:
            decoded = heads(kind, schedule, layer, length, text, steps)
        dense = projections(kind, 1, 0 if cross else 1) + ffn(kind, 1, framework)
        per_key = 4 * kind.head_size * (kind.heads // kind.kv_heads)
        for step in range(steps):
            seen = sum((head.framework_seen if framework else head.seen)[step] for head in decoded)
            result.decode_steps[step] += batch * (dense + per_key * seen)
        entry = 2 * kind.head_size * kv_bits // 8
        result.kv_prefill_bytes += batch * entry * sum(head.prefill for head in decoded)
        result.kv_final_bytes += batch * entry * sum(head.final for head in decoded)
    return result


def _tower(model: VlmModel, load: TokenCounts, framework: bool, result: Counts) -> None:
    tower = model.vision_tower
    if tower is None:
        return
    sequences = load.images * load.sequences * load.batch_size
    result.tower = matrix(load.images * load.patches * load.batch_size, tower.patch.outputs, tower.patch.inputs)
    if framework:
        result.tower += sequences * tower.framework_flops
    for layer, index in enumerate(tower.layer_pattern):
        if sequences == 0:
            break
        kind = tower.layer_kinds[index]
        entering = tower.extra_tokens + result.tokens.tower[layer].after
        left = tower.extra_tokens + result.tokens.tower_mlp[layer]
        pairs = sequences * sum(1 for _ in range(entering) for _ in range(entering))
        if kind.window_tokens:
            # Windows are the image rule's to count, and whole: pruned windows have no definition of their own.
            assert entering == load.sequence_tokens
            pairs = load.images * load.batch_size * load.window_pairs
        dense = projections(kind, sequences * entering, sequences * entering) + ffn(kind, sequences * left, framework)
        result.tower += dense + attention(kind, pairs)


def _projector(model: VlmModel, load: TokenCounts, result: Counts) -> None:
    projector, tower = model.projector, model.vision_tower
    if projector is None or tower is None:
        return
    sequences = load.images * load.sequences * load.batch_size
    entering = tower.extra_tokens + (result.tokens.tower_mlp[-1] if result.tokens.tower_mlp else 0)
    leaving = load.images * load.projector_tokens
    if result.tokens.end.after < load.visual_tokens:
        leaving = min(leaving, result.tokens.end.after)
    for linear in projector.linears:
        rows = sequences * entering if linear.rows == "encoder" else load.batch_size * leaving
        result.projector += matrix(rows, linear.outputs, linear.inputs)
    if projector.resampler:
        for _ in range(load.batch_size * leaving):
            result.projector += entering * projector.resampler.heads * 4 * projector.resampler.head_size
