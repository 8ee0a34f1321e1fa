"""Times of several requests from those of 1, 2, 4 ...: on a line between two of them, in proportion beyond the last."""

from __future__ import annotations

import numpy as np
import pytest

from asymsim.core.serving.batch_scaling import (
    interpolated_share,
    interpolated_ticks,
    power_below,
    prefix_ticks,
    scaled_ticks,
)

POWERS = np.array([100, 150, 230, 390], np.int64)


@pytest.mark.parametrize(("number", "place"), [(1, 0), (2, 1), (3, 1), (4, 2), (7, 2), (8, 3), (9, 3), (1000, 3)])
def test_the_power_of_two_below_a_number(number: int, place: int) -> None:
    assert power_below(POWERS, number) == place


@pytest.mark.parametrize(
    ("number", "ticks"),
    [(1, 100), (2, 150), (3, 190), (4, 230), (5, 270), (6, 310), (7, 350), (8, 390), (12, 585), (16, 780), (80, 3900)],
)
def test_a_time_at_a_number(number: int, ticks: int) -> None:
    assert interpolated_ticks(POWERS, number) == ticks


@pytest.mark.parametrize(("number", "share"), [(1, 100), (2, 150), (3, 190), (5, 270), (8, 390), (9, 390), (1000, 390)])
def test_a_share_stays_that_of_the_largest_number(number: int, share: int) -> None:
    assert interpolated_share(POWERS, number) == share


def test_one_entry_is_the_time_of_a_single_one() -> None:
    alone = np.array([70], np.int64)
    assert [interpolated_ticks(alone, number) for number in (1, 2, 3)] == [70, 140, 210]
    assert [interpolated_share(alone, number) for number in (1, 2, 3)] == [70, 70, 70]


@pytest.mark.parametrize(
    ("ticks", "steps", "all_steps"), [(10, 1, 3), (10, 2, 3), (10, 3, 3), (7, 0, 5), (2**61, 3, 7), (2**61 + 5, 5, 6)]
)
def test_a_part_of_some_ticks_is_rounded_down(ticks: int, steps: int, all_steps: int) -> None:
    assert prefix_ticks(ticks, steps, all_steps) == ticks * steps // all_steps


@pytest.mark.parametrize(
    ("ticks", "share"), [(1000, 2**20), (1000, 2**19), (3, 2**19), (2**50 + 12345, 700001), (2**42 - 1, 1), (5, 0)]
)
def test_a_share_is_in_parts_of_a_million(ticks: int, share: int) -> None:
    """Of 2**20, rounded down."""
    assert scaled_ticks(ticks, share) == ticks * share // 2**20
