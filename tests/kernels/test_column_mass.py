"""Attention received by each key, from the LSE alone, against the float64 weights and against the count."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asymsim_kernels.column_mass import HEAD_SIZES, column_mass, cost
from asymsim_kernels.layout import pack_layout
from asymsim_kernels.prefill import prefill_attention
from asymsim_kernels.tiles import DTYPE_NAMES, Blocks
from asymsim_kernels.tools.count import counting
from asymsim_kernels.tools.sanitize import sanitizing
from asymsim_reference.attention import column_mass as reference_mass
from oracles.kernel_cases import UNSHRUNK, Packed, assert_as_exact, cumulative, heads_first, packed

SMALL = Blocks(16, 16)
TYPES = (torch.float32, torch.float16)
EVERY = slice(None)
slices = st.sampled_from([EVERY, slice(-8, None), slice(-1, None), slice(0, 1), slice(5, 5), slice(3, 20)])


def passes(case: Packed, queries: slice = EVERY, blocks: Blocks = SMALL):
    """Both passes; the second one's cost is checked on the way."""
    layout = pack_layout(
        case.cu_q,
        case.cu_k,
        q_positions=case.q_positions,
        k_positions=case.k_positions,
        causal=case.causal,
        window=case.window,
    )
    _, lse_HT = prefill_attention(case.q_THD, case.k_SGD, case.v_SGD, layout, blocks=Blocks(32, 32))
    with counting() as counts:
        mass_GS = column_mass(case.q_THD, case.k_SGD, lse_HT, layout, queries=queries, blocks=blocks)
    (heads, size), kv_heads = case.q_THD.shape[1:], case.k_SGD.shape[1]
    dtype = DTYPE_NAMES[case.q_THD.dtype]
    assert counts.cost == cost(layout, heads, kv_heads, size, dtype, blocks, queries)
    return mass_GS, lse_HT


def assert_mass(mass_GS, case: Packed, queries: slice = EVERY):
    """Hold the masses to the tolerance, sequence by sequence."""
    group = case.q_THD.shape[1] // case.k_SGD.shape[1]
    for rows, keys in case.sequences():
        if keys.start == keys.stop:
            continue
        mask = case.mask(rows, keys)
        exact = reference_mass(case.reference(rows, keys, mask).weights, case.k_SGD.shape[1], queries)
        q, k = heads_first(case.q_THD[rows]), heads_first(case.k_SGD[keys]).repeat_interleave(group, dim=0)
        scores = (q.float() @ k.float().transpose(1, 2)) * q.shape[-1] ** -0.5
        weights = torch.softmax(scores.masked_fill(~mask, -torch.inf), dim=-1).nan_to_num(0.0)
        assert_as_exact(mass_GS[:, keys], exact, reference_mass(weights, case.k_SGD.shape[1], queries))


@settings(max_examples=40, phases=UNSHRUNK)
@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=1, max_size=2),
    st.sampled_from([(1, 1), (3, 1), (6, 2)]),
    st.sampled_from([5, 16, 24]),
    st.sampled_from(TYPES),
    st.booleans(),
    st.none() | st.integers(1, 60),
    slices,
    st.sampled_from([Blocks(16, 16), Blocks(32, 16), Blocks(16, 32)]),
    st.integers(0, 2**16),
)
def test_matches_float64_and_executes_its_cost(
    pairs, head_counts, size, dtype, causal, window, queries, blocks, seed
):  # fmt: skip
    q_lengths, k_lengths = zip(*pairs, strict=True)
    case = packed(
        q_lengths, k_lengths, heads=head_counts[0], kv_heads=head_counts[1], size=size, dtype=dtype, causal=causal,
        window=window, seed=seed,
    )  # fmt: skip
    mass_GS, _ = passes(case, queries, blocks)
    assert_mass(mass_GS, case, queries)


