"""Inputs for the attention kernels, and the tolerance that they are held to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from hypothesis import Phase
from torch import Tensor

from asymsim_reference.attention import Attention, attention, visible

UNSHRUNK = (Phase.explicit, Phase.reuse, Phase.generate)
"""Phases of properties that run kernels: shrinking an interpreted failure takes minutes and says little more."""


@dataclass(frozen=True, kw_only=True)
class Packed:
    """A packed ragged batch with its original positions."""

    q_THD: Tensor
    k_SGD: Tensor
    v_SGD: Tensor
    cu_q: Tensor
    cu_k: Tensor
    q_positions: Tensor
    k_positions: Tensor
    causal: bool
    window: int | None

    def sequences(self) -> list[tuple[slice, slice]]:
        """Query rows and key rows of each sequence."""
        bounds = zip(pairwise(self.cu_q.tolist()), pairwise(self.cu_k.tolist()), strict=True)
        return [(slice(*q), slice(*k)) for q, k in bounds]

    def mask(self, queries: slice, keys: slice) -> Tensor:
        """Which keys of a sequence its queries see."""
        q, k = self.q_positions[queries], self.k_positions[keys]
        return visible(q, k, causal=self.causal, window=self.window)

    def reference(self, queries: slice, keys: slice, mask: Tensor | None = None) -> Attention:
        """Float64 attention of a sequence."""
        mask = self.mask(queries, keys) if mask is None else mask
        return attention(*(heads_first(x) for x in (self.q_THD[queries], self.k_SGD[keys], self.v_SGD[keys])), mask)


def packed(
    q_lengths: Sequence[int],
    k_lengths: Sequence[int] | None = None,
    *,
    heads: int = 2,
    kv_heads: int = 1,
    size: int = 16,
    dtype: torch.dtype = torch.float32,
    causal: bool = True,
    window: int | None = None,
    spread: int = 3,
    seed: int = 0,
) -> Packed:
    """Random tokens; positions are a sorted sample of `spread` times as many, as pruning leaves them.

    Queries are the keys' own positions where there are as many, else positions from the same range.
    """
    make = torch.Generator().manual_seed(seed)
    k_lengths = q_lengths if k_lengths is None else k_lengths

    def sample(length: int, below: int) -> Tensor:
        return torch.randperm(max(below, length), generator=make)[:length].sort().values.int()

    k_parts = [sample(n, spread * n) for n in k_lengths]
    q_parts = [
        k if len(k) == m else sample(m, spread * max(m, len(k))) for m, k in zip(q_lengths, k_parts, strict=True)
    ]
    none = torch.empty(0, dtype=torch.int32)
    return Packed(
        q_THD=torch.randn(sum(q_lengths), heads, size, generator=make).to(dtype),
        k_SGD=torch.randn(sum(k_lengths), kv_heads, size, generator=make).to(dtype),
        v_SGD=torch.randn(sum(k_lengths), kv_heads, size, generator=make).to(dtype),
        cu_q=cumulative(q_lengths),
        cu_k=cumulative(k_lengths),
        q_positions=torch.cat([none, *q_parts]),
        k_positions=torch.cat([none, *k_parts]),
        causal=causal,
        window=window,
    )


def cumulative(lengths: Sequence[int]) -> Tensor:
    """0 and the running sums, int32."""
    return torch.tensor(list(accumulate(lengths, initial=0)), dtype=torch.int32)


def largest(x: Tensor) -> float:
    """Largest finite magnitude; 0 if there is none."""
    finite = x[torch.isfinite(x)]
    return float(finite.abs().max()) if finite.numel() else 0.0


def heads_first(x_THD: Tensor) -> Tensor:
    """Packed tokens as the reference takes them: heads x tokens x size."""
    return x_THD.transpose(0, 1)


def dense_run(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Attention written out in the precision of its input, and the LSE in fp32: what a kernel is measured against."""
    group = q.shape[0] // k.shape[0]
    k, v = k.repeat_interleave(group, dim=0), v.repeat_interleave(group, dim=0)
    scores = (q @ k.transpose(1, 2)) * q.shape[-1] ** -0.5
    weights = torch.softmax(scores.masked_fill(~mask, -torch.inf), dim=-1).nan_to_num(0.0)
    single = (q.float() @ k.float().transpose(1, 2)) * q.shape[-1] ** -0.5
    return weights @ v, torch.logsumexp(single.masked_fill(~mask, -torch.inf), dim=-1)


def assert_as_exact(got: Tensor, exact: Tensor, dense: Tensor, magnitude: float = 0.0) -> None:
    """Error against float64 at most twice that of the dense run in the same precision, plus one ulp.

    The ulp is that of the largest number in play: of the result, or of what was summed to it (`magnitude`), since terms
    may cancel. A dense run of few numbers may be nearly exact by luck; it counts as no better than half an ulp.
    """
    assert got.shape == exact.shape
    finite = torch.isfinite(exact)
    assert torch.equal(torch.isneginf(got), torch.isneginf(exact))
    if not finite.any():
        return
    error = (got.double() - exact)[finite].abs().max()
    by_dense = (dense.double() - exact)[finite].abs().max()
    ulp = torch.finfo(got.dtype).eps * max(magnitude, float(exact[finite].abs().max()))
    assert error <= 2 * max(by_dense, ulp / 2) + ulp, f"error {error:.3g}, dense run {by_dense:.3g}, ulp {ulp:.3g}"


def assert_attention(o_THD: Tensor, lse_HT: Tensor, case: Packed) -> None:
    """Hold a kernel's output and LSE to the tolerance, sequence by sequence."""
    for queries, keys in case.sequences():
        if queries.start == queries.stop:
            continue
        mask = case.mask(queries, keys)
        exact = case.reference(queries, keys, mask)
        parts = (heads_first(x) for x in (case.q_THD[queries], case.k_SGD[keys], case.v_SGD[keys]))
        output, lse = dense_run(*parts, mask)
        assert_as_exact(heads_first(o_THD[queries]), exact.output, output, largest(case.v_SGD[keys]))
        assert_as_exact(lse_HT[:, queries], exact.lse, lse, largest(exact.scores))
