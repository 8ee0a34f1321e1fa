"""The budget from the gap of the scores, exact against the float64 reference."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asymsim_kernels.tiles import DTYPE_NAMES, Blocks
from asymsim_kernels.tools.count import counting
from asymsim_kernels.top_k import LinearBudget, ThresholdBudget, cost, top_k
from asymsim_reference import selection
from asymsim_reference.budgets import linear_ratio, score_gap, threshold_ratio
from oracles.kernel_cases import cumulative
from oracles.selection_cases import LAYOUTS, SMALL_ROWS, chosen, compiled, kept_rows, laid_out

ADAPTIVE = (
    ThresholdBudget(0.2, 1.5, 0.6, 0.5, 0.35),
    LinearBudget(0.5, -0.2, 1.0, 0.3, 0.7),
    LinearBudget(0.35, 0.0, 0.218, 0.0, 1.0),
)
# Widening bf16 is exact in the interpreter too.
DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def ratio(budget, gap):
    """r by the reference."""
    if isinstance(budget, ThresholdBudget):
        return threshold_ratio(gap, budget.low, budget.high, budget.conservative, budget.moderate, budget.aggressive)
    return linear_ratio(gap, budget.target, budget.slope, budget.mean, budget.lowest, budget.highest)


@settings(max_examples=32)
@given(
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=2),
    budget=st.sampled_from(ADAPTIVE),
    dtype=st.sampled_from(DTYPES),
    layout=st.sampled_from(LAYOUTS),
    spread=st.sampled_from([0.01, 0.5, 2.0]),
    protect=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_budget_from_the_gap(lengths, budget, dtype, layout, spread, protect, seed):
    generator = torch.Generator().manual_seed(seed)
    scores = laid_out((spread * torch.randn(2, sum(lengths), generator=generator)).to(dtype), layout)
    protected = torch.rand(2, sum(lengths), generator=generator) < 0.1 if protect else None
    with counting() as counts:
        result = top_k(scores, cumulative(lengths), budget, protected, blocks=Blocks(1, 32))
    name = DTYPE_NAMES[dtype]
    assert counts.cost == cost(lengths, 2, max(lengths), name, protected=protect, adaptive=True)
    for (b, g), kept in kept_rows(result).items():
        part = slice(*cumulative(lengths).tolist()[b : b + 2])
        row = scores[g, part].double()
        if not len(row):
            assert kept == []
            assert float(result.gaps[b, g]) == 0
            continue
        gap = score_gap(row)
        assert float(result.gaps[b, g]) == float(torch.tensor(gap, dtype=torch.float32))
        held = None if protected is None else protected[g, part]
        k = max(selection.floor_share(ratio(budget, gap), len(row)), 0 if held is None else int(held.sum()))
        assert kept == selection.top_k(row, k, held).tolist()


def test_decimal_shares_mean_themselves():
    # 0.35 in binary is below 0.35, and in fp32 gives 34 of 100 and 69 of 200.
    for n, k in ((100, 35), (200, 70), (20, 7), (40, 14)):
        budget = ThresholdBudget(0.0, 0.0, 0.35, 0.35, 0.35)
        assert len(chosen(torch.randn(n), budget, blocks=Blocks(1, 256))) == k


def test_limits_of_the_threshold_sweep_belong_to_the_upper_class():
    budget = ThresholdBudget(0.5, 0.75, 1.0, 0.5, 0.25)
    for gap, kept in ((0.25, 8), (0.5, 4), (0.625, 4), (0.75, 2), (3.0, 2)):
        # q = 2 of 8: the second largest less the second smallest.
        assert len(chosen([9, gap, 0, 0, 0, 0, 0, -9], budget)) == kept


def test_gap_of_few_tokens_is_the_largest_less_the_smallest():
    result = top_k(torch.tensor([1.0, 4.0, 2.5]), cumulative([3]), ADAPTIVE[0], blocks=SMALL_ROWS)
    assert result.gaps.tolist() == [[3.0]]


def test_a_gap_that_is_nan_keeps_the_most():
    budgets = (ThresholdBudget(0.1, 0.2, 0.75, 0.5, 0.25), LinearBudget(0.5, -1.0, 0.2, 0.25, 0.75))
    for budget in budgets:
        for scores in ([-math.inf] * 8, [math.nan] * 8, [1.0, 2.0, *[math.nan] * 6]):
            assert len(chosen(scores, budget)) == 6


def test_budget_is_raised_to_the_protected_tokens_and_cut_to_the_capacity():
    budget = ThresholdBudget(0.0, 0.0, 0.25, 0.25, 0.25)
    assert chosen([4.0, 3.0, 2.0, 1.0], budget, [False, True, False, True]) == [1, 3]
    assert chosen([4.0, 3.0, 2.0, 1.0] * 4, budget, capacity=2) == [0, 4]


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        (ThresholdBudget(0.3, 0.2, 0.6, 0.5, 0.4), "low = 0.3: must not exceed 0.2"),
        (ThresholdBudget(0.1, 0.2, 1.1, 0.5, 0.4), "conservative = 1.1"),
        (LinearBudget(0.5, -1.0, math.nan, 0.1, 0.9), "mean = nan"),
        (LinearBudget(0.5, -1.0, 0.2, 0.9, 0.1), "lowest = 0.9"),
        (LinearBudget(0.5, -1.0, 0.2, -0.1, 0.1), "lowest = -0.1"),
    ],
)
def test_bad_budgets(budget, message):
    with pytest.raises(ValueError, match=message):
        top_k(torch.ones(5), cumulative([5]), budget)


def test_rows_too_long_for_an_adaptive_budget():
    endless = torch.ones(1).expand(10_000_000)
    with pytest.raises(ValueError, match="max_tokens = 10000000"):
        top_k(endless, cumulative([10_000_000]), ADAPTIVE[0])


def test_compiles_without_faults():
    for row in compiled("top_k", "fp32", "linear"):
        assert not row["faults"], row
