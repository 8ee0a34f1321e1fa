"""Saturation of queues whose load relative to capacity is known."""

from __future__ import annotations

import numpy as np
import pytest

from asymsim.core.serving.layout import DONE, TOO_LONG
from asymsim.serving.saturation import MIN_REQUESTS, backlog, backlog_of
from oracles.served_by_hand import queue, served

SEEDS = range(20)


@pytest.mark.parametrize("load", [0.1, 0.5, 0.99, 1.0])
def test_a_queue_without_chance_that_keeps_up(load: float) -> None:
    verdict = backlog(*queue(load, 400, None))
    assert verdict.saturated is False
    assert verdict.offered_per_s == pytest.approx(load)
    assert verdict.growth_per_s == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("load", [1.3, 2.0, 10.0])
def test_a_queue_without_chance_grows_by_what_is_left_over(load: float) -> None:
    verdict = backlog(*queue(load, 400, None))
    assert verdict.saturated is True
    assert verdict.served_per_s == pytest.approx(1.0, rel=0.02)
    assert verdict.growth_per_s == pytest.approx(load - 1.0, rel=0.05)


@pytest.mark.parametrize("load", [0.5, 0.9])
def test_random_queues_that_keep_up(load: float) -> None:
    assert not any(backlog(*queue(load, 4000, seed)).saturated for seed in SEEDS)


def test_random_queues_that_do_not() -> None:
    assert sum(bool(backlog(*queue(1.1, 4000, seed)).saturated) for seed in SEEDS) >= 16
    verdicts = [backlog(*queue(1.3, 4000, seed)) for seed in SEEDS]
    assert all(each.saturated for each in verdicts)
    # One request a second is what the server can do, whatever is asked of it.
    assert np.mean([each.served_per_s for each in verdicts if each.served_per_s]) == pytest.approx(1.0, rel=0.02)


def test_many_servers_that_fill_up_are_not_saturated() -> None:
    # Without a queue: requests of 30 s at 10 a second; 300 are in flight from the 30th second on.
    sent = np.arange(4000) / 10.0
    assert backlog(sent, np.full(4000, 30.0)).saturated is False


def test_too_little_to_tell() -> None:
    assert backlog(np.zeros(0), np.zeros(0)).saturated is None
    assert backlog(np.zeros(1), np.ones(1)).saturated is None
    assert backlog(np.zeros(500), np.arange(500.0)).offered_per_s is None
    assert backlog(*queue(5.0, MIN_REQUESTS - 1, None)).saturated is None
    # All are still in flight when the last arrives: that may be the beginning of a steady state.
    assert backlog(np.arange(500) / 100, np.full(500, 20.0)).saturated is None


def test_a_fleet_that_fills_up_longer_than_its_first_requests_take_is_not_judged_too_soon() -> None:
    # Nobody waits, but the more are served the longer each takes, from 1 s to 3 s: steady after 3 of 7 s.
    sent = np.arange(7000) / 1000.0
    e2e = 1.0 + np.minimum(sent, 2.0)
    assert backlog_of(served(sent, e2e / 2, e2e, queue_s=np.zeros(7000))).saturated is None
    longer = np.arange(40_000) / 1000.0
    e2e = 1.0 + np.minimum(longer, 2.0)
    assert backlog_of(served(longer, e2e / 2, e2e, queue_s=np.zeros(40_000))).saturated is False


def test_order_and_unit_of_time_do_not_matter() -> None:
    sent, e2e = queue(1.2, 1000, 3)
    shuffled = np.random.default_rng(1).permutation(1000)
    assert backlog(sent[shuffled], e2e[shuffled]) == backlog(sent, e2e)
    slower = backlog(60 * sent, 60 * e2e)
    assert slower.saturated == backlog(sent, e2e).saturated
    assert slower.growth_per_s == pytest.approx((backlog(sent, e2e).growth_per_s or 0.0) / 60)


def test_what_never_ends_stays_in_flight_and_what_is_refused_never_was() -> None:
    sent, e2e = queue(0.5, 400, None)
    e2e[100:] = np.nan
    assert backlog(sent, e2e).saturated is True
    status = np.where(np.isnan(e2e), TOO_LONG, DONE)
    verdict = backlog_of(served(sent, e2e / 2, e2e, status=status))
    assert verdict.saturated is False
    assert verdict.offered_per_s == pytest.approx(0.5)
