"""Attention kernels to be measured: prefill, decode and column mass, beside SDPA and materialised weights."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from asymsim_kernels import column_mass, decode, prefill
from asymsim_kernels.layout import PackedLayout, pack_layout
from asymsim_kernels.tiles import Blocks
from asymsim_kernels.tools.shapes import Value
from asymsim_kernels.tools.subject import Call, Draw, Subject, Tensors, error_share, integers_of, lengths_of


class _Packed:
    """Packed queries, keys and values, and the same operator by operator."""

    def __init__(self, values: Mapping[str, Value], draw: Draw) -> None:
        self.queries, self.keys = lengths_of(values, "queries"), lengths_of(values, "keys")
        self.heads, self.kv_heads, self.size = integers_of(values, "heads", "kv_heads", "head_size")
        self.causal = bool(values["causal"])
        self.draw = draw
        self.q = draw.normal(sum(self.queries), self.heads, self.size)
        self.k, self.v = (draw.normal(sum(self.keys), self.kv_heads, self.size) for _ in range(2))
        keep = float(values.get("keep", 1.0))  # type: ignore[arg-type]
        # What is left of more tokens keeps its original positions.
        positions = torch.cat([draw.sample(n, round(n / keep)) for n in self.keys])
        cu_q, cu_k = (draw.integers([0, *accumulate(lengths)]) for lengths in (self.queries, self.keys))
        self.layout: PackedLayout = pack_layout(cu_q, cu_k, k_positions=positions, causal=self.causal)
        self.element = self.q.element_size()

    def pairs(self, counted: int = 0) -> int:
        """Query-key pairs that the mask allows, over all queries or the last `counted` of each sequence."""
        seen = (self.layout.last - self.layout.first).long()
        starts = pairwise([0, *accumulate(self.queries)])
        return sum(int(seen[max(a, b - counted) if counted else a : b].sum()) for a, b in starts)

    def sequences(self) -> list[tuple[slice, slice]]:
        """Rows of the queries and of the keys of each sequence."""
        bounds = zip(*(pairwise([0, *accumulate(n)]) for n in (self.queries, self.keys)), strict=True)
        return [(slice(*q), slice(*k)) for q, k in bounds]

    def scores(
        self, rows: slice, keys: slice, heads: slice = slice(None), counted: int = 0, wide: bool = False
    ) -> torch.Tensor:
        """Masked scores of one sequence's heads (heads x rows x keys), of its last `counted` queries if not 0."""
        if counted:
            rows = slice(max(rows.start, rows.stop - counted), rows.stop)
        q, k = self.q[rows, heads].transpose(0, 1), self._expanded(self.k, keys, heads)
        if wide:
            q, k = q.double(), k.double()
        scores = (q @ k.transpose(1, 2)) * self.size**-0.5
        if self.causal:
            key_index = torch.arange(keys.stop - keys.start, device=q.device)
            scores.masked_fill_(key_index >= self.layout.last[rows, None], -torch.inf)
        return scores

    def attend(self, rows: slice, keys: slice, heads: slice, wide: bool) -> Tensors:
        """Output (rows x heads x size) and LSE (heads x rows) of one sequence's heads."""
        scores = self.scores(rows, keys, heads, wide=wide)
        v = self._expanded(self.v, keys, heads)
        o = torch.softmax(scores, dim=-1) @ (v.double() if wide else v)
        return o.transpose(0, 1), torch.logsumexp(scores if wide else scores.float(), dim=-1)

    def _expanded(self, x: torch.Tensor, keys: slice, heads: slice) -> torch.Tensor:
        """Keys or values for each of some query heads: heads x keys x size."""
        return x[keys].repeat_interleave(self.heads // self.kv_heads, dim=1)[:, heads].transpose(0, 1)

    def materialised(self) -> Call:
        """Softmax(q k^T) v with the weights stored, sequence by sequence."""
        group = self.heads // self.kv_heads
        causal = self.layout.last

        def call() -> list[torch.Tensor]:
            outputs = []
            for rows, keys in self.sequences():
                q = self.q[rows].transpose(0, 1).unflatten(0, (self.kv_heads, group))
                k, v = (x[keys].transpose(0, 1)[:, None] for x in (self.k, self.v))
                scores = (q @ k.transpose(-1, -2)) * self.size**-0.5
                if self.causal:
                    key_index = torch.arange(k.shape[2], device=k.device)
                    scores = scores.masked_fill_(key_index >= causal[rows, None], -torch.inf)
                outputs.append(torch.softmax(scores, dim=-1) @ v)
            return outputs

        return call

    def sdpa(self) -> Call:
        """PyTorch's own attention: its flash kernel where the type allows, one call if the lengths are equal."""
        equal = len({*self.queries}) == 1 and self.queries == self.keys
        parts: list[tuple[torch.Tensor, ...]] = []
        tensors = (self.q, self.k, self.v)
        if equal:
            shape = (len(self.queries), self.queries[0])
            parts.append(tuple(x.unflatten(0, shape).transpose(1, 2) for x in tensors))
        else:
            for rows, keys in self.sequences():
                cut = (self.q[rows], self.k[keys], self.v[keys])
                parts.append(tuple(x[None].transpose(1, 2) for x in cut))

        def call() -> list[torch.Tensor]:
            with _flash(self.q):
                return [
                    scaled_dot_product_attention(q, k, v, is_causal=self.causal, enable_gqa=self.heads != self.kv_heads)
                    for q, k, v in parts
                ]

        return call


def _flash(q: torch.Tensor) -> AbstractContextManager[Any]:
    flash = q.device.type == "cuda" and q.element_size() == 2
    return sdpa_kernel(SDPBackend.FLASH_ATTENTION) if flash else nullcontext()


def prefill_subject(values: Mapping[str, Value], draw: Draw) -> Subject:
    """`prefill.prefill_attention` over packed, possibly pruned sequences."""
    packed = _Packed(values, draw)

    def judge(outputs: Tensors) -> float:
        o, lse = outputs
        worst = 0.0
        # The first and the last sequence and head, where a wrong offset shows.
        for rows, keys in packed.sequences()[:: max(1, len(packed.queries) - 1)]:
            for head in {0, packed.heads - 1}:
                one = slice(head, head + 1)
                (exact, exact_lse), (plain, plain_lse) = (
                    packed.attend(rows, keys, one, wide) for wide in (True, False)
                )
                worst = max(worst, error_share(o[rows, one], exact, plain))
                worst = max(worst, error_share(lse[one, rows], exact_lse, plain_lse))
        return worst

    tensors = (packed.q, packed.q, packed.k, packed.v)
    moved = sum(x.numel() * x.element_size() for x in tensors) + 4 * packed.heads * sum(packed.queries)
    sdpa = {} if sum(packed.queries) == 0 or 0 in packed.queries else {"sdpa": packed.sdpa()}
    return Subject(
        kernel=lambda blocks: prefill.prefill_attention(packed.q, packed.k, packed.v, packed.layout, blocks=blocks),
        judge=judge,
        others={**sdpa, "materialised": packed.materialised()},
        flops=4 * packed.pairs() * packed.heads * packed.size,
        moved_bytes=moved,
    )


def column_mass_subject(values: Mapping[str, Value], draw: Draw) -> Subject:
    """`column_mass.column_mass`, the pass that follows a prefill whose LSE it is given."""
    packed = _Packed(values, draw)
    counted = int(values["counted"])  # type: ignore[arg-type]
    which = slice(-counted, None) if counted else slice(None)
    group = packed.heads // packed.kv_heads
    _, lse = prefill.prefill_attention(packed.q, packed.k, packed.v, packed.layout)

    def masses(rows: slice, keys: slice, kv_head: int, wide: bool) -> torch.Tensor:
        heads = slice(kv_head * group, (kv_head + 1) * group)
        weights = torch.softmax(packed.scores(rows, keys, heads, counted, wide), dim=-1)
        return weights.sum((0, 1), dtype=torch.float64 if wide else torch.float32)

    def judge(outputs: Tensors) -> float:
        (mass,) = outputs
        worst = 0.0
        for rows, keys in packed.sequences()[:: max(1, len(packed.queries) - 1)]:
            for head in {0, packed.kv_heads - 1}:
                exact, plain = (masses(rows, keys, head, wide) for wide in (True, False))
                worst = max(worst, error_share(mass[head, keys], exact, plain))
        return worst

    def materialised() -> list[torch.Tensor]:
        found = []
        for rows, keys in packed.sequences():
            weights = torch.softmax(packed.scores(rows, keys, counted=counted), dim=-1)
            found.append(weights.sum(1, dtype=torch.float32).unflatten(0, (packed.kv_heads, group)).sum(1))
        return found

    read = sum(min(q, counted) if counted else q for q in packed.queries) * packed.heads
    moved = (read * packed.size + packed.k.numel()) * packed.element + 4 * (read + packed.kv_heads * sum(packed.keys))
    return Subject(
        kernel=lambda blocks: (
            column_mass.column_mass(packed.q, packed.k, lse, packed.layout, queries=which, blocks=blocks),
        ),
        judge=judge,
        others={"materialised": materialised},
        flops=2 * packed.pairs(counted) * packed.heads * packed.size,
        moved_bytes=moved,
    )


def decode_subject(values: Mapping[str, Value], draw: Draw) -> Subject:
    """`decode.decode_attention` over caches of any length for each sequence and KV head."""
    entries = lengths_of(values, "entries")
    heads, kv_heads, size = integers_of(values, "heads", "kv_heads", "head_size")
    batch, group, capacity = len(entries) // kv_heads, heads // kv_heads, max(1, *entries)
    q = draw.normal(batch, heads, size)
    k, v = (draw.normal(batch, kv_heads, capacity, size) for _ in range(2))
    lengths = draw.integers(entries).view(batch, kv_heads)
    outside = torch.arange(capacity, device=lengths.device) >= lengths[:, :, None, None]
    equal = len({*entries}) == 1

    def one(b: int, g: int, wide: bool) -> Tensors:
        n = int(lengths[b, g])
        rows, keys, vals = q[b, g * group : (g + 1) * group], k[b, g, :n], v[b, g, :n]
        if wide:
            rows, keys, vals = rows.double(), keys.double(), vals.double()
        scores = (rows @ keys.T) * size**-0.5
        lse = torch.logsumexp(scores if wide else scores.float(), dim=-1)
        return torch.softmax(scores, dim=-1) @ vals, lse

    def judge(outputs: Tensors) -> float:
        o, lse = outputs
        worst = 0.0
        for b, g in {(0, 0), (batch - 1, kv_heads - 1), (batch // 2, kv_heads // 2)}:
            (exact, exact_lse), (plain, plain_lse) = (one(b, g, wide) for wide in (True, False))
            mine = slice(g * group, (g + 1) * group)
            worst = max(worst, error_share(o[b, mine], exact, plain), error_share(lse[b, mine], exact_lse, plain_lse))
        return worst

    def materialised() -> torch.Tensor:
        scores = (q.unflatten(1, (kv_heads, group)) @ k.transpose(-1, -2)) * size**-0.5
        if not equal:
            scores = scores.masked_fill_(outside, -torch.inf)
        return torch.softmax(scores, dim=-1) @ v

    def sdpa() -> torch.Tensor:
        with _flash(q):
            return scaled_dot_product_attention(q[:, :, None], k, v, enable_gqa=group > 1)

    def kernel(blocks: Blocks | None) -> Tensors:
        return decode.decode_attention(q, k, v, lengths, blocks=blocks, validate=False)

    element = q.element_size()
    return Subject(
        kernel=kernel,
        judge=judge,
        # A mask of lengths would take SDPA off its flash kernel.
        others={**({"sdpa": sdpa} if equal else {}), "materialised": materialised},
        flops=4 * sum(entries) * group * size,
        moved_bytes=2 * (sum(entries) + batch * heads) * size * element + 4 * batch * heads,
    )
