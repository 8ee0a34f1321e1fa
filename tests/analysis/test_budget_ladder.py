"""The keep that meets a budget, against every step of a ladder whose kept shares are given."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from asymsim.analysis.budget_search import Ladder, _edge, family_of, kept_share


class Given(Ladder):
    """Kept shares outright, from step ``low`` on."""

    def __init__(self, shares: list[float], low: int, tokens: int, family: str = "vision") -> None:
        self.shares, self.low, self.high = shares, low, low + len(shares) - 1
        self.family = family
        self.dense: Any = SimpleNamespace(workload=SimpleNamespace(visual_tokens=tokens))

    def kept(self, step: int) -> float:
        assert self.low <= step <= self.high
        return self.shares[step - self.low]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("low", [0, 9950])
def test_no_step_is_nearer(seed: int, low: int) -> None:
    draw = np.random.default_rng(seed)
    # Never falling, with equal steps between jumps.
    shares = np.sort(draw.choice(draw.random(12), 51)).tolist()
    ladder = Given(shares, low, 576)
    for budget in (*draw.random(20).tolist(), *shares, 0.0, 1.0):
        missed = abs(ladder.kept(ladder.nearest(budget)) - budget)
        assert missed == min(abs(share - budget) for share in shares)


def test_of_equally_near_steps_the_budget_itself_is_taken() -> None:
    ladder = Given([0.5] * 10_001, 0, 576)
    assert ladder.nearest(0.3) == 3000
    assert ladder.nearest(0.12346) == 1235


@pytest.mark.parametrize(
    ("shares", "tokens", "family", "budget", "note"),
    [
        # A token of 576 is 0.17 %: half a per cent is allowed.
        ([0.25, 0.9], 576, "vision", 0.2451, ""),
        ([0.25, 0.9], 576, "vision", 0.2449, "nearest: cannot go below 25 %"),
        ([0.25, 0.9], 576, "vision", 0.9049, ""),
        ([0.25, 0.9], 576, "vision", 0.9051, "nearest: cannot go above 90 %"),
        ([0.25, 0.9], 576, "vision", 0.2551, "nearest: its whole numbers step over this budget"),
        # A token of 50 is 2 %, and no token of a cache.
        ([0.25, 0.9], 50, "vision", 0.2301, ""),
        ([0.25, 0.9], 50, "vision", 0.2299, "nearest: cannot go below 25 %"),
        ([0.25, 0.9], 50, "kv", 0.2449, "nearest: cannot go below 25 %"),
        ([0.25, 0.9], 0, "kv", 0.2451, ""),
    ],
)
def test_the_note_is_of_more_than_a_token_and_half_a_per_cent(
    shares: list[float], tokens: int, family: str, budget: float, note: str
) -> None:
    assert Given(shares, 0, tokens, family).note(budget) == note


@pytest.mark.parametrize("threshold", [0, 1, 37, 500, 999, 1000])
def test_the_edge_of_what_is_allowed(threshold: int) -> None:
    assert _edge(lambda step: step >= threshold, 0, 1000) == threshold
    assert _edge(lambda step: step <= threshold, 1000, 0) == threshold


def test_a_cache_is_compared_after_prefill_and_tokens_by_their_mean() -> None:
    def estimate(prefill: int, peak: int, mean: float) -> Any:
        return SimpleNamespace(
            kv_cache=SimpleNamespace(prefill_bytes=prefill, peak_bytes=peak),
            schedule=SimpleNamespace(mean_visual_tokens=mean),
        )

    pruned, dense = estimate(30, 70, 144.0), estimate(120, 200, 576.0)
    assert kept_share(pruned, dense, "kv") == 0.25
    assert kept_share(pruned, dense, "vision") == 0.25
    assert kept_share(estimate(60, 70, 144.0), dense, "kv") == 0.5
    assert kept_share(estimate(0, 0, 0.0), estimate(0, 0, 0.0), "kv") == 0.0


def test_two_methods_are_of_the_first_one_s_family() -> None:
    names = ("fastv", "snapkv", "fastv+snapkv", "snapkv+fastv")
    assert [family_of(name) for name in names] == ["vision", "kv", "vision", "kv"]
