"""Cluster means against the float64 reference, their closed form against the counter, and bad input."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asymsim_kernels.merge_tokens import cost, merge_tokens, plan_merge
from asymsim_kernels.tiles import Blocks
from asymsim_kernels.tools.count import counting
from asymsim_kernels.tools.sanitize import sanitizing
from asymsim_reference.merging import average_into
from oracles.kernel_cases import cumulative
from oracles.selection_cases import DTYPES, LAYOUTS, assert_close, compiled, far_apart, laid_out


def ints(values):
    return torch.tensor(values, dtype=torch.int32)


def reference(x, assigned, tokens, kept, dtype=torch.float64):
    """Means cluster by cluster, 0 for one without members."""
    rows = []
    for part, places, clusters in zip(x.to(dtype).split(tokens), assigned.split(tokens), kept, strict=True):
        for cluster in range(clusters):
            members = part[places == cluster]
            rows.append(members.mean(0) if len(members) else torch.zeros(x.shape[1], dtype=dtype))
    return torch.stack(rows) if rows else torch.empty(0, x.shape[1], dtype=dtype)


@settings(max_examples=32)
@given(
    pairs=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 9)), min_size=1, max_size=3),
    features=st.sampled_from([1, 7, 72, 256, 300, 1030]),
    dtype=st.sampled_from(sorted(DTYPES)),
    layout=st.sampled_from(LAYOUTS),
    blocks=st.sampled_from([None, Blocks(1, 16), Blocks(4, 2), Blocks(8, 1)]),
    seed=st.integers(0, 2**16),
)
def test_matches_reference_and_closed_form(pairs, features, dtype, layout, blocks, seed):
    generator = torch.Generator().manual_seed(seed)
    tokens, kept = [list(x) for x in zip(*pairs, strict=True)]
    x = laid_out(torch.randn(sum(tokens), features, generator=generator).to(DTYPES[dtype]), layout)
    places = [torch.randint(-1, k, (n,), generator=generator) if k else -torch.ones(n) for n, k in pairs]
    assigned = torch.cat(places).int()
    plan = plan_merge(assigned, cumulative(tokens), cumulative(kept))
    with counting() as counts:
        merged = merge_tokens(x, plan, blocks=blocks)
    assert counts.cost == cost(plan.assigned, sum(kept), features, dtype)
    assert merged.dtype == DTYPES[dtype]
    assert_close(merged, reference(x, assigned, tokens, kept), reference(x, assigned, tokens, kept, DTYPES[dtype]))


def test_averages_dropped_tokens_into_their_targets():
    torch.manual_seed(0)
    x, kept, dropped = torch.randn(10, 20), [1, 4, 7], [0, 2, 3, 5, 6, 8, 9]
    targets = torch.tensor([0, 0, 2, 2, 2, 0, 2])
    assigned = torch.empty(10, dtype=torch.int32)
    assigned[kept], assigned[dropped] = ints([0, 1, 2]), targets.int()
    merged = merge_tokens(x, plan_merge(assigned, cumulative([10]), cumulative([3])))
    right = average_into(x[kept].double(), x[dropped].double(), targets)
    assert torch.allclose(merged.double(), right, atol=1e-6)


def test_one_member_is_copied_to_the_bit():
    x = torch.randn(6, 33).half()
    order = torch.randperm(6)
    merged = merge_tokens(x, plan_merge(order.int(), cumulative([6]), cumulative([6])))
    assert torch.equal(merged[order], x)


def test_sums_do_not_overflow_half_precision():
    x = torch.full((64, 3), 60000.0).half()
    merged = merge_tokens(x, plan_merge(torch.zeros(64).int(), cumulative([64]), cumulative([1])))
    assert merged.tolist() == [[60000.0] * 3]


def test_nan_stays_in_its_cluster_and_unassigned_tokens_are_not_read():
    x = torch.randn(6, 5)
    x[3], x[5] = torch.nan, torch.nan
    merged = merge_tokens(x, plan_merge(ints([0, 1, 2, 1, 0, -1]), cumulative([6]), cumulative([3])))
    assert merged.isnan().any(1).tolist() == [False, True, False]


def test_repeats_to_the_bit_whatever_the_batch():
    torch.manual_seed(3)
    x, assigned = torch.randn(40, 64), torch.randint(0, 4, (40,)).int()
    alone = merge_tokens(x[20:], plan_merge(assigned[20:], cumulative([20]), cumulative([4])))
    both = merge_tokens(x, plan_merge(assigned, cumulative([20, 20]), cumulative([4, 4])))
    assert torch.equal(both[4:], alone)


def test_equal_tokens_merge_into_themselves():
    x = torch.randn(1, 40).expand(12, 40)
    merged = merge_tokens(x, plan_merge(torch.zeros(12).int(), cumulative([12]), cumulative([1])))
    assert torch.allclose(merged, x[:1], rtol=1e-6)


@pytest.mark.parametrize("axis", [0, 1])
def test_offsets_past_2_31(axis):
    x = torch.randn(3, 3).half()
    plan = plan_merge(ints([1, 0, 1]), cumulative([3]), cumulative([2]))
    with sanitizing() as report:
        far = merge_tokens(far_apart(x, axis), plan)
    report.check()
    assert torch.equal(far, merge_tokens(x, plan))


def test_empty_results():
    nothing = plan_merge(ints([]), cumulative([]), cumulative([]))
    assert merge_tokens(torch.empty(0, 8), nothing).shape == (0, 8)
    dropped = plan_merge(ints([-1, -1]), cumulative([2]), cumulative([0]))
    assert merge_tokens(torch.ones(2, 8), dropped).shape == (0, 8)
    vacant = plan_merge(ints([1, -1]), cumulative([2]), cumulative([2]))
    assert merge_tokens(torch.ones(2, 3), vacant).tolist() == [[0.0] * 3, [1.0] * 3]
    assert merge_tokens(torch.ones(2, 0), vacant).shape == (2, 0)


def test_sanitizer_finds_nothing():
    x = laid_out(torch.randn(23, 300), "sliced")
    plan = plan_merge(torch.randint(-1, 3, (23,)).int(), cumulative([20, 0, 3]), cumulative([5, 0, 3]))
    with sanitizing(inputs={"x": x, "members": plan.members, "starts": plan.starts}) as report:
        merge_tokens(x, plan)
    report.check()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"assigned_T": ints([0, 2, 0])}, r"assigned_T\[1\] = 2: must be from -1 to 1"),
        ({"assigned_T": ints([0, -2, 0])}, r"assigned_T\[1\] = -2"),
        ({"assigned_T": torch.tensor([0, 1, 0])}, "assigned_T.dtype"),
        ({"assigned_T": ints([[0, 1, 0]])}, "assigned_T.shape"),
        ({"assigned_T": ints([0, 1])}, "end with the 2 rows"),
        ({"cu_tokens": torch.tensor([0, 3])}, "cu_tokens.dtype"),
        ({"cu_kept": cumulative([1, 1])}, "cu_kept.shape"),
        ({"cu_kept": torch.tensor([1, 2], dtype=torch.int32)}, "cu_kept"),
        ({"cu_kept": cumulative([2]).to("meta")}, "cu_kept.device"),
    ],
)
def test_bad_assignments(change, message):
    good = {"assigned_T": ints([0, 1, 0]), "cu_tokens": cumulative([3]), "cu_kept": cumulative([2])}
    with pytest.raises(ValueError, match=message):
        plan_merge(**(good | change))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.ones(3, 4, dtype=torch.float64), "x_TD.dtype"),
        (torch.ones(2, 4), "x_TD.shape"),
        (torch.ones(3), "x_TD.shape"),
        (torch.ones(3, 4, device="meta"), "plan.members.device"),
    ],
)
def test_bad_tokens(x, message):
    plan = plan_merge(ints([0, 1, 0]), cumulative([3]), cumulative([2]))
    with pytest.raises(ValueError, match=message):
        merge_tokens(x, plan)


def test_compiles_without_faults():
    for row in compiled("merge_tokens", "bf16", "d3072"):
        assert not row["faults"], row
