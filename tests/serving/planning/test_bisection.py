"""Galloping and bisection against looking at every number."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asymsim.serving.planning.bisection import fewest, largest

ANSWERS = st.lists(st.booleans(), min_size=1, max_size=40)


@given(st.integers(1, 300), st.integers(-3, 400), st.integers(1, 300))
def test_a_threshold_is_found_from_anywhere(threshold: int, start: int, most: int) -> None:
    result = fewest(lambda number: number >= threshold, start, most)
    assert result == (threshold if threshold <= most else None)


@given(ANSWERS, st.integers(1, 40))
def test_what_is_found_is_enough_and_one_fewer_is_not(answers: list[bool], start: int) -> None:
    def is_enough(number: int) -> bool:
        assert 1 <= number <= len(answers)
        return answers[number - 1]

    result = fewest(is_enough, start, len(answers))
    if result is None:
        assert not answers[-1]
    else:
        assert is_enough(result)
        assert result == 1 or not is_enough(result - 1)


@given(ANSWERS, st.data(), st.integers(1, 40))
def test_whatever_the_order_of_answers_more_yes_is_no_more(
    answers: list[bool], data: st.DataObject, start: int
) -> None:
    """The definition's point: a looser limit on the same runs never needs more, monotone or not."""
    looser = [strict or data.draw(st.booleans()) for strict in answers]
    strict_found = fewest(lambda number: answers[number - 1], start, len(answers))
    loose_found = fewest(lambda number: looser[number - 1], start, len(answers))
    if strict_found is not None:
        assert loose_found is not None
        assert loose_found <= strict_found


@given(st.integers(1, 5000), st.integers(1, 5000))
def test_few_numbers_are_tried(threshold: int, start: int) -> None:
    tried: list[int] = []

    def is_enough(number: int) -> bool:
        tried.append(number)
        return number >= threshold

    fewest(is_enough, start, 10_000)
    assert len(tried) == len(set(tried))
    assert len(tried) <= 2 * math.log2(10_000) + 2


@given(st.floats(1e-6, 1e6), st.floats(1e-3, 1e3), st.sampled_from([0.3, 0.01, 0.001]))
def test_the_largest_is_within_its_tolerance(limit: float, start: float, tolerance: float) -> None:
    result = largest(lambda number: number <= limit, start, tolerance)
    assert result is not None
    assert result <= limit <= result * (1 + tolerance)


@pytest.mark.parametrize(("is_met", "result"), [(False, None), (True, math.inf)])
def test_none_and_all(is_met: bool, result: float | None) -> None:
    assert largest(lambda number: is_met, 1.0, 0.01) == result
