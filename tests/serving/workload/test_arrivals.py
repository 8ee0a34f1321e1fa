"""Arrival processes: their moments, and the reproducibility of a seed."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from asymsim.serving.workload.arrivals import Arrivals
from asymsim.util.errors import InputError, MissingExtraError
from asymsim.util.seeds import seed_of

COUNT = 200_000
BURSTINESS = [0.1, 0.5, 1.0, 4.0]


def gaps(arrivals: Arrivals, count: int = COUNT) -> np.ndarray:
    return np.diff(arrivals.times(count), prepend=0.0)


@pytest.mark.parametrize("burstiness", BURSTINESS)
def test_gamma_gaps_have_the_moments_of_theory(burstiness: float) -> None:
    sampled_gaps = gaps(Arrivals(rate=5.0, process="gamma", burstiness=burstiness, seed=1))
    # The standard error of the mean, and of the variance by the fourth moment of a gamma distribution.
    deviation = 1 / (5 * math.sqrt(burstiness))
    assert sampled_gaps.mean() == pytest.approx(0.2, abs=4 * deviation / math.sqrt(COUNT))
    kurtosis = 3 + 6 / burstiness
    spread = deviation**2 * math.sqrt((kurtosis - 1) / COUNT)
    assert sampled_gaps.var() == pytest.approx(deviation**2, abs=4 * spread)


# Of burstier ones, the shortest gaps are below the resolution of the times.
@pytest.mark.parametrize("burstiness", BURSTINESS[1:])
def test_gamma_gaps_have_their_distribution(burstiness: float) -> None:
    sampled_gaps = gaps(Arrivals(rate=1.0, process="gamma", burstiness=burstiness, seed=2), 20_000)
    assert stats.kstest(sampled_gaps, stats.gamma(burstiness, scale=1 / burstiness).cdf).pvalue > 0.01


def test_counts_of_poisson_arrivals_vary_as_their_mean() -> None:
    times = Arrivals(rate=10.0, seed=3).times(COUNT)
    counts = np.histogram(times, bins=np.arange(0, math.floor(times[-1])))[0]
    assert counts.mean() == pytest.approx(10, rel=0.01)
    assert counts.var() / counts.mean() == pytest.approx(1, abs=0.05)
    # Neighbouring seconds know nothing of each other.
    assert abs(np.corrcoef(counts[1:], counts[:-1])[0, 1]) < 0.03


def test_gamma_of_shape_one_is_poisson() -> None:
    poisson, gamma = (Arrivals(rate=3.0, process=process, seed=4).times(500) for process in ("poisson", "gamma"))
    assert np.array_equal(poisson, gamma)


def test_constant_arrivals_are_a_clock() -> None:
    assert Arrivals(rate=4.0, process="constant").times(4).tolist() == [0.25, 0.5, 0.75, 1.0]


def test_an_infinite_rate_sends_all_at_once() -> None:
    assert Arrivals(rate=math.inf).times(3).tolist() == [0.0, 0.0, 0.0]


@given(
    seed=st.integers(0, 2**62),
    count=st.integers(0, 200),
    more=st.integers(0, 200),
    rate=st.floats(1e-3, 1e6),
    burstiness=st.sampled_from(BURSTINESS),
)
def test_a_longer_run_begins_alike_and_a_rate_stretches_the_pattern(
    seed: int, count: int, more: int, rate: float, burstiness: float
) -> None:
    def times(rate: float, count: int) -> np.ndarray:
        return Arrivals(rate=rate, process="gamma", burstiness=burstiness, seed=seed).times(count)

    short, long = times(rate, count), times(rate, count + more)
    assert np.array_equal(short, long[:count])
    assert (np.diff(long) >= 0).all()
    assert (long >= 0).all()
    assert np.allclose(long * rate, times(1.0, count + more), rtol=1e-12)


def test_another_seed_is_another_pattern_and_the_same_the_same() -> None:
    first, again, other = (Arrivals(rate=1.0, seed=seed).times(2000) for seed in (7, 7, 8))
    assert np.array_equal(first, again)
    assert abs(np.corrcoef(np.diff(first), np.diff(other))[0, 1]) < 0.1


def test_purposes_never_share_a_seed() -> None:
    seeds = {seed_of(seed, purpose) for seed in range(100) for purpose in ("arrivals", "text_tokens 0", "kind 0")}
    assert len(seeds) == 300


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("rate", {"rate": 0.0}),
        ("rate", {"rate": -1.0}),
        ("rate", {"rate": math.nan}),
        ("burstiness", {"rate": 1.0, "process": "gamma", "burstiness": 0.0}),
        ("burstiness", {"rate": 1.0, "process": "gamma", "burstiness": math.inf}),
        ("burstiness", {"rate": 1.0, "burstiness": 2.0}),
        ("seed", {"rate": 1.0, "seed": -1}),
    ],
)
def test_bad_settings_are_named(field: str, values: dict[str, float]) -> None:
    with pytest.raises(InputError) as caught:
        Arrivals(**values)  # type: ignore[arg-type]
    assert caught.value.field == field


def test_gamma_without_scipy_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.special", None)
    with pytest.raises(MissingExtraError, match=r"asymsim\[serving\]"):
        Arrivals(rate=1.0, process="gamma", burstiness=2.0).times(1)
