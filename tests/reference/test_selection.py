"""Exact counts, ties to the lowest index, rising and unique, protected within kept, NaN last."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from asymsim_reference.selection import apportion, complement, floor_share, nearest_share, ranking, top_k

# Few distinct values, so that ties are the rule.
SCORES = st.lists(st.sampled_from([-math.inf, -1.0, 0.0, 0.5, 2.0, math.inf, math.nan]), max_size=24)


def naive(scores: list[float], count: int, protected: list[bool]) -> list[int]:
    """Pick the best again and again."""
    left, chosen = list(range(len(scores))), []
    for _ in range(count):
        best = left[0]
        for index in left[1:]:
            here = (protected[index], not math.isnan(scores[index]), scores[index])
            there = (protected[best], not math.isnan(scores[best]), scores[best])
            if here[:2] > there[:2] or (here[:2] == there[:2] and here[1] and here[2] > there[2]):
                best = index
        left.remove(best)
        chosen.append(best)
    return sorted(chosen)


@given(st.data())
def test_top_k_against_picking_one_by_one(data: st.DataObject) -> None:
    scores = data.draw(SCORES)
    protected = data.draw(st.lists(st.booleans(), min_size=len(scores), max_size=len(scores)))
    count = data.draw(st.integers(sum(protected), len(scores)))
    tensor = torch.tensor(scores, dtype=torch.float64)
    chosen = top_k(tensor, count, torch.tensor(protected, dtype=torch.bool))
    assert chosen.tolist() == naive(scores, count, protected)
    assert len(set(chosen.tolist())) == count
    assert sorted([*chosen.tolist(), *complement(chosen, len(scores)).tolist()]) == list(range(len(scores)))


@pytest.mark.parametrize("count", [0, 1, 3, 5])
def test_ties_go_to_the_lowest_index(count: int) -> None:
    assert top_k(torch.zeros(5), count).tolist() == list(range(count))


def test_ranking_keeps_equal_scores_in_order() -> None:
    scores = torch.tensor([1.0, math.nan, 3.0, 1.0, -math.inf, 3.0, math.nan])
    assert ranking(scores).tolist() == [2, 5, 0, 3, 4, 1, 6]


@pytest.mark.parametrize("count", [-1, 4])
def test_impossible_counts(count: int) -> None:
    with pytest.raises(ValueError, match="count"):
        top_k(torch.zeros(3), count)
    with pytest.raises(ValueError, match="protected"):
        top_k(torch.zeros(3), 1, torch.tensor([True, True, False]))


def test_shares_are_exact() -> None:
    # 0.7 x 10 is 7, whatever binary fractions make of it; halves go to even, as in Python and torch.
    assert floor_share(0.7, 10) == 7
    assert floor_share(0.29, 100) == 29
    assert floor_share(1 / 3, 9) == 3
    assert [nearest_share(0.5, count) for count in (1, 3, 5)] == [0, 2, 2]
    assert floor_share(Fraction(2, 7), 7) == 2


@given(
    st.lists(st.tuples(st.floats(0, 10), st.integers(0, 9)), min_size=1, max_size=8).flatmap(
        lambda parts: st.tuples(st.just(parts), st.integers(0, sum(capacity for _, capacity in parts)))
    )
)
def test_apportion_is_exact_and_capped(case: tuple[list[tuple[float, int]], int]) -> None:
    parts, total = case
    weights, capacities = zip(*parts, strict=True)
    given_out = apportion(total, weights, capacities)
    assert sum(given_out) == total
    assert all(0 <= own <= capacity for own, capacity in zip(given_out, capacities, strict=True))


def test_apportion_by_hand() -> None:
    # Quotas 3.5, 2.1 and 1.4: floors 3, 2 and 1, the seventh to the first.
    assert apportion(7, [5, 3, 2], [9, 9, 9]) == [4, 2, 1]
    # The first is full, and what it cannot hold goes to whoever is farthest below its quota.
    assert apportion(7, [5, 3, 2], [2, 9, 9]) == [2, 3, 2]
    assert apportion(4, [0, 0], [3, 3]) == [2, 2]
    with pytest.raises(ValueError, match="hold 5"):
        apportion(6, [1, 1], [2, 3])
