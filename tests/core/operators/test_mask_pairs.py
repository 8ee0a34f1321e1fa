"""Pairs in closed form against masks written out."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from asymsim.core.model_arrays import BIDIRECTIONAL, CAUSAL, IMAGE_BIDIRECTIONAL, PREFIX
from asymsim.core.operators.mask_pairs import causal_pairs, chunk_position_sum, chunked_growth_sum, prefill_pairs

LENGTHS = (0, 1, 2, 3, 7, 8, 9, 16, 31)
LIMITS = (1, 2, 5, 8, 31, 100)


def causal(tokens: int) -> np.ndarray:
    queries, keys = np.indices((tokens, tokens))
    return keys <= queries


def within_window(tokens: int, window: int) -> np.ndarray:
    queries, keys = np.indices((tokens, tokens))
    return queries - keys < window


@pytest.mark.parametrize("tokens", LENGTHS)
def test_causal_pairs_are_the_lower_triangle(tokens: int) -> None:
    assert causal_pairs(tokens, 0, 0) == causal(tokens).sum()


@pytest.mark.parametrize("tokens", LENGTHS)
@pytest.mark.parametrize("window", LIMITS)
def test_a_window_is_a_band_of_the_triangle(tokens: int, window: int) -> None:
    assert causal_pairs(tokens, window, 0) == (causal(tokens) & within_window(tokens, window)).sum()


@pytest.mark.parametrize("tokens", LENGTHS)
@pytest.mark.parametrize("chunk", LIMITS)
def test_chunks_are_triangles_of_their_own(tokens: int, chunk: int) -> None:
    queries, keys = np.indices((tokens, tokens))
    assert causal_pairs(tokens, 0, chunk) == (causal(tokens) & (queries // chunk == keys // chunk)).sum()


@pytest.mark.parametrize("mask", [PREFIX, BIDIRECTIONAL])
@pytest.mark.parametrize("tokens", LENGTHS)
def test_a_prefix_sees_all_of_itself(mask: int, tokens: int) -> None:
    assert prefill_pairs(mask, tokens, 0, 0, 3, 0) == tokens * tokens


@pytest.mark.parametrize("window", [0, 1, 3, 50])
@pytest.mark.parametrize("images", [0, 1, 2, 3, 5])
@pytest.mark.parametrize("visual", [0, 1, 4, 7, 20])
def test_an_image_sees_itself_in_both_directions(visual: int, images: int, window: int) -> None:
    tokens = visual + 6
    image = np.full(tokens, -1)
    if images:
        # Image i holds every token whose number is i modulo the images; they stand one after another.
        image[:visual] = np.sort(np.arange(visual) % images)
    same = (image[:, None] == image[None, :]) & (image[:, None] >= 0)
    mask = causal(tokens) & within_window(tokens, window or tokens)
    expected = (mask | (same & ~causal(tokens))).sum()
    assert prefill_pairs(IMAGE_BIDIRECTIONAL, tokens, visual, images, window, 0) == expected
    assert prefill_pairs(CAUSAL, tokens, visual, images, window, 0) == mask.sum()


def test_long_prompts_do_not_overflow() -> None:
    tokens = 10**8
    assert causal_pairs(tokens, 0, 0) == tokens * (tokens + 1) // 2
    assert causal_pairs(tokens, 4096, 0) == sum(range(4096)) + (tokens - 4095) * 4096
    assert prefill_pairs(IMAGE_BIDIRECTIONAL, tokens, tokens, 1, 0, 0) == tokens * tokens


@pytest.mark.parametrize("position", [0, 1, 7, 8, 9, 100])
@pytest.mark.parametrize("chunk", LIMITS)
def test_chunk_positions_add_up(position: int, chunk: int) -> None:
    assert chunk_position_sum(position, chunk) == sum(at % chunk for at in range(position))


@pytest.mark.parametrize("retain", [Fraction(0), Fraction(1, 3), Fraction(3, 4), Fraction(1)])
@pytest.mark.parametrize("chunk", [1, 2, 5, 8, 40])
@pytest.mark.parametrize("eviction_start", [0, 3, 100])
@pytest.mark.parametrize(("base", "cap", "position"), [(0, 100, 0), (0, 0, 9), (3, 6, 3), (3, 100, 11), (20, 30, 20)])
def test_chunks_and_evicted_caches_limit_each_other(
    base: int, cap: int, position: int, chunk: int, eviction_start: int, retain: Fraction
) -> None:
    for steps in (0, 1, 2, 9, 40, 41):
        expected = 0
        for step in range(steps):
            cached = base + min(step, eviction_start) + int(retain * max(0, step - eviction_start))
            expected += min(cached, cap, (position + step) % chunk)
        total = chunked_growth_sum(
            base, cap, position, chunk, steps, eviction_start, retain.numerator, retain.denominator
        )
        assert total == expected
