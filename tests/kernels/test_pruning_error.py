"""What pruning does to attention, exact per row, measured on the kernels: the identities of the outputs and LSEs.

S kept, D dropped, m the softmax's share of D, mu the weighted mean of the values over a set.
"""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asymsim_kernels.column_mass import column_mass
from asymsim_kernels.decode import decode_attention
from asymsim_kernels.layout import pack_layout
from asymsim_kernels.merge_states import merge_states
from asymsim_kernels.prefill import prefill_attention
from asymsim_kernels.tiles import Blocks
from asymsim_reference.attention import dropped_mass, pruning_error_bound
from oracles.kernel_cases import UNSHRUNK, cumulative, heads_first, packed

SMALL = Blocks(16, 16)
# Sums of up to 40 fp32 weights and values of a few units.
EPSILON = 4e-6

keeps = st.lists(st.booleans(), min_size=2, max_size=40).filter(lambda kept: any(kept) and not all(kept))


def over(case, keys):
    """Prefill attention of all queries over some of the keys, with the LSE."""
    layout = pack_layout(
        case.cu_q,
        cumulative([int(keys.sum())]),
        q_positions=case.q_positions,
        k_positions=case.k_positions[keys],
        causal=case.causal,
    )
    o_THD, lse_HT = prefill_attention(case.q_THD, case.k_SGD[keys], case.v_SGD[keys], layout, blocks=SMALL)
    return heads_first(o_THD).double(), lse_HT.double(), layout


@settings(max_examples=25, phases=UNSHRUNK)
@given(keeps, st.booleans(), st.integers(0, 999))
def test_identities_and_bounds_hold_for_every_row(keep, causal, seed):
    kept = torch.tensor(keep)
    case = packed([len(keep)], causal=causal, seed=seed)
    every = torch.ones_like(kept)
    o_all, lse_all, layout = over(case, every)
    o_kept, lse_kept, _ = over(case, kept)
    o_dropped, lse_dropped, _ = over(case, ~kept)
    mass = dropped_mass(lse_kept, lse_all)

    # A row that sees kept keys; one that sees none has m = 1 and no renormalised output.
    rows = lse_kept > -torch.inf
    error = (o_all - o_kept)[rows]
    torch.testing.assert_close(error, (mass[..., None] * (o_dropped - o_kept))[rows], atol=EPSILON, rtol=0)
    norms = error.norm(dim=-1)
    bound = pruning_error_bound(mass, case.v_SGD[:, 0], kept)[rows]
    assert (norms <= bound + EPSILON).all()
    assert (bound <= 2 * mass[rows] * case.v_SGD.norm(dim=-1).max() + EPSILON).all()

    exact = case.reference(slice(0, len(keep)), slice(0, len(keep)))
    torch.testing.assert_close(mass, exact.weights[:, :, ~kept].sum(-1), atol=EPSILON, rtol=0)
    renormalised = torch.where(kept, exact.weights, 0.0)
    renormalised = renormalised / renormalised.sum(-1, keepdim=True)
    shift = (exact.weights - renormalised).abs().sum(-1)[rows]
    torch.testing.assert_close(shift, 2 * mass[rows], atol=EPSILON, rtol=0)

    joined, lse_joined = merge_states(
        torch.stack([o_kept, o_dropped], dim=2).flatten(0, 1).float(),
        torch.stack([lse_kept, lse_dropped], dim=2).flatten(0, 1).float(),
    )
    torch.testing.assert_close(joined.double(), o_all.flatten(0, 1), atol=EPSILON, rtol=0)
    torch.testing.assert_close(lse_joined.double(), lse_all.flatten(), atol=EPSILON, rtol=0)

    received = column_mass(case.q_THD, case.k_SGD, lse_all.float(), layout, blocks=SMALL)
    torch.testing.assert_close(mass.sum(), received[:, ~kept].sum().double(), atol=40 * EPSILON, rtol=0)


@settings(max_examples=15, phases=UNSHRUNK)
@given(keeps, st.integers(1, 4), st.integers(0, 999))
def test_identities_hold_for_decoding_over_an_evicted_cache(keep, splits, seed):
    kept = torch.tensor(keep)
    make = torch.Generator().manual_seed(seed)
    q = torch.randn(1, 2, 16, generator=make)
    k, v = (torch.randn(1, 1, len(keep), 16, generator=make) for _ in range(2))

    def over_entries(entries):
        lengths = torch.tensor([[int(entries.sum())]], dtype=torch.int32)
        o, lse = decode_attention(q, k[:, :, entries], v[:, :, entries], lengths, splits=splits, blocks=SMALL)
        return o[0].double(), lse[0].double()

    (o_all, lse_all), (o_kept, lse_kept), (o_dropped, lse_dropped) = (
        over_entries(e) for e in (torch.ones_like(kept), kept, ~kept)
    )
    mass = dropped_mass(lse_kept, lse_all)
    torch.testing.assert_close(o_all - o_kept, mass[:, None] * (o_dropped - o_kept), atol=EPSILON, rtol=0)
    assert ((o_all - o_kept).norm(dim=-1) <= pruning_error_bound(mass, v[0, 0], kept) + EPSILON).all()
    torch.testing.assert_close(mass, torch.sigmoid(lse_dropped - lse_kept), atol=EPSILON, rtol=0)


def test_both_bounds_are_attained():
    """Opposite values of the same norm on the two sides: ||o - o_S|| = m ||v_D - v_S|| = 2 m max ||v||."""
    q = torch.ones(1, 1, 16)
    k = torch.randn(1, 1, 6, 16, generator=torch.Generator().manual_seed(0))
    v = torch.zeros(1, 1, 6, 16)
    v[:, :, :4, 0], v[:, :, 4:, 0] = 3.0, -3.0
    every, some = (torch.tensor([[n]], dtype=torch.int32) for n in (6, 4))
    o_all, lse_all = decode_attention(q, k, v, every, splits=1, blocks=SMALL)
    o_kept, lse_kept = decode_attention(q, k, v, some, splits=1, blocks=SMALL)
    mass = dropped_mass(lse_kept, lse_all)
    error = (o_all - o_kept).double().norm()
    kept = torch.arange(6) < 4
    torch.testing.assert_close(error, pruning_error_bound(mass, v[0, 0], kept).squeeze(), atol=EPSILON, rtol=0)
    torch.testing.assert_close(error, 6 * mass.squeeze(), atol=EPSILON, rtol=0)
