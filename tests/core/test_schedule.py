"""Rounding, steps and sums over decode steps against Python's own integers and fractions."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asymsim.catalogue.model import LanguageModel, Layer, VlmModel
from asymsim.core.schedule import apply_pruning_step, capped_growth_sum, floor_sum, growth, growth_sum, round_share
from asymsim.core.schedule_arrays import CEIL, FLOOR, NEAREST
from asymsim.estimator.schedule_arrays import schedule_arrays
from asymsim.methods.schedule import Recycle, Schedule, Step, keep_count, keep_share
from oracles.naive_tokens import reduce

LAYER = Layer(hidden_size=1, heads=1, kv_heads=1, head_size=1, intermediate_size=1)
MODEL = VlmModel(
    name="one",
    model_type="llama",
    language_model=LanguageModel(hidden_size=1, vocab_size=1, layer_kinds=(LAYER,), layer_pattern=(0,)),
)
RETAINED = st.fractions(0, 1, max_denominator=10**6)


def run(step: Step, original: int, present: int) -> tuple[int, int, int]:
    kept, merged, pool = apply_pruning_step(
        schedule_arrays(Schedule(steps=(step,)), MODEL).pruning_steps[0], original, present
    )
    return int(kept), int(merged), int(pool)


@given(share=st.fractions(0, 1, max_denominator=10**6), tokens=st.integers(0, 10**8))
def test_shares_round_as_python_does(share: Fraction, tokens: int) -> None:
    num, den = share.numerator, share.denominator
    assert round_share(num, den, tokens, FLOOR) == math.floor(share * tokens)
    assert round_share(num, den, tokens, CEIL) == math.ceil(share * tokens)
    assert round_share(num, den, tokens, NEAREST) == round(share * tokens)


@pytest.mark.parametrize(("tokens", "expected"), [(0, 0), (1, 0), (3, 2), (5, 2), (7, 4), (9, 4)])
def test_halves_go_to_the_even_neighbour(tokens: int, expected: int) -> None:
    assert round_share(1, 2, tokens, NEAREST) == expected == int(np.round(tokens / 2))


@given(
    step=st.builds(
        Step,
        stage=st.just("lm"),
        share=RETAINED,
        of=st.sampled_from(["original", "present"]),
        rounding=st.sampled_from(["floor", "nearest", "ceil"]),
        plus=st.integers(-30, 30),
        at_least=RETAINED,
        recycled=st.one_of(
            st.none(),
            st.builds(
                Recycle,
                share=RETAINED,
                plus=st.integers(-3, 9),
                divisor=st.integers(1, 7),
                extra=st.integers(0, 9),
            ),
        ),
    ),
    dropped_before=st.integers(0, 50),
    present=st.integers(0, 1000),
)
def test_a_step_keeps_and_recycles_by_its_words(step: Step, dropped_before: int, present: int) -> None:
    kept, merged, pool = run(step, present + dropped_before, present)
    assert (kept, merged, pool) == reduce(step, present + dropped_before, present)
    assert 0 <= kept <= kept + merged <= present
    assert 0 <= pool <= present - kept


@pytest.mark.parametrize(
    ("step", "present", "expected"),
    [
        (keep_count(0), 576, (0, 0, 0)),
        (keep_count(576), 576, (576, 0, 0)),
        (keep_count(9999), 576, (576, 0, 0)),
        (keep_share(0), 576, (0, 0, 0)),
        (keep_share("1/3"), 576, (192, 0, 0)),
        (keep_share("1/3"), 100, (100, 0, 0)),
        (keep_share(1), 0, (0, 0, 0)),
        # SparseVLM: of 276 dropped, floor(0.3 x 276) + 1 = 83 make 83 // 10 + 1 clusters.
        (keep_count(300, recycled=Recycle(share=Fraction(3, 10), plus=1, divisor=10, extra=1)), 576, (300, 9, 83)),
        # Nothing dropped, nothing recycled; one dropped makes no more than one, of no more than itself.
        (keep_count(5, recycled=Recycle(extra=4)), 5, (5, 0, 0)),
        (keep_count(5, recycled=Recycle(extra=4)), 6, (5, 1, 0)),
        (keep_count(5, recycled=Recycle(plus=3)), 6, (5, 1, 1)),
        # ToMe's half is an upper bound on what merges.
        (Step(stage="lm", share=Fraction(1), of="present", plus=-100, at_least=Fraction(1, 2)), 101, (51, 0, 0)),
    ],
)
def test_published_and_degenerate_steps(step: Step, present: int, expected: tuple[int, int, int]) -> None:
    assert run(step, 576, present) == expected


@given(count=st.integers(0, 300), divisor=st.integers(1, 50), factor=st.integers(0, 120))
def test_floor_sum_is_the_sum_of_floors(count: int, divisor: int, factor: int) -> None:
    assert floor_sum(count, divisor, factor) == sum(factor * at // divisor for at in range(count))


@given(steps=st.integers(0, 200), eviction_start=st.integers(0, 250), retain=RETAINED)
def test_growth_sums_add_up(steps: int, eviction_start: int, retain: Fraction) -> None:
    num, den = retain.numerator, retain.denominator
    sizes = [min(step, eviction_start) + math.floor(retain * max(0, step - eviction_start)) for step in range(steps)]
    assert [growth(step, eviction_start, num, den) for step in range(steps)] == sizes
    assert growth_sum(steps, eviction_start, num, den) == sum(sizes)


@given(
    base=st.integers(0, 150), cap=st.integers(0, 200), steps=st.integers(0, 150), eviction_start=st.integers(0, 200),
    retain=RETAINED,
)  # fmt: skip
def test_capped_growth_sums_add_up(base: int, cap: int, steps: int, eviction_start: int, retain: Fraction) -> None:
    num, den = retain.numerator, retain.denominator
    expected = sum(min(base + growth(step, eviction_start, num, den), cap) for step in range(steps))
    assert capped_growth_sum(base, cap, steps, eviction_start, num, den) == expected


def test_the_longest_outputs_sum_exactly() -> None:
    steps = 10**8
    assert growth_sum(steps, 2**62, 1, 1) == steps * (steps - 1) // 2
    assert growth_sum(steps, 0, 1, 2) == sum(divmod(steps, 2)) * (steps // 2 - 1) + (steps % 2) * (steps // 2)
    assert capped_growth_sum(5, 2**62, steps, 2**62, 1, 1) == 5 * steps + steps * (steps - 1) // 2