@settings(max_examples=8, phases=UNSHRUNK)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=2), st.none() | st.integers(1, 60), slices)
def test_sanitizer_finds_nothing(q_lengths, window, queries):
    case = packed(q_lengths, heads=3, size=5, window=window)
    layout = pack_layout(case.cu_q, q_positions=case.q_positions, k_positions=case.k_positions, window=window)
    lse_HT = torch.zeros(3, sum(q_lengths))
    with sanitizing(inputs={"q": case.q_THD, "k": case.k_SGD, "lse": lse_HT}) as report:
        column_mass(case.q_THD, case.k_SGD, lse_HT, layout, queries=queries, blocks=SMALL)
    report.check()


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("size", HEAD_SIZES)
def test_head_sizes(size, dtype):
    case = packed([19], size=size, dtype=dtype)
    assert_mass(passes(case)[0], case)


@pytest.mark.parametrize("group", [1, 3, 7, 32])
def test_query_head_groups(group):
    case = packed([9], heads=group)
    assert_mass(passes(case)[0], case)


@settings(max_examples=10, phases=UNSHRUNK)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=2), st.booleans(), st.integers(0, 999))
def test_mass_is_conserved(q_lengths, causal, seed):
    """Each query of each head hands out 1 in all, and each sequence keeps its own."""
    case = packed(q_lengths, heads=4, kv_heads=2, causal=causal, seed=seed)
    mass_GS, _ = passes(case)
    for rows, keys in case.sequences():
        torch.testing.assert_close(mass_GS[:, keys].sum(1), torch.full((2,), 2.0 * (rows.stop - rows.start)))


def test_keys_that_no_counted_query_sees_receive_nothing():
    case = packed([30], window=4, spread=1)
    mass_GS, _ = passes(case, slice(0, 10))
    assert not mass_GS[:, 10:].any()
    assert (mass_GS[:, :10] > 0).all()


def test_empty_sequences_and_no_keys():
    case = packed([4, 0, 5], [0, 3, 6])
    mass_GS, _ = passes(case)
    assert not mass_GS[:, :3].any()
    assert_mass(mass_GS, case)
    assert passes(packed([3], [0]))[0].shape == (1, 0)


def test_nan_next_to_a_sequence_does_not_leak():
    """Queries and keys of the neighbour, which the last tiles overlap, and columns beyond the head size."""
    case = packed([9, 21], size=12)
    expected, lse_HT = passes(case)
    q, k = torch.full((30, 2, 20), torch.nan), torch.full((30, 1, 20), torch.nan)
    q[:9, :, :12], k[:9, :, :12] = case.q_THD[:9], case.k_SGD[:9]
    lse_HT[:, 9:] = torch.nan
    layout = pack_layout(case.cu_q, q_positions=case.q_positions, k_positions=case.k_positions)
    mass_GS = column_mass(q[..., :12], k[..., :12], lse_HT, layout, blocks=SMALL)
    assert torch.equal(mass_GS[:, :9], expected[:, :9])


def test_strides_of_views():
    case = packed([23], heads=4, kv_heads=2)
    expected, lse_HT = passes(case)
    layout = pack_layout(case.cu_q, q_positions=case.q_positions, k_positions=case.k_positions)
    for change in (
        lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
        lambda x: torch.stack([x, torch.full_like(x, torch.nan)], dim=-1).flatten(2)[..., ::2],
    ):
        again = column_mass(
            change(case.q_THD), change(case.k_SGD), lse_HT.T.contiguous().T, layout, blocks=SMALL
        )  # fmt: skip
        assert torch.equal(again, expected)


def test_offsets_past_int32():
    case = packed([3], heads=1, size=16, dtype=torch.float16)
    expected, lse_HT = passes(case)
    far = [torch.empty_strided((3, 1, 16), (2**30, 16, 1), dtype=torch.float16) for _ in range(2)]
    far[0].copy_(case.q_THD)
    far[1].copy_(case.k_SGD)
    layout = pack_layout(cumulative([3]), q_positions=case.q_positions, k_positions=case.k_positions)
    with sanitizing(inputs={"q": far[0], "k": far[1]}) as report:
        mass_GS = column_mass(*far, lse_HT, layout, blocks=SMALL)
    report.check()
    assert torch.equal(mass_GS, expected)
