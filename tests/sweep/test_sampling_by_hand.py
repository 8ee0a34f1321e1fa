"""Random axes against SplitMix64 in whole numbers and the inverses of the distributions, one sample at a time."""

from __future__ import annotations

import math
from itertools import count

import numpy as np
import pytest

from asymsim.util.sampling import Distribution, uniform_samples

MASK = 2**64 - 1
INDICES = np.arange(300, dtype=np.uint64)


def finalised(state: int) -> int:
    """Steele, Lea & Flood (2014), figure 12."""
    state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & MASK
    state = (state ^ state >> 27) * 0x94D049BB133111EB & MASK
    return state ^ state >> 31


def one(seed: int, stream: int, index: int) -> float:
    """A number in [0, 1) with 53 bits."""
    gamma = 0x9E3779B97F4A7C15
    start = finalised((2 * seed + stream) * 0xD1B54A32D192ED03 + gamma & MASK)
    return (finalised(start + (index + 1) * gamma & MASK) >> 11) / 2**53


def sampled(distribution: str, *parameters: float, whole: bool = True) -> list[float]:
    samples = Distribution(distribution, parameters, 7, whole, -1e9, 1e9)
    return samples.take(INDICES).tolist()


@pytest.mark.parametrize(("seed", "stream"), [(0, 0), (0, 1), (1, 0), (2**62, 1)])
def test_uniform_numbers_are_splitmix64(seed: int, stream: int) -> None:
    assert uniform_samples(seed, stream, INDICES).tolist() == [one(seed, stream, index) for index in range(300)]


def test_whole_numbers_have_equal_shares_with_both_ends() -> None:
    expected = [3 + math.floor(one(7, 0, index) * 4) for index in range(300)]
    assert sampled("uniform", 3, 6) == expected
    assert set(expected) == {3, 4, 5, 6}
    assert sampled("uniform", 3.0, 6.0, whole=False) == pytest.approx([3 + 3 * one(7, 0, i) for i in range(300)])


def gaussian(index: int) -> float:
    """Box and Muller: the length from one number, the angle from another."""
    return math.sqrt(-2 * math.log(1 - one(7, 0, index))) * math.cos(2 * math.pi * one(7, 1, index))


def test_normal_and_lognormal_samples() -> None:
    expected = [100 + 15 * gaussian(index) for index in range(300)]
    assert sampled("normal", 100, 15, whole=False) == pytest.approx(expected)
    assert sampled("normal", 100, 15) == [round(value) for value in expected]
    logs = [80 * math.exp(0.7 * gaussian(index)) for index in range(300)]
    assert sampled("lognormal", 80, 0.7, whole=False) == pytest.approx(logs)


def poisson(below: float, mean: float) -> int:
    """The first number that the distribution reaches with more than this chance."""
    term = reached = math.exp(-mean)
    for number in count():
        if reached > below:
            return number
        term *= mean / (number + 1)
        reached += term
    raise AssertionError


@pytest.mark.parametrize("mean", [0.3, 4.0, 60.0])
def test_poisson_samples_invert_the_distribution(mean: float) -> None:
    assert sampled("poisson", mean) == [poisson(one(7, 0, index), mean) for index in range(300)]


def test_samples_beyond_the_bounds_are_moved_to_them() -> None:
    samples = Distribution("normal", (0.0, 100.0), 7, True, -50, 60)
    plain = [round(100 * gaussian(index)) for index in range(300)]
    assert samples.take(INDICES).tolist() == [min(60, max(-50, value)) for value in plain]
