"""Small cases of every kernel, each with the cost that its closed form predicts and the launch that is to execute it.

They cross what the closed forms branch on: causal and not, windows, ragged batches with empty sequences, grouped KV
heads, lengths and head sizes that fill no tile. `proof` counts them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

import torch

from asymsim_kernels import column_mass, compact, decode, merge_tokens, prefill, scorer, similarity, top_k
from asymsim_kernels.adaptive_budget import LinearBudget, ThresholdBudget
from asymsim_kernels.layout import PackedLayout, pack_layout
from asymsim_kernels.tiles import Blocks, TileCost
from asymsim_kernels.tools.shapes import shape_text

TORCH_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}


class Case(NamedTuple):
    """One launch.

    Attributes
    ----------
    kernel : str
        One of the eight operators.
    shape, dtype : str
        Shape as `shapes.shape_text` writes it, and element type.
    predicted : TileCost
        The closed form's.
    launch : callable
        Runs the kernel.
    """

    kernel: str
    shape: str
    dtype: str
    predicted: TileCost
    launch: Callable[[], object]


def cases() -> Iterator[Case]:
    """All cases, kernel by kernel."""
    yield _prefill([37], [37], 4, 2, 20, "fp16", Blocks(16, 16))
    yield _prefill([37], [37], 4, 2, 20, "fp16", Blocks(16, 16), causal=False)
    yield _prefill([19, 0, 33], [19, 0, 33], 3, 1, 64, "fp32", Blocks(32, 16), pruned=True)
    yield _prefill([5, 17], [40, 17], 7, 1, 24, "fp16", Blocks(16, 32))
    yield _prefill([1], [50], 2, 2, 80, "fp32", Blocks(16, 16), causal=False)
    yield _prefill([45], [45], 2, 1, 72, "fp16", Blocks(16, 16), window=11)
    for entries, heads, kv_heads, size, dtype, splits in (
        ([37], 1, 1, 20, "fp16", 1),
        ([37, 0, 16, 5], 6, 2, 64, "fp16", 3),
        ([70, 1, 33], 7, 1, 24, "fp32", 4),
        ([48, 48], 4, 1, 72, "fp16", 2),
        ([0], 3, 1, 16, "fp32", 2),
    ):
        yield _decode(entries, heads, kv_heads, size, dtype, splits)
    yield _column_mass([37], [37], 4, 2, 20, "fp16", Blocks(16, 16))
    yield _column_mass([37], [37], 4, 2, 20, "fp16", Blocks(16, 16), causal=False)
    yield _column_mass([19, 0, 33], [19, 0, 33], 3, 1, 64, "fp32", Blocks(32, 16), pruned=True)
    yield _column_mass([40, 17], [40, 17], 7, 1, 24, "fp16", Blocks(16, 32), counted=5)
    yield _column_mass([45], [45], 2, 1, 72, "fp16", Blocks(16, 16), window=11)
    for visual, text, hidden, dtype, weight in (
        ([37], [5], 100, "fp16", None),
        ([19, 0, 33], [17, 4, 3], 72, "fp16", "fp32"),
        ([40], [1], 33, "fp32", "fp32"),
        ([16, 2], [0, 20], 128, "fp32", None),
    ):
        yield _scorer(visual, text, hidden, dtype, weight)
    for visual, text, joint, dtype in (
        ([37], [5], 100, "fp16"),
        ([19, 0, 33], [17, 4, 3], 72, "fp16"),
        ([40], [2], 33, "fp32"),
        ([16, 2], [3, 20], 64, "fp32"),
    ):
        yield _similarity(visual, text, joint, dtype)
    for tokens, rows, k, protected, dtype in (
        ([37], 1, 9, False, "fp32"),
        ([40, 17, 33], 2, 5, True, "fp16"),
        ([21, 1], 1, ThresholdBudget(0.5, 1.5, 0.75, 0.5, 0.25), False, "fp32"),
        ([50, 0], 2, LinearBudget(0.5, -0.2, 1.0, 0.25, 0.75), True, "fp16"),
    ):
        yield _top_k(tokens, rows, k, protected, dtype)
    for tokens, kept, features, dtype in (
        ([37], [9], 100, "fp16"),
        ([19, 0, 33], [4, 0, 12], 72, "fp32"),
        ([16, 5], [1, 5], 1000, "fp16"),
    ):
        yield _merge_tokens(tokens, kept, features, dtype)
    for counts, capacity, size, dtype in (
        ([[37]], 50, 20, "fp16"),
        ([[5, 0], [17, 33]], 40, 72, "fp32"),
        ([[3, 8, 1]], 9, 128, "fp16"),
    ):
        yield _compact(counts, capacity, size, dtype)


def cumulative(lengths: Sequence[int]) -> torch.Tensor:
    """Cumulative lengths as the launchers take them."""
    return torch.tensor([0, *accumulate(lengths)], dtype=torch.int32)


def _random(*shape: int, dtype: str, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(TORCH_DTYPES[dtype])


def _layout(queries: Sequence[int], keys: Sequence[int], causal: bool, window: int, pruned: bool) -> PackedLayout:
    # Every third position, as if two tokens of three had been dropped; a window counts the dropped ones too.
    positions = torch.cat([torch.arange(n, dtype=torch.int32) * 3 for n in keys]) if pruned else None
    return pack_layout(
        cumulative(queries), cumulative(keys), k_positions=positions, causal=causal, window=window or None
    )


def _prefill(
    queries: Sequence[int],
    keys: Sequence[int],
    heads: int,
    kv_heads: int,
    size: int,
    dtype: str,
    blocks: Blocks,
    *,
    causal: bool = True,
    window: int = 0,
    pruned: bool = False,
) -> Case:
    layout = _layout(queries, keys, causal, window, pruned)
    q = _random(sum(queries), heads, size, dtype=dtype)
    k, v = (_random(sum(keys), kv_heads, size, dtype=dtype, seed=seed) for seed in (1, 2))
    shape = shape_text(
        queries=queries, keys=keys, heads=heads, kv_heads=kv_heads, head_size=size, causal=causal, window=window
    )
    predicted = prefill.cost(layout, heads, size, dtype, blocks)
    return Case("prefill", shape, dtype, predicted, lambda: prefill.prefill_attention(q, k, v, layout, blocks=blocks))


def _column_mass(
    queries: Sequence[int],
    keys: Sequence[int],
    heads: int,
    kv_heads: int,
    size: int,
    dtype: str,
    blocks: Blocks,
    *,
    causal: bool = True,
    window: int = 0,
    pruned: bool = False,
    counted: int = 0,
) -> Case:
    layout = _layout(queries, keys, causal, window, pruned)
    q = _random(sum(queries), heads, size, dtype=dtype)
    k = _random(sum(keys), kv_heads, size, dtype=dtype, seed=1)
    lse = torch.full((heads, sum(queries)), 3.0)
    which = slice(-counted, None) if counted else slice(None)
    shape = shape_text(
        queries=queries,
        keys=keys,
        heads=heads,
        kv_heads=kv_heads,
        head_size=size,
        causal=causal,
        window=window,
        counted=counted,
    )
    predicted = column_mass.cost(layout, heads, kv_heads, size, dtype, blocks, which)
    return Case(
        "column_mass",
        shape,
        dtype,
        predicted,
        lambda: column_mass.column_mass(q, k, lse, layout, queries=which, blocks=blocks),
    )


def _decode(entries: Sequence[int], heads: int, kv_heads: int, size: int, dtype: str, splits: int) -> Case:
    lengths = torch.tensor(entries, dtype=torch.int32).reshape(-1, kv_heads)
    batch, capacity = len(lengths), max(1, *entries)
    q = _random(batch, heads, size, dtype=dtype)
    k, v = (_random(batch, kv_heads, capacity, size, dtype=dtype, seed=seed) for seed in (1, 2))
    blocks = Blocks(0, 16)
    predicted = decode.cost(lengths, heads, size, dtype, splits, blocks)
    shape = shape_text(entries=entries, heads=heads, kv_heads=kv_heads, head_size=size)
    return Case(
        "decode",
        shape,
        dtype,
        predicted,
        lambda: decode.decode_attention(q, k, v, lengths, splits=splits, blocks=blocks),
    )


def _scorer(visual: Sequence[int], text: Sequence[int], hidden: int, dtype: str, weight: str | None) -> Case:
    v, t = _random(sum(visual), hidden, dtype=dtype), _random(sum(text), hidden, dtype=dtype, seed=1)
    w = None if weight is None else _random(hidden, dtype=weight, seed=2)
    blocks = Blocks(16, 16)
    shape = shape_text(visual=visual, text=text, hidden=hidden, weighted=weight is not None)
    return Case(
        "scorer",
        shape,
        dtype,
        scorer.cost(visual, text, hidden, dtype, blocks, weight),
        lambda: scorer.relevance_scores(v, t, cumulative(visual), cumulative(text), w, blocks=blocks),
    )


def _similarity(visual: Sequence[int], text: Sequence[int], joint: int, dtype: str) -> Case:
    a, s = _random(sum(visual), joint, dtype=dtype), _random(sum(text), joint, dtype=dtype, seed=1)
    cls, eos = (_random(len(visual), joint, dtype=dtype, seed=seed) for seed in (2, 3))
    blocks = Blocks(16, 16)
    return Case(
        "similarity",
        shape_text(visual=visual, text=text, joint=joint),
        dtype,
        similarity.cost(visual, text, joint, dtype, blocks),
        lambda: similarity.text_alignment(a, s, cls, eos, cumulative(visual), cumulative(text), blocks=blocks),
    )


def _top_k(
    tokens: Sequence[int], rows: int, k: int | ThresholdBudget | LinearBudget, guarded: bool, dtype: str
) -> Case:
    scores = _random(rows, sum(tokens), dtype=dtype)
    protected = (torch.arange(sum(tokens)) % 11 == 0) if guarded else None
    adaptive = not isinstance(k, int)
    capacity = max(tokens) if adaptive else k
    blocks = Blocks(1, 16, 4, 1)
    if not adaptive:
        k = torch.tensor([min(k, n) for n in tokens], dtype=torch.int32)
        capacity = int(k.max())
    return Case(
        "top_k",
        shape_text(tokens=tokens, rows=rows, capacity=capacity, adaptive=adaptive, protected=guarded),
        dtype,
        top_k.cost(tokens, rows, capacity, dtype, protected=guarded, adaptive=adaptive),
        lambda: top_k.top_k(scores, cumulative(tokens), k, protected, blocks=blocks),
    )


def _merge_tokens(tokens: Sequence[int], kept: Sequence[int], features: int, dtype: str) -> Case:
    x = _random(sum(tokens), features, dtype=dtype)
    # Tokens are dealt round, and every seventh goes nowhere.
    places = [-1 if i % 7 == 6 else i % k for n, k in zip(tokens, kept, strict=True) for i in range(n)]
    assigned = torch.tensor(places, dtype=torch.int32)
    plan = merge_tokens.plan_merge(assigned, cumulative(tokens), cumulative(kept))
    return Case(
        "merge_tokens",
        shape_text(tokens=tokens, kept=kept, assigned=plan.assigned, hidden=features),
        dtype,
        merge_tokens.cost(plan.assigned, plan.clusters, features, dtype),
        lambda: merge_tokens.merge_tokens(x, plan),
    )


def _compact(counts: Sequence[Sequence[int]], capacity: int, size: int, dtype: str) -> Case:
    batch, kv_heads, listed = len(counts), len(counts[0]), max(map(max, counts))
    k, v = (_random(batch, kv_heads, capacity, size, dtype=dtype, seed=seed) for seed in (0, 1))
    positions = torch.arange(capacity, dtype=torch.int32).expand(batch, kv_heads, capacity)
    # The last `listed` entries of the cache.
    kept = torch.arange(capacity - listed, capacity, dtype=torch.int32).expand(batch, kv_heads, listed)
    lengths = torch.tensor(counts, dtype=torch.int32)
    blocks = Blocks(8, 1, 4, 1)
    return Case(
        "compact",
        shape_text(kept=[n for row in counts for n in row], head_size=size),
        dtype,
        compact.cost(counts, listed, size, dtype, blocks),
        lambda: compact.compact(k, v, positions, kept, lengths, blocks=blocks),
    )
