"""Top-k selection, exact against the reference, ties and NaN included."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asymsim_kernels.tiles import DTYPE_NAMES, Blocks
from asymsim_kernels.tools.count import counting
from asymsim_kernels.tools.sanitize import sanitizing
from asymsim_kernels.top_k import LinearBudget, ThresholdBudget, cost, top_k
from asymsim_reference import selection
from oracles.kernel_cases import cumulative
from oracles.selection_cases import LAYOUTS, SMALL_ROWS, chosen, compiled, far_apart, kept_rows, laid_out

# Widening bf16 is exact in the interpreter too.
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
# Few values, so that most rows have ties, and every kind of special one.
SCORES = st.sampled_from([0.0, -0.0, 1.0, 1.0, -1.0, 2.5, -3e-7, 60000.0, math.inf, -math.inf, math.nan])


def ints(values):
    return torch.tensor(values, dtype=torch.int32)


@st.composite
def cases(draw):
    """Scores of G x B rows with ties and special values, k of each, and protected tokens within k or none."""
    lengths = draw(st.lists(st.integers(0, 40), min_size=1, max_size=2))
    rows = draw(st.integers(1, 2))
    values = st.one_of(SCORES, st.floats(-4, 4, width=16)) if draw(st.booleans()) else SCORES
    count = rows * sum(lengths)
    scores = torch.tensor(draw(st.lists(values, min_size=count, max_size=count))).reshape(rows, sum(lengths))
    k = torch.tensor([[draw(st.integers(0, n)) for _ in range(rows)] for n in lengths], dtype=torch.int32)
    protected = None
    if draw(st.booleans()):
        protected = torch.zeros(rows, sum(lengths), dtype=torch.bool)
        for b, (start, n) in enumerate(zip(cumulative(lengths).tolist(), lengths, strict=False)):
            for g in range(rows):
                few = draw(st.sets(st.integers(0, max(0, n - 1)), max_size=int(k[b, g])))
                protected[g, [start + i for i in few]] = True
    return lengths, scores, k, protected


@settings(max_examples=50)
@given(
    case=cases(),
    dtype=st.sampled_from(DTYPES),
    layout=st.sampled_from(LAYOUTS),
    spare=st.sampled_from([None, 0, 3]),
    block=st.sampled_from([16, 32, 64]),
)
def test_selects_exactly_what_the_reference_does(case, dtype, layout, spare, block):
    lengths, scores, k, protected = case
    scores = laid_out(scores.to(dtype), layout)
    flags = None if protected is None else laid_out(protected, layout)
    capacity = int(k.max()) + (spare or 0)
    with counting() as counts:
        result = top_k(
            scores,
            cumulative(lengths),
            k,
            flags,
            capacity=None if spare is None else capacity,
            blocks=Blocks(1, block),
        )
    expected = cost(lengths, len(scores), capacity, DTYPE_NAMES[dtype], protected=protected is not None)
    assert counts.cost == expected
    assert torch.equal(result.counts, k)
    for (b, g), kept in kept_rows(result).items():
        part = slice(*cumulative(lengths).tolist()[b : b + 2])
        held = None if protected is None else protected[g, part]
        assert kept == selection.top_k(scores[g, part].float(), int(k[b, g]), held).tolist()
        assert kept == sorted(set(kept))
        assert len(kept) == int(k[b, g])
        if held is not None:
            assert set(held.nonzero()[:, 0].tolist()) <= set(kept)


def test_ties_go_to_the_lowest_index_across_tiles():
    scores = [1.0] * 50
    scores[40] = 2.0
    assert chosen(scores, 20) == [*range(19), 40]


def test_nothing_and_everything():
    scores = torch.randn(37)
    assert chosen(scores, 0) == []
    assert chosen(scores, 37) == list(range(37))
    assert chosen([], 0) == []
    assert chosen([math.nan], 1) == [0]


def test_zeros_of_both_signs_tie():
    assert chosen([-0.0, 0.0, -0.0, 0.0], 2) == [0, 1]
    assert chosen([-1e-45, -0.0, 1e-45], 2) == [1, 2]


def test_nan_comes_after_negative_infinity():
    negative_nan = -torch.tensor(math.nan)
    scores = torch.stack([torch.tensor(math.nan), torch.tensor(-math.inf), negative_nan, torch.tensor(-1.0)])
    assert chosen(scores, 1) == [3]
    assert chosen(scores, 2) == [1, 3]
    assert chosen(scores, 3) == [0, 1, 3]


def test_neighbouring_floats_are_told_apart():
    ones = torch.ones(20)
    ones[7] = torch.nextafter(ones[7], torch.tensor(2.0))
    ones[13] = torch.nextafter(ones[13], torch.tensor(0.0))
    assert chosen(ones, 1) == [7]
    assert chosen(ones, 19) == [i for i in range(20) if i != 13]


def test_protected_tokens_are_kept_whatever_their_score():
    scores = [5.0, 4.0, -math.inf, math.nan, 3.0, 2.0]
    flags = [False, False, True, True, False, False]
    assert chosen(scores, 2, flags) == [2, 3]
    assert chosen(scores, 4, flags) == [0, 1, 2, 3]
    assert chosen(scores, 6, flags) == list(range(6))


def test_too_many_protected_tokens_compete_where_nothing_is_validated():
    flags = [True, True, False, True]
    assert chosen([1.0, 3.0, 9.0, 2.0], 2, flags, validate=False, capacity=2, max_tokens=4) == [1, 3]
    with pytest.raises(ValueError, match=r"k\[0, 0\] = 2: must be at least the row's 3 protected"):
        chosen([1.0, 3.0, 9.0, 2.0], 2, flags)


def test_unvalidated_counts_are_cut_to_the_row_and_the_result():
    scores = torch.tensor([3.0, 1.0, 2.0, 5.0])
    result = top_k(scores, cumulative([4]), ints([9]), capacity=3, max_tokens=4, validate=False, blocks=SMALL_ROWS)
    assert kept_rows(result) == {(0, 0): [0, 2, 3]}


def test_k_for_each_sequence_and_for_all():
    scores = torch.tensor([[3.0, 1, 2, 5, 4], [1, 2, 3, 4, 5]])
    each = top_k(scores, cumulative([3, 2]), ints([1, 2]), blocks=SMALL_ROWS)
    assert kept_rows(each) == {(0, 0): [0], (0, 1): [2], (1, 0): [0, 1], (1, 1): [0, 1]}
    same = top_k(scores, cumulative([3, 2]), 1, torch.tensor([False, True, False, False, False]), blocks=SMALL_ROWS)
    assert kept_rows(same) == {(0, 0): [1], (0, 1): [1], (1, 0): [0], (1, 1): [1]}


def test_long_rows_in_shipped_blocks():
    scores = torch.randn(2300).half()
    with counting() as counts:
        result = top_k(scores, cumulative([2300]), 1500)
    assert counts.cost == cost([2300], 1, 1500, "fp16")
    assert kept_rows(result)[0, 0] == selection.top_k(scores, 1500).tolist()


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("k", [ints([2]), ThresholdBudget(0.2, 1.5, 0.7, 0.5, 0.35)])
def test_offsets_past_2_31(axis, k):
    scores = torch.tensor([[1.0, 3.0, 2.0], [6.0, 5.0, 4.0], [7.0, 9.0, 8.0]]).half()
    flags = torch.tensor([[False, False, False], [False, False, True], [True, False, False]])
    near = top_k(scores, cumulative([3]), k, flags, blocks=SMALL_ROWS)
    with sanitizing() as report:
        far = top_k(far_apart(scores, axis), cumulative([3]), k, far_apart(flags, axis), blocks=SMALL_ROWS)
    report.check()
    assert torch.equal(near.indices, far.indices)


@pytest.mark.parametrize(
    "k",
    [ints([[3, 0], [0, 0], [4, 9]]), ThresholdBudget(0.2, 1.5, 0.6, 0.5, 0.35), LinearBudget(0.5, -0.2, 1.0, 0.3, 0.7)],
)
def test_sanitizer_finds_nothing(k):
    scores, flags = laid_out(torch.randn(2, 30), "sliced"), laid_out(torch.zeros(2, 30, dtype=torch.bool), "offset")
    flags[0, 3] = True
    cu = cumulative([20, 0, 10])
    inputs = {"scores": scores, "flags": flags.view(torch.uint8), "cu": cu}
    with sanitizing(inputs=inputs) as report:
        top_k(scores, cu, k, flags, blocks=SMALL_ROWS)
    report.check()


def test_empty_batches():
    assert top_k(torch.empty(0), cumulative([]), 0).indices.shape == (0, 1, 0)
    assert top_k(torch.empty(0, 5), cumulative([5]), 2).indices.shape[:2] == (1, 0)
    assert kept_rows(top_k(torch.empty(2, 0), cumulative([0]), 0)) == {(0, 0): [], (0, 1): []}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores_GT": torch.ones(2, 5, dtype=torch.int32)}, "scores_GT.dtype"),
        ({"scores_GT": torch.ones(1, 2, 5)}, "scores_GT.shape"),
        ({"cu": torch.tensor([0, 5])}, "cu.dtype"),
        ({"cu": cumulative([4])}, "end with the 5 rows"),
        ({"cu": cumulative([3, 2]).to("meta")}, "cu.device"),
        ({"k": 3}, r"k\[1, 0\] = 3: must be from 0 to the sequence's 2"),
        ({"k": -1}, r"k\[0, 0\] = -1"),
        ({"k": torch.tensor([1, 1])}, "k.dtype"),
        ({"k": ints([1, 1, 1])}, "k.shape"),
        ({"k": ints([[1], [1]])}, "k.shape"),
        ({"k": ints([1, 1]).to("meta")}, "k.device"),
        ({"protected_GT": torch.ones(2, 5)}, "protected_GT.dtype"),
        ({"protected_GT": torch.ones(4, dtype=torch.bool)}, "protected_GT.shape"),
        ({"protected_GT": torch.ones(3, 5, dtype=torch.bool)}, "protected_GT.shape"),
        ({"capacity": 1, "k": 2}, "capacity = 1: must be at least the largest k, 2"),
        ({"capacity": -1}, "capacity = -1"),
    ],
)
def test_bad_input(change, message):
    good = {"scores_GT": torch.ones(2, 5), "cu": cumulative([3, 2]), "k": 2}
    with pytest.raises(ValueError, match=message):
        top_k(**(good | change))


def test_compiles_without_faults():
    for row in compiled("top_k", "fp32", "protected"):
        assert not row["faults"], row
