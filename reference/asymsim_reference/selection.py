"""Selection of tokens: exact counts, ties to the lowest index, results in rising order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import torch
from torch import Tensor


def ranking(scores_n: Tensor) -> Tensor:
    """Indices from the highest score to the lowest; equal scores by index, NaN after everything else."""
    order = torch.sort(scores_n.nan_to_num(nan=-math.inf), descending=True, stable=True).indices
    is_nan = torch.isnan(scores_n)[order].to(torch.int8)
    return order[torch.sort(is_nan, stable=True).indices]


def top_k(scores_n: Tensor, count: int, protected_n: Tensor | None = None) -> Tensor:
    """The ``count`` highest scores as rising indices; protected tokens come before all others.

    Raises
    ------
    ValueError
        If ``count`` is below 0, above N, or below the number of protected tokens.
    """
    if not 0 <= count <= len(scores_n):
        raise ValueError(f"count = {count}: give a number from 0 to {len(scores_n)}")
    order = ranking(scores_n)
    if protected_n is not None:
        held = int(protected_n.sum())
        if held > count:
            raise ValueError(f"count = {count}: {held} tokens are protected")
        order = order[torch.sort(protected_n[order].to(torch.int8), descending=True, stable=True).indices]
    return order[:count].sort().values


def complement(chosen_k: Tensor, count: int) -> Tensor:
    """The indices below ``count`` that were not chosen, rising."""
    left = torch.ones(count, dtype=torch.bool)
    left[chosen_k] = False
    return left.nonzero()[:, 0]


def as_fraction(share: float | Fraction) -> Fraction:
    """The fraction a person means by a decimal: 0.1 is 1/10, not its nearest binary number."""
    return share if isinstance(share, Fraction) else Fraction(str(share)).limit_denominator(10**6)


def floor_share(share: float | Fraction, count: int) -> int:
    """floor(share x count), exactly."""
    return math.floor(as_fraction(share) * count)


def nearest_share(share: float | Fraction, count: int) -> int:
    """round(share x count), halves to even."""
    return round(as_fraction(share) * count)


def evenly(total: int, capacities: Sequence[int]) -> list[int]:
    """Divide ``total`` into equal parts, the first ones one larger where it must be; at most all there is room for."""
    return apportion(min(total, sum(capacities)), [1.0] * len(capacities), capacities)


def apportion(total: int, weights: Sequence[float], capacities: Sequence[int]) -> list[int]:
    """Divide ``total`` in proportion to ``weights``, never above a capacity, nothing left over.

    Each part first gets the floor of its quota, then one at a time to the part that is farthest
    below its own; equal ones in order.

    Raises
    ------
    ValueError
        If the capacities hold less than ``total``, or a weight is negative.
    """
    if total > sum(capacities):
        raise ValueError(f"total = {total}: the parts hold {sum(capacities)} together")
    if min(weights, default=0) < 0:
        raise ValueError(f"weights = {weights}: give none below 0")
    whole = sum(weights)
    quotas = [total * weight / whole if whole else total / len(weights) for weight in weights]
    given = [min(math.floor(quota), capacity) for quota, capacity in zip(quotas, capacities, strict=True)]
    while sum(given) < total:
        open_parts = [part for part, capacity in enumerate(capacities) if given[part] < capacity]
        given[max(open_parts, key=lambda part: quotas[part] - given[part])] += 1
    return given
