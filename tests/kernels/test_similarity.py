"""DeSAP's decoupled similarity against the float64 reference, its closed form against the counter, and bad input."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asymsim_kernels.similarity import cost, default_blocks, text_alignment
from asymsim_kernels.tiles import Blocks
from asymsim_kernels.tools.count import counting
from asymsim_kernels.tools.sanitize import sanitizing
from asymsim_reference.methods import desap
from oracles.kernel_cases import cumulative
from oracles.selection_cases import DTYPES, LAYOUTS, assert_close, compiled, far_apart, laid_out

SMALL = Blocks(16, 16)


def reference(case, dtype=torch.float64):
    """The reference of every sequence; 0 where there is no text."""
    a, s, cls, eos, v_lengths, t_lengths = case
    parts = []
    for b, (visual, text) in enumerate(zip(a.to(dtype).split(v_lengths), s.to(dtype).split(t_lengths), strict=True)):
        if len(visual) and len(text):
            parts.append(desap.alignment(visual, text, cls[b : b + 1].to(dtype), eos[b : b + 1].to(dtype)))
        else:
            parts.append(torch.zeros(len(visual), dtype=dtype))
    return torch.cat(parts)


def random_case(v_lengths, t_lengths, joint, dtype, layout="contiguous", size=1.0, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def draw(rows):
        # Products of two rows are about `size` whatever the joint size.
        x = torch.randn(rows, joint, generator=generator) * size**0.5 / joint**0.25
        return laid_out(x.to(DTYPES[dtype]), layout)

    sequences = len(v_lengths)
    return draw(sum(v_lengths)), draw(sum(t_lengths)), draw(sequences), draw(sequences), v_lengths, t_lengths


def check(scores, case, sharpness=0.1):
    """Hold scores to the tolerance."""
    assert_close(scores, reference(case), reference(case, case[0].dtype), unit=rounded(case, sharpness))


def rounded(case, sharpness):
    """The magnitude that is rounded: the scores without cancellation, (1 + |x|) times for an exponent x."""
    a, s, cls, eos, v_lengths, t_lengths = (x.double() if torch.is_tensor(x) else x for x in case)
    unit = 0.0
    for b, (visual, text) in enumerate(zip(a.split(v_lengths), s.split(t_lengths), strict=True)):
        if not (len(visual) and len(text)):
            continue
        m, magnitude = visual @ text.T, visual.abs() @ text.abs().T
        alpha, beta = (visual @ eos[b])[:, None], text @ cls[b]
        x, y = sharpness * beta * m, sharpness * alpha * m
        shares = (alpha * x.softmax(1)).abs() * (1 + x.abs()) / len(visual)
        shares += (beta * y.softmax(0)).abs() * (1 + y.abs()) / len(text)
        unit = max(unit, float((shares * magnitude).mean(1).max()))
    return unit


def run(case, **options):
    a, s, cls, eos, v_lengths, t_lengths = case
    return text_alignment(a, s, cls, eos, cumulative(v_lengths), cumulative(t_lengths), **{"blocks": SMALL, **options})


@settings(max_examples=28)
@given(
    pairs=st.lists(st.tuples(st.integers(0, 36), st.integers(0, 20)), min_size=1, max_size=2),
    joint=st.sampled_from([1, 7, 64, 100]),
    dtype=st.sampled_from(sorted(DTYPES)),
    layout=st.sampled_from(LAYOUTS),
    blocks=st.sampled_from([SMALL, Blocks(32, 16), Blocks(16, 32)]),
    size=st.sampled_from([0.1, 1.0, 4.0]),
    seed=st.integers(0, 2**16),
)
def test_matches_reference_and_closed_form(pairs, joint, dtype, layout, blocks, size, seed):
    v_lengths, t_lengths = [list(x) for x in zip(*pairs, strict=True)]
    case = random_case(v_lengths, t_lengths, joint, dtype, layout, size, seed)
    with counting() as counts:
        scores = run(case, blocks=blocks)
    assert counts.cost == cost(v_lengths, t_lengths, joint, dtype, blocks)
    check(scores, case)


@pytest.mark.parametrize("dtype", sorted(DTYPES))
def test_joint_size_of_clip_and_shipped_blocks(dtype):
    case = random_case([40], [20], 768, dtype)
    with counting() as counts:
        scores = run(case, blocks=None)
    assert counts.cost == cost([40], [20], 768, dtype, default_blocks(768, dtype, "sm_80"))
    check(scores, case)


@pytest.mark.parametrize("sharpness", [0.0, 0.1, -0.5, 2.0])
def test_other_sharpness(sharpness, monkeypatch):
    case = random_case([20, 3], [18, 1], 24, "fp32")
    monkeypatch.setattr(desap, "SHARPNESS", sharpness)
    check(run(case, sharpness=sharpness), case, sharpness)


def test_both_softmaxes_survive_large_exponents():
    case = random_case([35, 20], [33, 5], 32, "fp32", size=60.0)
    a, s, _, eos, *_ = case
    exponents = 0.1 * (a @ eos[0])[:35, None] * (a[:35] @ s[:33].T)
    assert float(exponents.max()) > 200, "exp would not overflow: the case says nothing"
    check(run(case), case)


def test_sharpness_zero_is_the_mean_in_closed_form():
    case = random_case([9], [4], 16, "fp32")
    a, s, cls, eos, *_ = (x.double() if torch.is_tensor(x) else x for x in case)
    m, alpha, beta = a @ s.T, a @ eos[0], s @ cls[0]
    # Both softmaxes are uniform: MV = alpha / (d1 d2) and MT = beta / (d2 d1).
    right = ((alpha[:, None] + beta[None, :]) / 36 * m).mean(1)
    assert torch.allclose(run(case, sharpness=0.0).double(), right, rtol=1e-5, atol=1e-7)


def test_sequences_do_not_see_each_other():
    case = random_case([21, 18], [17, 8], 24, "fp32")
    a, s, cls, eos, *_ = case
    alone = run((a[21:], s[17:], cls[1:], eos[1:], [18], [8]))
    assert torch.equal(run(case)[21:], alone)


def test_nan_of_one_sequence_stays_there():
    case = random_case([5, 6], [3, 4], 20, "fp32")
    case[0][2] = torch.nan
    assert run(case).isnan().tolist() == [True] * 5 + [False] * 6


def test_a_sequence_without_text_scores_zero():
    assert run(random_case([4, 0, 2], [0, 3, 2], 8, "fp32"))[:4].tolist() == [0.0] * 4


def test_empty_batches():
    none = torch.empty(0, 8)
    assert text_alignment(none, none, none, none, cumulative([]), cumulative([])).shape == (0,)
    assert run(random_case([0], [3], 8, "fp32")).shape == (0,)


@pytest.mark.parametrize("axis", [0, 1])
def test_offsets_past_2_31(axis):
    a, s, cls, eos, *counts = random_case([3], [2], 3, "fp16")
    near = run((a, s, cls, eos, *counts))
    with sanitizing() as report:
        far = run((far_apart(a, axis), s, cls, eos, *counts))
    report.check()
    assert torch.equal(near, far)


def test_sanitizer_finds_nothing():
    a, s, cls, eos, *_ = case = random_case([33, 0, 3], [2, 4, 17], 40, "fp32", "sliced")
    with sanitizing(inputs={"a": a, "s": s, "cls": cls, "eos": eos}) as report:
        run(case)
    report.check()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"a_VE": torch.ones(5, 8, dtype=torch.float64)}, "a_VE.dtype"),
        ({"s_LE": torch.ones(3, 8, dtype=torch.float16)}, "s_LE.dtype"),
        ({"cls_BE": torch.ones(1, 8, dtype=torch.float16)}, "cls_BE.dtype"),
        ({"eos_BE": torch.ones(2, 8)}, "eos_BE.shape"),
        ({"cls_BE": torch.ones(8)}, "cls_BE.shape"),
        ({"s_LE": torch.ones(3, 9)}, "s_LE.shape"),
        ({"a_VE": torch.ones(5, 0)}, "joint size"),
        ({"eos_BE": torch.ones(1, 8, device="meta")}, "eos_BE.device"),
        ({"cu_v": torch.tensor([0, 5])}, "cu_v.dtype"),
        ({"cu_v": cumulative([4])}, "end with the 5 rows"),
        ({"cu_t": cumulative([4])}, "end with the 3 rows"),
        ({"cu_t": cumulative([1, 2])}, "cu_t.shape"),
        ({"sharpness": float("inf")}, "sharpness = inf"),
        ({"sharpness": float("nan")}, "sharpness = nan"),
    ],
)
def test_bad_input(change, message):
    row = torch.ones(1, 8)
    good = {"a_VE": torch.ones(5, 8), "s_LE": torch.ones(3, 8), "cls_BE": row, "eos_BE": row}
    good |= {"cu_v": cumulative([5]), "cu_t": cumulative([3])}
    with pytest.raises(ValueError, match=message):
        text_alignment(**(good | change))


def test_compiles_without_faults():
    for row in compiled("similarity", "bf16", "d768"):
        assert not row["faults"], row
