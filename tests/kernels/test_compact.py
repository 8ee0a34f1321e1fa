"""Eviction compaction: exact copies, the closed form against the counter, and bad input."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asymsim_kernels.compact import HEAD_SIZES, compact, cost, default_blocks
from asymsim_kernels.tiles import DTYPE_NAMES, Blocks
from asymsim_kernels.tools.count import counting
from asymsim_kernels.tools.sanitize import sanitizing
from asymsim_kernels.top_k import top_k
from oracles.kernel_cases import cumulative
from oracles.selection_cases import compiled, far_apart

# A copy moves bf16 rightly in the interpreter too.
COPIED = (torch.float32, torch.float16, torch.bfloat16)


def make(batch, heads, capacity, size, dtype=torch.float32, listed=None, seed=0):
    """A cache, positions with gaps, and lists of every length from none to all."""
    generator = torch.Generator().manual_seed(seed)
    k, v = (torch.randn(batch, heads, capacity, size, generator=generator).to(dtype) for _ in range(2))
    positions = torch.randint(1, 9, (batch, heads, capacity), generator=generator).cumsum(2).int()
    listed = capacity if listed is None else min(listed, capacity)
    counts = torch.randint(0, listed + 1, (batch, heads), generator=generator).int()
    kept = torch.full((batch, heads, listed), -1, dtype=torch.int32)
    for b in range(batch):
        for g in range(heads):
            n = int(counts[b, g])
            kept[b, g, :n] = torch.randperm(capacity, generator=generator)[:n].sort().values
    return k, v, positions, kept, counts


def assert_gathered(result, case):
    """Each list's entries are the source's, to the bit."""
    *sources, kept, counts = case
    for b, row in enumerate(counts.tolist()):
        for g, n in enumerate(row):
            rows = kept[b, g, :n].long()
            for source, copy in zip(sources, result, strict=True):
                assert torch.equal(copy[b, g, :n], source[b, g][rows])


def poisoned(case, room):
    """A cache of larger capacity to compact into, full of a mark."""
    k, _, positions, *_ = case
    shape = (*k.shape[:2], room)
    keys = torch.full((*shape, k.shape[3]), 77.0, dtype=k.dtype)
    return keys, keys.clone(), torch.full(shape, -7, dtype=positions.dtype)


@settings(max_examples=32)
@given(
    batch=st.integers(1, 3),
    heads=st.integers(1, 3),
    capacity=st.integers(0, 30),
    listed=st.integers(0, 30),
    size=st.sampled_from([1, 7, *HEAD_SIZES]),
    dtype=st.sampled_from(COPIED),
    tokens_first=st.booleans(),
    rows=st.sampled_from([4, 16, 32]),
    seed=st.integers(0, 2**16),
)
def test_gathers_and_costs_what_the_closed_form_says(
    batch, heads, capacity, listed, size, dtype, tokens_first, rows, seed
):
    case = k, v, positions, kept, counts = make(batch, heads, capacity, size, dtype, listed, seed)
    if tokens_first:
        k, v = (x.transpose(1, 2).contiguous().transpose(1, 2) for x in (k, v))
    blocks = Blocks(rows, 1)
    with counting() as counted:
        result = compact(k, v, positions, kept, counts, blocks=blocks)
    assert_gathered(result, case)
    assert counted.cost == cost(counts.tolist(), kept.shape[2], size, DTYPE_NAMES[dtype], blocks)


@pytest.mark.parametrize("size", HEAD_SIZES)
def test_shipped_blocks(size):
    case = make(1, 2, 70, size, torch.float16)
    with counting() as counted:
        result = compact(*case)
    assert_gathered(result, case)
    assert counted.cost == cost(case[4].tolist(), 70, size, "fp16", default_blocks(size, "fp16", "sm_80"))


def test_nothing_and_everything_kept():
    k, v, positions, *_ = make(2, 2, 9, 8)
    everything = torch.arange(9).int().expand(2, 2, 9)
    result = compact(k, v, positions, everything, torch.full((2, 2), 9).int())
    assert all(torch.equal(a, b) for a, b in zip(result, (k, v, positions), strict=True))
    out = poisoned((k, v, positions), 9)
    compact(k, v, positions, everything, torch.zeros(2, 2).int(), out=out)
    assert bool((out[0] == 77).all() and (out[1] == 77).all() and (out[2] == -7).all())


def test_entries_past_the_lists_stay_untouched():
    case = make(2, 3, 12, 20)
    result = compact(*case, out=poisoned(case, 15))
    assert_gathered(result, case)
    past = torch.arange(15) >= case[4][..., None]
    assert bool((result[0][past] == 77).all() and (result[1][past] == 77).all() and (result[2][past] == -7).all())


def test_positions_are_the_original_ones_and_may_be_shared_by_the_heads():
    k, v, _, kept, counts = make(2, 3, 12, 8)
    shared = (100 + 10 * torch.arange(24).view(2, 1, 12)).int().expand(2, 3, 12)
    result = compact(k, v, shared, kept, counts)
    assert_gathered(result, (k, v, shared, kept, counts))


def test_nan_of_evicted_entries_is_left_behind():
    k, v, positions, *_ = make(1, 1, 8, 16)
    k[0, 0, [0, 3, 7]], v[0, 0, [0, 3, 7]] = torch.nan, torch.nan
    kept = torch.tensor([[[1, 2, 4, 5, 6]]], dtype=torch.int32)
    keys, values, _ = compact(k, v, positions, kept, torch.tensor([[5]], dtype=torch.int32))
    assert bool(keys.isfinite().all() and values.isfinite().all())


def test_takes_the_lists_of_top_k():
    k, v, positions, *_ = make(2, 2, 10, 8)
    scores = torch.randn(2, 20)
    chosen = top_k(scores, cumulative([10, 10]), torch.tensor([[3, 0], [10, 5]], dtype=torch.int32))
    case = (k, v, positions, chosen.indices, chosen.counts)
    assert_gathered(compact(*case), case)


def test_sliced_strides():
    case = k, v, positions, kept, counts = make(2, 2, 11, 24)
    wide = torch.full((2, 3, 23, 72), torch.nan)
    k_view, v_view = wide[:, 1:, 1::2, :48:2], wide[:, :2, 2::2, 1::3]
    assert k_view.shape == v_view.shape == k.shape
    v_view.copy_(v)
    k_view.copy_(k)
    v = v_view.clone()
    spread = torch.stack([kept, kept - 50], 3)[..., 0]
    assert not spread.is_contiguous()
    assert_gathered(compact(k_view, v_view, positions, spread, counts), (k, v, positions, kept, counts))
    assert_gathered(compact(*case), case)


@pytest.mark.parametrize("axis", [0, 1, 2, 3])
def test_offsets_past_2_31(axis):
    shape = [1, 1, 1, 1]
    shape[axis] = 3
    k = torch.arange(3.0).half().view(shape)
    positions = torch.arange(3).int().view(shape)[..., 0] if axis < 3 else torch.zeros(1, 1, 1).int()
    kept = torch.arange(shape[2]).int().expand(*shape[:3])
    counts = torch.full(shape[:2], shape[2]).int()
    far = far_apart(k, axis)
    with sanitizing() as report:
        keys, values, _ = compact(far, k, positions, kept, counts)
        _, onto, _ = compact(
            k, far, positions, kept, counts, out=(torch.empty_like(k), far_apart(k, axis), positions + 0)
        )
    report.check()
    assert torch.equal(keys, k)
    assert torch.equal(values, k)
    assert torch.equal(onto, k)


def test_sanitizer_finds_nothing():
    case = k, v, positions, kept, counts = make(2, 3, 20, 24)
    out = poisoned(case, 25)
    named = dict(zip(("keys", "values", "out_positions"), out, strict=True))
    inputs = {"k": k, "v": v, "positions": positions, "kept": kept, "counts": counts}
    with sanitizing(inputs=inputs, partial=named) as report:
        compact(*case, out=out, blocks=Blocks(8, 1))
    report.check()


def test_empty_batches():
    for batch, heads, capacity in ((0, 2, 5), (2, 0, 5), (2, 2, 0)):
        result = compact(*make(batch, heads, capacity, 8))
        assert result[0].shape == (batch, heads, capacity, 8)


def good():
    k, v, positions, *_ = make(1, 2, 6, 8)
    kept = torch.tensor([[[0, 2, 5], [1, 3, 9]]], dtype=torch.int32)
    return {"k_BGCD": k, "v_BGCD": v, "positions_BGC": positions, "kept_BGK": kept} | {
        "counts_BG": torch.tensor([[3, 2]], dtype=torch.int32)
    }


def lists(*rows):
    return torch.tensor([rows], dtype=torch.int32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k_BGCD": torch.ones(1, 2, 6, 8, dtype=torch.float64)}, "k_BGCD.dtype"),
        ({"v_BGCD": torch.ones(1, 2, 6, 8).half()}, "v_BGCD.dtype"),
        ({"v_BGCD": torch.ones(1, 2, 6, 9)}, "v_BGCD.shape"),
        ({"k_BGCD": torch.ones(2, 6, 8)}, "k_BGCD.shape"),
        ({"k_BGCD": torch.ones(1, 2, 6, 129), "v_BGCD": torch.ones(1, 2, 6, 129)}, "head size = 129"),
        ({"positions_BGC": torch.ones(1, 2, 6)}, "positions_BGC.dtype"),
        ({"positions_BGC": torch.ones(1, 6).int()}, "positions_BGC.shape"),
        ({"kept_BGK": torch.ones(1, 1, 3).int()}, "kept_BGK.shape"),
        ({"kept_BGK": torch.ones(1, 2, 3).long()}, "kept_BGK.dtype"),
        ({"kept_BGK": lists([0, 2, 5], [1, 3, 9]).to("meta")}, "kept_BGK.device"),
        ({"counts_BG": torch.ones(2).int()}, "counts_BG.shape"),
        ({"counts_BG": torch.tensor([[4, 0]]).int()}, "counts_BG = 4"),
        ({"counts_BG": torch.tensor([[-1, 0]]).int()}, "counts_BG = -1"),
        ({"counts_BG": torch.tensor([[3, 3]]).int()}, r"kept_BGK\[0, 1, 2\] = 9: must be from 0 to 5"),
        ({"kept_BGK": lists([0, -1, 5], [1, 3, 9])}, r"kept_BGK\[0, 0, 1\] = -1"),
        ({"kept_BGK": lists([0, 2, 5], [3, 1, 9])}, r"kept_BGK\[0, 1, 1\] = 1: must exceed"),
        ({"kept_BGK": lists([0, 2, 2], [1, 3, 9])}, r"kept_BGK\[0, 0, 2\] = 2: must exceed"),
    ],
)
def test_bad_input(change, message):
    with pytest.raises(ValueError, match=message):
        compact(**(good() | change))


def test_bad_output():
    case = good()
    k, v, positions = case["k_BGCD"], case["v_BGCD"], case["positions_BGC"]
    fresh = (torch.empty_like(k), torch.empty_like(v), torch.empty_like(positions))
    for out, message in (
        ((k, *fresh[1:]), "out of place"),
        ((fresh[0].half(), *fresh[1:]), r"out\[0\].dtype"),
        ((fresh[0][:, :, :2], fresh[1][:, :, :2], fresh[2][:, :, :2]), "room for the 3"),
        ((fresh[0], fresh[1][:, :, :5], fresh[2]), r"out\[1\].shape"),
        ((fresh[0], fresh[1], fresh[2][0]), r"out\[2\].shape"),
    ):
        with pytest.raises(ValueError, match=message):
            compact(**case, out=out)


def test_compiles_without_faults():
    for row in compiled("compact", "bf16", "d72"):
        assert not row["faults"], row
