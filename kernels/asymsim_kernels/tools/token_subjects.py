"""Kernels on tokens to be measured, scorers, top-k, merging and compaction, beside PyTorch; and the ceilings."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate

import torch
from torch.nn.functional import normalize

from asymsim_kernels import compact, merge_tokens, scorer, similarity, top_k
from asymsim_kernels.adaptive_budget import ThresholdBudget
from asymsim_kernels.tools.shapes import Value
from asymsim_kernels.tools.subject import Draw, Subject, Tensors, error_share, exact_share, integers_of, lengths_of

BUDGET = ThresholdBudget(low=1.2, high=1.4, conservative=0.6, moderate=0.5, aggressive=0.4)


def _batched(values: Mapping[str, Value], *names: str) -> list[int]:
    """The number of sequences and the length that all share under each name, since PyTorch works on batches."""
    lists = [lengths_of(values, name) for name in names]
    if any(len({*lengths}) != 1 or len(lengths) != len(lists[0]) for lengths in lists):
        raise ValueError(f"{', '.join(names)}: give one length for all sequences")
    return [len(lists[0]), *(lengths[0] for lengths in lists)]


def _cumulative(draw: Draw, count: int, length: int) -> torch.Tensor:
    return draw.integers([i * length for i in range(count + 1)])


def scorer_subject(values: Mapping[str, Value], draw: Draw) -> Subject:
    """`scorer.relevance_scores`."""
    batch, visual, text = _batched(values, "visual", "text")
    (hidden,) = integers_of(values, "hidden")
    v, t = draw.normal(batch * visual, hidden), draw.normal(batch * text, hidden)
    weight = draw.normal(hidden, dtype=torch.float32) if values["weighted"] else None
    cu_v, cu_t = _cumulative(draw, batch, visual), _cumulative(draw, batch, text)

    def scores(v: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        weighted = normalize(v, dim=-1) if weight is None else normalize(v, dim=-1) * weight.to(v.dtype)
        return (weighted @ normalize(t, dim=-1).transpose(-1, -2)).amax(-1)

    def judge(outputs: Tensors) -> float:
        worst = 0.0
        for b in {0, batch - 1}:
            rows, words = slice(b * visual, (b + 1) * visual), slice(b * text, (b + 1) * text)
            exact, plain = scores(v[rows].double(), t[words].double()), scores(v[rows], t[words])
            worst = max(worst, error_share(outputs[0][rows], exact, plain))
        return worst

    return Subject(
        kernel=lambda blocks: (
            scorer.relevance_scores(v, t, cu_v, cu_t, weight, max_v=visual, validate=False, blocks=blocks),
        ),
        judge=judge,
        others={"materialised": lambda: scores(v.unflatten(0, (batch, -1)), t.unflatten(0, (batch, -1)))},
        flops=2 * batch * visual * text * hidden,
        moved_bytes=(v.numel() + t.numel()) * v.element_size() + 4 * batch * visual,
    )


def similarity_subject(values: Mapping[str, Value], draw: Draw) -> Subject:
    """`similarity.text_alignment`, which reads its inputs in both of its passes."""
    batch, visual, text = _batched(values, "visual", "text")
    (joint,) = integers_of(values, "joint")
    a, s, cls, eos = (normalize(draw.normal(n, joint), dim=-1) for n in (batch * visual, batch * text, batch, batch))
    cu_v, cu_t = _cumulative(draw, batch, visual), _cumulative(draw, batch, text)
    sharpness = 0.1

    def scores(a: torch.Tensor, s: torch.Tensor, cls: torch.Tensor, eos: torch.Tensor) -> torch.Tensor:
        m = a @ s.transpose(-1, -2)
        alpha, beta = a @ eos[..., None], (s @ cls[..., None]).transpose(-1, -2)
        over_text = alpha * torch.softmax(sharpness * beta * m, dim=-1) / visual
        over_visual = beta * torch.softmax(sharpness * alpha * m, dim=-2) / text
        return ((over_text + over_visual) * m).mean(-1)

    def judge(outputs: Tensors) -> float:
        worst = 0.0
        for b in {0, batch - 1}:
            rows, words = slice(b * visual, (b + 1) * visual), slice(b * text, (b + 1) * text)
            inputs = (a[rows], s[words], cls[b], eos[b])
            exact, plain = scores(*(x.double() for x in inputs)), scores(*inputs)
            worst = max(worst, error_share(outputs[0][rows], exact, plain))
        return worst

    def materialised() -> torch.Tensor:
        return scores(a.unflatten(0, (batch, -1)), s.unflatten(0, (batch, -1)), cls, eos)

    return Subject(
        kernel=lambda blocks: (
            similarity.text_alignment(
                a, s, cls, eos, cu_v, cu_t, sharpness=sharpness, max_v=visual, validate=False, blocks=blocks
            ),
        ),
        judge=judge,
        others={"materialised": materialised},
        flops=4 * batch * visual * text * joint,
        moved_bytes=2 * (a.numel() + s.numel()) * a.element_size() + 4 * batch * visual,
    )


def top_k_subject(values: Mapping[str, Value], draw: Draw) -> Subject:
    """`top_k.top_k`, k given or by the gap of the scores."""
    batch, tokens = _batched(values, "tokens")
    rows, capacity, adaptive = integers_of(values, "rows", "capacity", "adaptive")
    # Few distinct values, so that there are ties.
    scores = (draw.normal(rows, batch * tokens, dtype=torch.float32) * 64).round().to(draw.dtype) / 64
    cu = _cumulative(draw, batch, tokens)
    k = BUDGET if adaptive else draw.integers([capacity]).expand(batch)

    def judge(outputs: Tensors) -> float:
        indices, counts = outputs
        split = scores.unflatten(1, (batch, tokens)).transpose(0, 1).double()
        order = split.sort(dim=-1, descending=True, stable=True)
        wanted = torch.full_like(counts, capacity)
        if adaptive:
            quarter = max(1, tokens // 4)
            gap = order.values[..., quarter - 1] - order.values[..., tokens - quarter]
            shares = [round(share * 10**12) for share in (BUDGET.conservative, BUDGET.moderate, BUDGET.aggressive)]
            fewer, fewest = gap >= BUDGET.low, gap >= BUDGET.high
            chosen = torch.where(fewest, shares[2], torch.where(fewer, shares[1], shares[0]))
            wanted = (chosen * tokens // 10**12).int()
        place = torch.arange(tokens, device=scores.device) < wanted[..., None]
        kept = torch.where(place, order.indices, tokens).sort(dim=-1).values[..., :capacity]
        kept = torch.where(kept < tokens, kept, -1)
        return exact_share(torch.equal(counts, wanted) and torch.equal(indices, kept.int()))

    def materialised() -> torch.Tensor:
        split = scores.unflatten(1, (batch, tokens))
        return split.topk(min(capacity, tokens), dim=-1).indices.sort(dim=-1).values

    return Subject(
        kernel=lambda blocks: top_k.top_k(
            scores, cu, k, capacity=capacity, max_tokens=tokens, validate=False, blocks=blocks
        )[:2],
        judge=judge,
        # Sorting under a budget of its own for each row has no single call.
        others={} if adaptive else {"materialised": materialised},
        moved_bytes=scores.numel() * scores.element_size() + 4 * batch * rows * (capacity + 1),
    )


def merge_tokens_subject(values: Mapping[str, Value], draw: Draw) -> Subject:
    """`merge_tokens.merge_tokens`, each kept token with the dropped ones that came to it."""
    tokens, kept = lengths_of(values, "tokens"), lengths_of(values, "kept")
    (hidden,) = integers_of(values, "hidden")
    # The first tokens of a sequence stay themselves, the others go anywhere among them.
    parts = [torch.cat([draw.integers(range(k)), draw.below(k, n - k)]) for n, k in zip(tokens, kept, strict=True)]
    assigned = torch.cat(parts)
    starts = draw.integers([0, *accumulate(kept)])
    plan = merge_tokens.plan_merge(assigned, draw.integers([0, *accumulate(tokens)]), starts)
    x = draw.normal(sum(tokens), hidden)
    cluster = assigned.long() + starts[:-1].long().repeat_interleave(torch.tensor(tokens, device=x.device))
    members = torch.bincount(cluster, minlength=sum(kept))[:, None]

    def means(x: torch.Tensor, wide: torch.dtype) -> torch.Tensor:
        total = torch.zeros(sum(kept), x.shape[1], dtype=wide, device=x.device)
        return total.index_add_(0, cluster, x.to(wide)) / members

    def judge(outputs: Tensors) -> float:
        worst = 0.0
        for columns in (slice(0, 16), slice(max(0, hidden - 16), hidden)):
            exact, plain = (means(x[:, columns], wide) for wide in (torch.float64, torch.float32))
            worst = max(worst, error_share(outputs[0][:, columns], exact, plain.to(x.dtype)))
        return worst

    return Subject(
        kernel=lambda blocks: (merge_tokens.merge_tokens(x, plan, blocks=blocks),),
        judge=judge,
        others={"materialised": lambda: means(x, torch.float32).to(x.dtype)},
        moved_bytes=(sum(tokens) + sum(kept)) * hidden * x.element_size() + 4 * sum(tokens),
    )


def compact_subject(values: Mapping[str, Value], draw: Draw) -> Subject:
    """`compact.compact` of caches that keep some entries for each sequence and KV head."""
    counts = lengths_of(values, "kept")
    capacity, kv_heads, size = integers_of(values, "capacity", "kv_heads", "head_size")
    batch, listed = len(counts) // kv_heads, max(counts)
    k, v = (draw.normal(batch, kv_heads, capacity, size) for _ in range(2))
    positions = draw.integers(range(capacity)).expand(batch, kv_heads, capacity)
    lists = torch.zeros(len(counts), listed, dtype=torch.int32, device=k.device)
    for row, count in zip(lists, counts, strict=True):
        row[:count] = draw.sample(count, capacity)
    kept = lists.view(batch, kv_heads, listed)
    lengths = draw.integers(counts).view(batch, kv_heads)
    rows = kept.long()[..., None].expand(-1, -1, -1, size)

    def judge(outputs: Tensors) -> float:
        inside = torch.arange(listed, device=k.device) < lengths[..., None]
        wanted = (k.gather(2, rows), v.gather(2, rows), kept)
        return exact_share(all(torch.equal(o[inside], w[inside]) for o, w in zip(outputs, wanted, strict=True)))

    moved = sum(counts) * (4 * size * k.element_size() + 12)
    return Subject(
        kernel=lambda blocks: compact.compact(k, v, positions, kept, lengths, validate=False, blocks=blocks),
        judge=judge,
        others={"materialised": lambda: (k.gather(2, rows), v.gather(2, rows))},
        moved_bytes=moved,
    )


def copy_subject(values: Mapping[str, Value], draw: Draw) -> Subject:
    """A copy within the device's memory: every byte is read and written."""
    (size,) = integers_of(values, "bytes")
    source = torch.ones(size, dtype=torch.int8, device=draw.device)
    target = torch.empty_like(source)
    return Subject(others={"copy": lambda: target.copy_(source)}, moved_bytes=2 * size)


def matmul_subject(values: Mapping[str, Value], draw: Draw) -> Subject:
    """A large matrix product by PyTorch; fp32 at full precision."""
    m, n, k = integers_of(values, "m", "n", "k")
    a, b = draw.normal(m, k), draw.normal(k, n)
    return Subject(
        others={"matmul": lambda: a @ b},
        flops=2 * m * n * k,
        moved_bytes=(m * k + k * n + m * n) * a.element_size(),
    )
