"""AsymVLM's scorer against the float64 reference, its closed form against the counter, and bad input."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asymsim_kernels.scorer import cost, default_blocks, relevance_scores
from asymsim_kernels.tiles import Blocks
from asymsim_kernels.tools.count import counting
from asymsim_kernels.tools.sanitize import sanitizing
from asymsim_reference.scores import question_similarity
from oracles.kernel_cases import cumulative
from oracles.selection_cases import DTYPES, LAYOUTS, assert_close, compiled, far_apart, laid_out

SMALL = Blocks(16, 16)


def reference(v, t, v_lengths, t_lengths, weight=None, dtype=torch.float64):
    """The reference of every sequence with text and visual tokens, -inf where there is no text."""
    weight = None if weight is None else weight.to(dtype)
    parts = []
    for visual, text in zip(v.to(dtype).split(v_lengths), t.to(dtype).split(t_lengths), strict=True):
        parts.append(
            question_similarity(visual, text, weight)
            if len(text)
            else torch.full((len(visual),), -torch.inf, dtype=dtype)
        )
    return torch.cat(parts)


@settings(max_examples=32)
@given(
    pairs=st.lists(st.tuples(st.integers(0, 36), st.integers(0, 20)), min_size=1, max_size=2),
    hidden=st.sampled_from([1, 7, 64, 72, 100]),
    dtype=st.sampled_from(sorted(DTYPES)),
    weighted=st.sampled_from([None, "fp32", "fp16"]),
    layout=st.sampled_from(LAYOUTS),
    blocks=st.sampled_from([SMALL, Blocks(32, 16), Blocks(16, 32)]),
    seed=st.integers(0, 2**16),
)
def test_matches_reference_and_closed_form(pairs, hidden, dtype, weighted, layout, blocks, seed):
    generator = torch.Generator().manual_seed(seed)
    v_lengths, t_lengths = [list(x) for x in zip(*pairs, strict=True)]
    v = laid_out(torch.randn(sum(v_lengths), hidden, generator=generator).to(DTYPES[dtype]), layout)
    t = laid_out(torch.randn(sum(t_lengths), hidden, generator=generator).to(DTYPES[dtype]), layout)
    weight = None if weighted is None else (3 * torch.rand(hidden, generator=generator)).to(DTYPES[weighted])
    with counting() as counts:
        scores = relevance_scores(v, t, cumulative(v_lengths), cumulative(t_lengths), weight, blocks=blocks)
    assert counts.cost == cost(v_lengths, t_lengths, hidden, dtype, blocks, weighted)
    right = reference(v, t, v_lengths, t_lengths, weight)
    plain = reference(v, t, v_lengths, t_lengths, weight, DTYPES[dtype])
    textless = right == -torch.inf
    assert torch.equal(scores == -torch.inf, textless)
    # A similarity is a sum of up to |w| in magnitude, and its norms round as well.
    unit = 2 * float(1 if weight is None else max(1, weight.abs().max()))
    assert_close(scores[~textless], right[~textless], plain[~textless], unit=unit)


@pytest.mark.parametrize(("hidden", "dtype"), [(1024, "fp16"), (768, "fp32")])
def test_large_hidden_sizes_and_shipped_blocks(hidden, dtype):
    torch.manual_seed(0)
    v, t = (torch.randn(n, hidden).to(DTYPES[dtype]) for n in (33, 20))
    blocks = default_blocks(hidden, dtype, "sm_80")
    with counting() as counts:
        scores = relevance_scores(v, t, cumulative([33]), cumulative([20]))
    assert counts.cost == cost([33], [20], hidden, dtype, blocks)
    assert_close(scores, reference(v, t, [33], [20]), reference(v, t, [33], [20], dtype=DTYPES[dtype]))


def test_score_is_the_cosine_of_the_best_text_token():
    t = torch.eye(8)
    v = 5 * t[[3, 0]] + t[[1, 1]]
    scores = relevance_scores(v, t, cumulative([2]), cumulative([8]), blocks=SMALL)
    assert torch.allclose(scores, torch.full((2,), 5 / 26**0.5))


def test_all_similarities_negative_is_not_zero():
    scores = relevance_scores(torch.ones(3, 5), -torch.ones(1, 5), cumulative([3]), cumulative([1]), blocks=SMALL)
    assert torch.allclose(scores, -torch.ones(3))


def test_zero_rows_score_zero():
    v = torch.zeros(4, 16)
    v[1] = 1
    scores = relevance_scores(v, torch.ones(2, 16), cumulative([4]), cumulative([2]), blocks=SMALL)
    assert torch.allclose(scores, torch.tensor([0.0, 1.0, 0.0, 0.0]))


def test_nan_is_not_hidden_and_does_not_spread():
    v, t = torch.randn(6, 20), torch.randn(5, 20)
    v[2, 3] = torch.nan
    t[4, 0] = torch.nan
    scores = relevance_scores(v, t, cumulative([4, 2]), cumulative([3, 2]), blocks=SMALL)
    assert scores.isnan().tolist() == [False, False, True, False, True, True]


def test_nan_beside_the_packed_rows_is_not_read():
    v, t = (laid_out(torch.randn(n, 20), "sliced") for n in (5, 3))
    assert bool(relevance_scores(v, t, cumulative([5]), cumulative([3]), blocks=SMALL).isfinite().all())


def test_sequences_do_not_see_each_other():
    v, t = torch.randn(30, 24), torch.randn(25, 24)
    together = relevance_scores(v, t, cumulative([12, 18]), cumulative([17, 8]), blocks=SMALL)
    alone = relevance_scores(v[12:], t[17:], cumulative([18]), cumulative([8]), blocks=SMALL)
    assert torch.equal(together[12:], alone)


@pytest.mark.parametrize("axis", [0, 1])
def test_offsets_past_2_31(axis):
    torch.manual_seed(1)
    v, t = torch.randn(3, 3).half(), torch.randn(2, 3).half()
    near = relevance_scores(v, t, cumulative([3]), cumulative([2]), blocks=SMALL)
    with sanitizing() as report:
        far = relevance_scores(far_apart(v, axis), t, cumulative([3]), cumulative([2]), blocks=SMALL)
    report.check()
    assert torch.equal(near, far)


def test_empty_batches():
    none = torch.empty(0, 8)
    assert relevance_scores(none, none, cumulative([]), cumulative([])).shape == (0,)
    assert relevance_scores(none, torch.ones(2, 8), cumulative([0]), cumulative([2])).shape == (0,)
    assert relevance_scores(torch.ones(2, 8), none, cumulative([2]), cumulative([0])).tolist() == [-torch.inf] * 2


def test_given_maximum_without_validation_reads_nothing_back(monkeypatch):
    v, t, cu_v, cu_t = torch.randn(6, 8), torch.randn(4, 8), cumulative([4, 2]), cumulative([1, 3])
    expected = relevance_scores(v, t, cu_v, cu_t, blocks=SMALL)

    def refuse(self):
        raise AssertionError("read back")

    monkeypatch.setattr(torch.Tensor, "tolist", refuse)
    assert torch.equal(relevance_scores(v, t, cu_v, cu_t, max_v=4, validate=False, blocks=SMALL), expected)


def test_sanitizer_finds_nothing():
    v, t = laid_out(torch.randn(20, 40), "sliced"), laid_out(torch.randn(19, 40), "offset")
    weight = torch.rand(80)[::2]
    cu_v, cu_t = cumulative([17, 0, 3]), cumulative([2, 0, 17])
    with sanitizing(inputs={"v": v, "t": t, "weight": weight, "cu_v": cu_v, "cu_t": cu_t}) as report:
        relevance_scores(v, t, cu_v, cu_t, weight, blocks=SMALL)
    report.check()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"v_VD": torch.ones(5, 8, dtype=torch.float64)}, "v_VD.dtype"),
        ({"t_LD": torch.ones(3, 8, dtype=torch.float16)}, "t_LD.dtype"),
        ({"weight_D": torch.ones(8, dtype=torch.int32)}, "weight_D.dtype"),
        ({"weight_D": torch.ones(7)}, "weight_D.shape"),
        ({"t_LD": torch.ones(3, 9)}, "t_LD.shape"),
        ({"v_VD": torch.ones(5)}, "v_VD.shape"),
        ({"v_VD": torch.ones(5, 0)}, "hidden size"),
        ({"t_LD": torch.ones(3, 8, device="meta")}, "t_LD.device"),
        ({"cu_v": torch.tensor([0, 5])}, "cu_v.dtype"),
        ({"cu_v": cumulative([6])}, "must begin with 0 and end with the 5"),
        ({"cu_v": torch.tensor([0, 6, 5], dtype=torch.int32)}, r"cu_v\[2\] = 5"),
        ({"cu_v": torch.tensor([1, 5], dtype=torch.int32)}, "must begin with 0"),
        ({"cu_v": torch.empty(0, dtype=torch.int32)}, "must begin with 0"),
        ({"cu_t": cumulative([2])}, "end with the 3 rows"),
        ({"cu_t": cumulative([2, 1])}, "cu_t.shape"),
    ],
)
def test_bad_input(change, message):
    good = {"v_VD": torch.ones(5, 8), "t_LD": torch.ones(3, 8), "cu_v": cumulative([5]), "cu_t": cumulative([3])}
    with pytest.raises(ValueError, match=message):
        relevance_scores(**(good | change))


def test_compiles_without_faults():
    for row in compiled("scorer", "bf16", "d3072"):
        assert not row["faults"], row
