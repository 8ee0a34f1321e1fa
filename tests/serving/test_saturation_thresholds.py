"""The verdict on a backlog just below and just above each of its thresholds.

A request arrives each second and takes four and a half, so that each finds four others; stuck ones stay in flight.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from asymsim.serving.saturation import backlog

COUNT, TAKES_S = 400, 4.5


def sent_and_taken(stuck: set[int]) -> tuple[np.ndarray, np.ndarray]:
    taken = np.full(COUNT, TAKES_S)
    taken[sorted(stuck)] = math.nan
    return np.arange(float(COUNT)), taken


def in_flight(stuck: set[int]) -> list[int]:
    """Requests in flight as each arrives, itself included: the last five that are not stuck, and all stuck ones."""
    return [sum(other in stuck or arrival - other <= 4 for other in range(arrival + 1)) for arrival in range(COUNT)]


def quarter(stuck: set[int], number: int) -> float:
    return sum(in_flight(stuck)[100 * number : 100 * (number + 1)]) / 100


@pytest.mark.parametrize("more", range(26, 36))
def test_growth_beyond_one_and_a_half_deviations_is_saturation(more: int) -> None:
    """200 arrivals lie between the quarters' middles, and as many departures less what is left over."""
    # Every other arrival of the last quarter's beginning is stuck, and as many of the third's: growth comes late.
    stuck = set(range(200, 200 + 2 * (more // 2), 2)) | set(range(300, 300 + 2 * (more - more // 2), 2))
    growth = quarter(stuck, 3) - quarter(stuck, 1)
    verdict = backlog(*sent_and_taken(stuck))
    assert verdict.saturated == (growth > 1.5 * math.sqrt(200 + 200 - growth))
    assert verdict.growth_per_s == pytest.approx(growth / 200)
    assert verdict.offered_per_s == 1.0
    assert verdict.served_per_s == pytest.approx(1.0 - growth / 200)


def test_both_verdicts_occur_around_the_threshold() -> None:
    # 28.9 of the threshold at a growth of 29: 26 stuck requests make less of it, 50 more.
    verdicts = [
        backlog(*sent_and_taken(set(range(200, 200 + more // 2)) | set(range(300, 300 + more // 2)))).saturated
        for more in (26, 50)
    ]
    assert verdicts == [False, True]


@pytest.mark.parametrize("late", [0, 4, 8, 10, 12, 14, 16, 18, 20, 30])
def test_a_fifth_of_the_growth_must_be_of_the_last_quarter(late: int) -> None:
    """Forty are stuck early in the third quarter; of the last one's growth a part was under way in the third."""
    stuck = set(range(200, 240)) | set(range(300, 300 + late))
    second, third, last = (quarter(stuck, number) for number in (1, 2, 3))
    growth = last - second
    assert growth > 1.5 * math.sqrt(400 - growth)
    assert backlog(*sent_and_taken(stuck)).saturated == (last - third > 0.2 * growth)


def test_a_growth_that_ended_is_none_and_one_that_goes_on_is() -> None:
    ended = set(range(195, 235))
    assert backlog(*sent_and_taken(ended)).saturated is False
    assert backlog(*sent_and_taken(ended | set(range(300, 320)))).saturated is True


def test_requests_of_more_than_a_quarter_of_the_run_tell_nothing() -> None:
    sent, taken = sent_and_taken(set())
    # 399 s lie between the first and the last.
    assert backlog(sent, taken, 99.75).saturated is False
    assert backlog(sent, taken, 99.76).saturated is None
    assert backlog(sent, taken, 99.76).offered_per_s == 1.0


def test_the_first_ten_say_how_long_a_request_takes() -> None:
    sent, taken = sent_and_taken(set())
    # The median of ten is the mean of the fifth and the sixth.
    for slow_s, verdict in ((190.0, False), (200.0, None)):
        slow = taken.copy()
        slow[5:10] = slow_s
        assert backlog(sent, slow).saturated is verdict


def test_a_hundred_requests_are_enough_to_tell() -> None:
    sent, taken = np.arange(100.0), np.full(100, 4.5)
    assert backlog(sent, taken).saturated is False
    assert backlog(sent[:99], taken[:99]).saturated is None
