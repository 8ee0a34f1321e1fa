"""Which keys each query of a packed ragged batch sees, as ranges: the mask that the prefill kernels work from.

Pruned tokens keep their original positions, and a causal mask compares those. With the tokens of a sequence sorted by
position, the keys that a query sees are one range of rows, ``first <= n < last``. Finding the ranges once per pruned
layout, for all layers and heads, leaves the kernels no positions to load and no search: a query tile ends its key loop
at its last row's bound, and causal, dense and sliding-window attention are one code path.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch

from asymsim_kernels import checks

# Sequence number and position packed in one int64, so that one searchsorted serves the whole ragged batch.
_SEQUENCE_SHIFT = 33


@dataclass(frozen=True, eq=False)
class PackedLayout:
    """Sequences packed one after another, with the keys that each query sees; made by `pack_layout`.

    Rows are counted within each sequence. T query tokens, S keys, B sequences.

    Attributes
    ----------
    cu_q, cu_k : Tensor
        B + 1 cumulative lengths, int32, on the device: sequence b holds rows ``cu_q[b]`` to ``cu_q[b + 1]``.
    first, last : Tensor
        T each, int32: query t sees the keys ``first[t] <= n < last[t]`` of its sequence.
    seen_from, seen_to : Tensor
        S each, int32: key s is seen by the queries ``seen_from[s] <= m < seen_to[s]`` of its sequence.
    q_lengths, k_lengths : tuple of int
        The lengths, on the host.
    windowed : bool
        Whether any `first` may exceed 0.
    """

    cu_q: torch.Tensor
    cu_k: torch.Tensor
    first: torch.Tensor
    last: torch.Tensor
    seen_from: torch.Tensor
    seen_to: torch.Tensor
    q_lengths: tuple[int, ...]
    k_lengths: tuple[int, ...]
    windowed: bool

    @property
    def batch_size(self) -> int:
        """B."""
        return len(self.q_lengths)

    @property
    def max_q(self) -> int:
        """Queries of the longest sequence; 0 for an empty batch."""
        return max(self.q_lengths, default=0)

    @property
    def max_k(self) -> int:
        """Keys of the longest sequence; 0 for an empty batch."""
        return max(self.k_lengths, default=0)

    @property
    def tokens(self) -> tuple[int, int]:
        """T and S."""
        return sum(self.q_lengths), sum(self.k_lengths)


def pack_layout(
    cu_q: torch.Tensor,
    cu_k: torch.Tensor | None = None,
    *,
    q_positions: torch.Tensor | None = None,
    k_positions: torch.Tensor | None = None,
    causal: bool = True,
    window: int | None = None,
) -> PackedLayout:
    """Find the keys that each query sees, from original positions. Reads the lengths back from the device.

    Parameters
    ----------
    cu_q, cu_k : Tensor
        B + 1 cumulative lengths of the queries and keys, int32; `cu_k` defaults to `cu_q`.
    q_positions, k_positions : Tensor, optional
        Original position of each query token (T) and key (S), int32, never decreasing within a sequence. Keys default
        to 0, 1, ..., and queries to the positions of the keys if there are as many, else to the last ones.
    causal : bool
        A query sees no key of a later position.
    window : int, optional
        A query sees only keys less than `window` positions before it.

    Raises
    ------
    ValueError
        For cumulative lengths that fall or disagree, positions that are negative, unsorted or too few.
    """
    cu_k = cu_q if cu_k is None else cu_k
    device = checks.same_device(cu_q=cu_q, cu_k=cu_k)
    starts_q, starts_k = _cumulative("cu_q", cu_q), _cumulative("cu_k", cu_k)
    if len(starts_q) != len(starts_k):
        checks.fail("cu_k", f"{len(starts_k)} entries", f"must have as many as cu_q ({len(starts_q)})")
    if window is not None and window < 1:
        checks.fail("window", window, "must be at least 1")
    q_lengths = tuple(b - a for a, b in pairwise(starts_q))
    k_lengths = tuple(b - a for a, b in pairwise(starts_k))
    k_positions = _positions("k_positions", k_positions, k_lengths, starts_k, device)
    if q_positions is None:
        q_positions = _trailing(k_positions, q_lengths, k_lengths, starts_k)
    q_positions = _positions("q_positions", q_positions, q_lengths, starts_q, device)

    q_key, q_base, q_count = _searchable(q_positions, q_lengths, starts_k, k_lengths)
    k_key, k_base, k_count = _searchable(k_positions, k_lengths, starts_q, q_lengths)
    last = torch.searchsorted(k_key, q_key, right=True) - q_base if causal else q_count
    seen_from = torch.searchsorted(q_key, k_key) - k_base if causal else torch.zeros_like(k_count)
    if window is None:
        first, seen_to = torch.zeros_like(q_count), k_count
    else:
        # A key at the query's position minus window is just out of sight. A position below 0 would borrow from the
        # sequence number, so clamp it.
        reach = torch.clamp(q_positions.long() - window, min=-1) - q_positions.long()
        first = torch.searchsorted(k_key, q_key + reach, right=True) - q_base
        first = torch.minimum(first.clamp(min=0), last)
        seen_to = torch.searchsorted(q_key, k_key + min(window, checks.INT32_MAX)) - k_base
        seen_to = torch.maximum(seen_to, seen_from)
    return PackedLayout(
        cu_q=cu_q,
        cu_k=cu_k,
        first=first.int(),
        last=last.int(),
        seen_from=seen_from.int(),
        seen_to=seen_to.int(),
        q_lengths=q_lengths,
        k_lengths=k_lengths,
        windowed=window is not None,
    )


def _cumulative(name: str, tensor: torch.Tensor) -> list[int]:
    checks.integers(name, tensor)
    checks.shape(name, tensor, (None,), "cumulative lengths")
    values: list[int] = tensor.tolist()
    if not values or values[0] != 0:
        checks.fail(name, values[:4], "must begin with 0 and hold one entry more than there are sequences")
    for i, (low, high) in enumerate(pairwise(values)):
        if high < low:
            checks.fail(f"{name}[{i + 1}]", high, f"must not be below {name}[{i}] = {low}")
    return values


def _positions(
    name: str, given: torch.Tensor | None, lengths: tuple[int, ...], starts: list[int], device: torch.device
) -> torch.Tensor:
    if given is None:
        ranges = [torch.arange(n, dtype=torch.int32) for n in lengths]
        return torch.cat(ranges).to(device) if ranges else torch.empty(0, dtype=torch.int32, device=device)
    checks.integers(name, given)
    checks.shape(name, given, (starts[-1],), "one position a token")
    checks.same_device(cu_q=torch.empty(0, device=device), **{name: given})
    checks.sorted_within(name, given, starts)
    if given.numel() and int(given.min()) < 0:
        checks.fail(name, int(given.min()), "positions must not be negative")
    return given


def _trailing(
    k_positions: torch.Tensor, q_lengths: tuple[int, ...], k_lengths: tuple[int, ...], starts_k: list[int]
) -> torch.Tensor:
    """Positions of the last keys of each sequence, as many as it has queries."""
    for b, (queries, keys) in enumerate(zip(q_lengths, k_lengths, strict=True)):
        if queries > keys:
            checks.fail("q_positions", None, f"sequence {b} has {queries} queries and {keys} keys: give positions")
    parts = [k_positions[end - queries : end] for queries, end in zip(q_lengths, starts_k[1:], strict=True)]
    return torch.cat(parts) if parts else k_positions[:0]


def _searchable(
    positions: torch.Tensor, lengths: tuple[int, ...], other_starts: list[int], other_lengths: tuple[int, ...]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sort keys of the tokens, and for each token where its sequence starts and how long it is on the other side."""

    def spread(values: list[int]) -> torch.Tensor:
        counts = torch.tensor(lengths, dtype=torch.long)
        return torch.tensor(values, dtype=torch.long).repeat_interleave(counts).to(positions.device)

    sequence = spread(list(range(len(lengths))))
    key = (sequence << _SEQUENCE_SHIFT) + positions.long()
    return key, spread(other_starts[: len(lengths)]), spread(list(other_lengths))
