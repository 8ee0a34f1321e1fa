"""The attention oracle against torch's own attention, against sums written out, and the error identities of pruning."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asymsim_reference.attention import attention, column_mass, dropped_mass, merge, pruning_error_bound, visible

heads = st.sampled_from([(1, 1), (2, 2), (6, 2), (7, 1)])
keeps = st.lists(st.booleans(), min_size=2, max_size=30).filter(lambda kept: any(kept) and not all(kept))


def tokens(head_counts, queries, keys, size=8, seed=0):
    """Random q, k and v in float64."""
    make = torch.Generator().manual_seed(seed)
    shapes = ((head_counts[0], queries, size), *[(head_counts[1], keys, size)] * 2)
    return tuple(torch.randn(shape, generator=make, dtype=torch.float64) for shape in shapes)


def close(got, expected):
    torch.testing.assert_close(got, expected, atol=1e-12, rtol=1e-12)


@given(heads, st.integers(1, 9), st.integers(1, 9), st.booleans(), st.integers(0, 99))
def test_output_is_that_of_torch(head_counts, queries, keys, causal, seed):
    q, k, v = tokens(head_counts, queries, keys, seed=seed)
    mask = visible(torch.arange(keys - queries, keys), torch.arange(keys), causal=causal)
    # torch's is_causal aligns the mask to the top left, so it is given the mask; rows without keys are NaN there.
    rows = mask.any(1)
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
    close(attention(q, k, v, mask).output[:, rows], expected[:, rows])


def test_numbers_worked_by_hand():
    q = torch.tensor([[[1.0]]])
    k = torch.tensor([[[0.0], [math.log(3.0)]]], dtype=torch.float64)
    v = torch.tensor([[[0.0], [4.0]]])
    result = attention(q, k, v)
    close(result.weights, torch.tensor([[[0.25, 0.75]]], dtype=torch.float64))
    assert result.output.item() == pytest.approx(3.0)
    assert result.lse.item() == pytest.approx(math.log(4.0))
    assert attention(q, k, v, scale=2.0).weights[0, 0, 1].item() == pytest.approx(0.9)


def test_positions_decide_what_is_visible():
    q, k = torch.tensor([2, 9]), torch.tensor([0, 2, 3, 7])
    assert visible(q, k).tolist() == [[True, True, False, False], [True] * 4]
    assert visible(q, k, window=3).tolist() == [[True, True, False, False], [False, False, False, True]]
    assert visible(q, k, causal=False).all()
    assert visible(q, k, causal=False, window=2).tolist() == [[False, True, True, True], [False] * 3 + [False]]


def test_a_query_without_keys_gets_zero_and_minus_infinity():
    q, k, v = tokens((2, 1), 2, 3)
    mask = torch.tensor([[False] * 3, [True] * 3])
    result = attention(q, k, v, mask)
    assert not result.output[:, 0].any()
    assert not result.weights[:, 0].any()
    assert result.lse[:, 0].isneginf().all()
    empty = attention(q, k[:, :0], v[:, :0])
    assert not empty.output.any()
    assert empty.lse.isneginf().all()


def test_nan_in_a_key_that_nobody_sees_changes_nothing():
    q, k, v = tokens((2, 1), 2, 3)
    expected = attention(q, k[:, :2], v[:, :2])
    k[:, 2], v[:, 2] = torch.nan, torch.nan
    masked = attention(q, k, v, torch.tensor([True, True, False]))
    close(masked.output, expected.output)
    close(masked.lse, expected.lse)


@given(heads, st.integers(1, 9), st.integers(1, 9), st.integers(0, 99))
def test_column_mass_is_the_sum_over_queries_and_grouped_heads(head_counts, queries, keys, seed):
    weights = attention(*tokens(head_counts, queries, keys, seed=seed)).weights
    group = head_counts[0] // head_counts[1]
    for window in (slice(None), slice(-2, None), slice(0, 1)):
        mass = column_mass(weights, head_counts[1], window)
        counted = range(queries)[window]
        for g in range(head_counts[1]):
            for n in range(keys):
                rows = [weights[h, m, n].item() for h in range(g * group, (g + 1) * group) for m in counted]
                assert mass[g, n].item() == pytest.approx(math.fsum(rows), abs=1e-12)
        assert mass.sum().item() == pytest.approx(head_counts[0] * len(counted))


@settings(max_examples=60)
@given(keeps, heads, st.integers(1, 4), st.integers(0, 999))
def test_error_identities_of_pruning(keep, head_counts, queries, seed):
    kept = torch.tensor(keep)
    q, k, v = tokens(head_counts, queries, len(keep), seed=seed)
    everything, over_kept, over_dropped = attention(q, k, v), attention(q, k, v, kept), attention(q, k, v, ~kept)
    mass = dropped_mass(over_kept.lse, everything.lse)
    close(mass, everything.weights[..., ~kept].sum(-1))
    error = everything.output - over_kept.output
    close(error, mass[..., None] * (over_dropped.output - over_kept.output))
    close((everything.weights - over_kept.weights).abs().sum(-1), 2 * mass)

    group = head_counts[0] // head_counts[1]
    for h in range(head_counts[0]):
        values = v[h // group]
        bound = pruning_error_bound(mass[h], values, kept)
        assert (error[h].norm(dim=-1) <= bound + 1e-12).all()
        assert (bound <= 2 * mass[h] * values.norm(dim=-1).max() + 1e-12).all()

    output, lse = merge([(part.output, part.lse) for part in (over_dropped, over_kept)])
    close(output, everything.output)
    close(lse, everything.lse)
    received = column_mass(everything.weights, head_counts[1])
    close(mass.sum(), received[:, ~kept].sum())


def test_both_bounds_are_attained():
    """Values v on the kept side and -v on the dropped one."""
    q, k, _ = tokens((1, 1), 3, 6)
    kept = torch.arange(6) < 4
    values = torch.where(kept, 1.0, -1.0)[:, None].double() * torch.full((6, 8), 0.5, dtype=torch.float64)
    everything, over_kept = attention(q, k, values[None]), attention(q, k, values[None], kept)
    mass = dropped_mass(over_kept.lse, everything.lse)[0]
    error = (everything.output - over_kept.output)[0].norm(dim=-1)
    close(error, pruning_error_bound(mass, values, kept))
    close(error, 2 * mass * values[0].norm())


def test_nothing_dropped_changes_nothing():
    q, k, v = tokens((2, 1), 2, 3)
    every = torch.ones(3, dtype=torch.bool)
    lse = attention(q, k, v).lse
    assert not dropped_mass(lse, lse).any()
    assert not pruning_error_bound(dropped_mass(lse, lse)[0], v[0], every).any()


def test_tiny_dropped_mass_keeps_its_digits():
    """1 - exp(difference) would round to 0."""
    lse_all = torch.tensor(0.0, dtype=torch.float64)
    assert dropped_mass(lse_all - 1e-18, lse_all).item() == pytest.approx(1e-18)


def test_merge_of_empty_parts_is_empty():
    nothing = (torch.zeros(2, 8), torch.full((2,), -torch.inf))
    output, lse = merge([nothing, nothing])
    assert not output.any()
    assert lse.isneginf().all()
