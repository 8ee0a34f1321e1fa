"""Merging attention over disjoint key sets."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asymsim_kernels.merge_states import cost, merge_states
from asymsim_kernels.tools.count import counting
from asymsim_kernels.tools.sanitize import sanitizing
from asymsim_reference.attention import attention, merge
from oracles.kernel_cases import UNSHRUNK, assert_as_exact


def parts_of(rows, sizes, size=16, seed=0):
    """Attention of `rows` queries over key sets of these sizes, and over all of them."""
    make = torch.Generator().manual_seed(seed)
    n = sum(sizes)
    q, k, v = (torch.randn(s, generator=make) for s in ((1, rows, size), (1, n, size), (1, n, size)))
    over = [attention(q, k_set, v_set) for k_set, v_set in zip(k.split(sizes, 1), v.split(sizes, 1), strict=True)]
    whole = attention(q, k, v)
    outputs = torch.stack([part.output[0] for part in over], dim=1)
    return outputs.float(), torch.stack([part.lse[0] for part in over], dim=1).float(), whole


@settings(max_examples=20, phases=UNSHRUNK)
@given(
    st.integers(1, 4),
    st.lists(st.integers(0, 9), min_size=1, max_size=5),
    st.sampled_from([1, 7, 16]),
    st.integers(0, 99),
)
def test_merge_of_the_parts_is_attention_over_all_and_executes_its_cost(rows, sizes, size, seed):
    part_RPD, lse_RP, whole = parts_of(rows, sizes, size, seed)
    with counting() as counts:
        o_RD, lse_R = merge_states(part_RPD, lse_RP)
    filled = rows * sum(n > 0 for n in sizes)
    assert counts.cost == cost(rows, len(sizes), filled, size, "fp32", "fp32")
    torch.testing.assert_close(o_RD.double(), whole.output[0], atol=2e-6, rtol=0)
    torch.testing.assert_close(lse_R.double(), whole.lse[0], atol=2e-6, rtol=0)


def test_order_and_grouping_change_rounding_only():
    part_RPD, lse_RP, whole = parts_of(3, [4, 1, 0, 6])
    single = merge([(part_RPD[:, p], lse_RP[:, p]) for p in range(4)])
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]):
        o_RD, lse_R = merge_states(part_RPD[:, order], lse_RP[:, order])
        assert_as_exact(o_RD, single[0], whole.output[0].float())
        assert_as_exact(lse_R, single[1], whole.lse[0].float())
    left = merge_states(part_RPD[:, :2], lse_RP[:, :2])
    right = merge_states(part_RPD[:, 2:], lse_RP[:, 2:])
    o_RD, _ = merge_states(torch.stack([left[0], right[0]], 1), torch.stack([left[1], right[1]], 1))
    torch.testing.assert_close(o_RD.double(), single[0], atol=1e-6, rtol=0)


def test_empty_parts_are_never_read():
    part_RPD, lse_RP, whole = parts_of(2, [5, 0])
    part_RPD[:, 1] = torch.nan
    o_RD, _ = merge_states(part_RPD, lse_RP)
    torch.testing.assert_close(o_RD.double(), whole.output[0], atol=2e-6, rtol=0)
    o_RD, lse_R = merge_states(torch.full((2, 3, 5), torch.nan), torch.full((2, 3), -torch.inf))
    assert torch.equal(o_RD, torch.zeros(2, 5))
    assert lse_R.isneginf().all()


def test_weights_of_far_apart_lses_do_not_overflow():
    part_RPD = torch.tensor([[[1.0], [2.0]]])
    o_RD, lse_R = merge_states(part_RPD, torch.tensor([[-5000.0, 5000.0]]))
    assert o_RD.item() == 2
    assert lse_R.item() == 5000


def test_rows_past_int32():
    far = torch.empty_strided((3, 2, 16), (2**30, 16, 1), dtype=torch.float16)
    part_RPD, lse_RP, whole = parts_of(3, [4, 3])
    far.copy_(part_RPD)
    with sanitizing(inputs={"parts": far}) as report:
        o_RD, _ = merge_states(far, lse_RP)
    report.check()
    torch.testing.assert_close(o_RD.double(), whole.output[0], atol=2e-3, rtol=0)


@pytest.mark.parametrize("parts", [0, 65])
def test_refuses_a_number_of_parts_it_cannot_hold(parts):
    with pytest.raises(ValueError, match="parts = "):
        merge_states(torch.zeros(1, parts, 16), torch.zeros(1, parts))
