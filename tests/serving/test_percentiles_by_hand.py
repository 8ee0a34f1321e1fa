"""Percentiles, means and spreads of a few values worked out on paper."""

from __future__ import annotations

import math

import numpy as np
import pytest

from asymsim.serving.planning.candidate import outcome_of
from asymsim.serving.slo import Slo, SloTarget, slo_ms
from asymsim.serving.summary import summarise_histogram, summarise_values
from asymsim.util.errors import InputError
from oracles.served_by_hand import served

INF = math.inf


def test_eleven_values() -> None:
    summary = summarise_values(np.random.default_rng(0).permutation(11).astype(float))
    # The p-th percentile of 0 to 10 is p / 10; the variance of 0 to 2n is n (n + 1) / 3.
    assert summary.percentiles == pytest.approx({50: 5.0, 90: 9.0, 95: 9.5, 99: 9.9})
    assert (summary.mean, summary.median, summary.std) == pytest.approx((5.0, 5.0, math.sqrt(10)))
    assert summary.named("ttft")["p95_ttft_ms"] == pytest.approx(9500.0)


def test_two_bins_of_gaps() -> None:
    """A bin's gaps count as its geometric middle: 1 us times 1.005 to the power of its number and a half."""
    low, high = (1e-6 * 1.005 ** (number + 0.5) for number in (1000, 1200))
    counts = np.zeros(4500, np.int64)
    counts[1000], counts[1200] = 6, 5
    summary = summarise_histogram(counts)
    # Of eleven gaps the p-th percentile stands at rank p / 10 from 0: the sixth is the last low one.
    assert summary.percentiles == pytest.approx({50: low, 90: high, 95: high, 99: high})
    assert summary.mean == pytest.approx((6 * low + 5 * high) / 11)
    assert summary.std == pytest.approx((high - low) * math.sqrt(30) / 11)
    counts[1200] = 6
    # Of twelve the median lies half-way between the sixth and the seventh.
    assert summarise_histogram(counts).median == pytest.approx((low + high) / 2)
    assert summarise_histogram(counts, mean=0.25).mean == 0.25


@pytest.mark.parametrize(
    ("count", "percentile", "least"),
    [(100, 99, 99), (101, 99, 100), (4000, 99, 3960), (10, 99, 10), (10, 90, 9), (11, 90, 10), (10, 1, 1), (7, 50, 4)],
)
def test_a_limit_holds_for_at_least_so_many(count: int, percentile: float, least: int) -> None:
    values = np.random.default_rng(1).permutation(count) + 1.0
    assert SloTarget(slo=Slo(ttft_s=1.0), percentile=percentile).percentile_of(values) == least


def test_refused_requests_take_for_ever_and_one_token_no_time() -> None:
    # Of ten requests one is refused; one has a single token; eight have five gaps of 0.01 to 0.08 s.
    nan = math.nan
    ttft = [0.1] * 9 + [nan]
    e2e = [0.1 + 5 * 0.01 * number for number in range(9)] + [nan]
    result = served(np.arange(10.0), ttft, e2e, output_tokens=[1] + [6] * 9, status=[0] * 9 + [1], queue_s=np.zeros(10))
    outcome = outcome_of(result, SloTarget(slo=Slo(ttft_s=0.1, tpot_s=0.07), percentile=90.0))
    assert outcome.percentiles_s == pytest.approx({"ttft_s": 0.1, "tpot_s": 0.08, "e2e_s": 0.5})
    assert outcome.missed_limits == ("tpot_s",)
    assert sum(outcome.refused.values()) == 1
    # All ten must meet it: the refused one is the slowest.
    strict = outcome_of(result, SloTarget(slo=Slo(ttft_s=0.1), percentile=99.0))
    assert strict.percentiles_s == {"ttft_s": INF, "tpot_s": INF, "e2e_s": INF}
    assert strict.missed_limits == ("ttft_s",)
    # Ten requests are too few to tell whether a fleet keeps up.
    assert outcome.saturated is None
    assert not outcome_of(result, SloTarget(slo=Slo(ttft_s=0.1), percentile=80.0)).meets_target


def test_limits_in_milliseconds() -> None:
    assert slo_ms(200, 30, 4000) == Slo(ttft_s=0.2, tpot_s=0.03, e2e_s=4.0)
    assert slo_ms(e2e=1).limits_s == {"e2e_s": 0.001}
    for limit in (0.0, -1.0, INF, math.nan):
        with pytest.raises(InputError, match="ttft_s"):
            Slo(ttft_s=limit)
        with pytest.raises(InputError, match="tpot"):
            slo_ms(tpot=limit)
