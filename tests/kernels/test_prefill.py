"""Prefill attention against float64, its cost against the count, and the bugs that users of such kernels reported."""

from __future__ import annotations

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from asymsim_kernels.layout import pack_layout
from asymsim_kernels.prefill import HEAD_SIZES, cost, prefill_attention
from asymsim_kernels.tiles import DTYPE_NAMES, Blocks, TileCost, ceil_div
from asymsim_kernels.tools.count import counting
from asymsim_kernels.tools.sanitize import sanitizing
from oracles.kernel_cases import UNSHRUNK, Packed, assert_as_exact, assert_attention, cumulative, heads_first, packed

SMALL = Blocks(16, 16)
TYPES = (torch.float32, torch.float16)
lengths = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=1, max_size=3)


def layout_of(case: Packed):
    return pack_layout(
        case.cu_q,
        case.cu_k,
        q_positions=case.q_positions,
        k_positions=case.k_positions,
        causal=case.causal,
        window=case.window,
    )


def run(case: Packed, blocks: Blocks = SMALL):
    """Run the kernel, its cost checked on the way."""
    layout = layout_of(case)
    with counting() as counts:
        o_THD, lse_HT = prefill_attention(case.q_THD, case.k_SGD, case.v_SGD, layout, blocks=blocks)
    heads, size = case.q_THD.shape[1:]
    assert counts.cost == cost(layout, heads, size, DTYPE_NAMES[case.q_THD.dtype], blocks)
    return o_THD, lse_HT


@settings(max_examples=45, phases=UNSHRUNK)
@given(
    lengths,
    st.sampled_from([(1, 1), (2, 2), (3, 1), (6, 2)]),
    st.sampled_from([1, 5, 16, 24]),
    st.sampled_from(TYPES),
    st.booleans(),
    st.none() | st.integers(1, 60),
    st.sampled_from([Blocks(16, 16), Blocks(16, 32), Blocks(32, 16)]),
    st.integers(0, 2**16),
)
@example([(0, 3), (17, 0), (1, 1)], (2, 1), 16, torch.float16, True, None, SMALL, 0)
def test_matches_float64_and_executes_its_cost(pairs, head_counts, size, dtype, causal, window, blocks, seed):
    heads, kv_heads = head_counts
    q_lengths, k_lengths = zip(*pairs, strict=True)
    case = packed(
        q_lengths, k_lengths, heads=heads, kv_heads=kv_heads, size=size, dtype=dtype, causal=causal, window=window,
        seed=seed,
    )  # fmt: skip
    assert_attention(*run(case, blocks), case)


@pytest.mark.parametrize(("m", "n", "causal"), [(33, 33, True), (20, 47, True), (33, 50, False), (1, 40, True)])
def test_cost_is_the_textbook_sum_for_dense_sequences(m, n, causal):
    """t_i = ceil(min(N, (i + 1) BM + N - M) / BN) causal, ceil(N / BN) not; DESIGN's closed form."""
    bm, bn, heads, size = 16, 32, 3, 16
    layout = pack_layout(cumulative([m]), cumulative([n]), causal=causal)
    tiles = range(ceil_div(m, bm))
    highs = [min(n, (min(m, (i + 1) * bm)) + n - m) if causal else n for i in tiles]
    t = [ceil_div(high, bn) for high in highs]
    row_data = m * size * 4 + 2 * sum(highs) * size * 4
    # Each row's bound, and three sequence bounds a program.
    tables = 4 * m + 12 * len(tiles)
    expected = TileCost(
        heads * sum(t) * 4 * bm * bn * size, heads * (row_data + tables), heads * (m * size * 4 + 4 * m)
    )
    assert cost(layout, heads, size, "fp32", Blocks(bm, bn)) == expected


@settings(max_examples=12, phases=UNSHRUNK)
@given(lengths, st.booleans(), st.none() | st.integers(1, 60), st.integers(0, 2**16))
def test_sanitizer_finds_nothing(pairs, causal, window, seed):
    q_lengths, k_lengths = zip(*pairs, strict=True)
    case = packed(q_lengths, k_lengths, size=5, causal=causal, window=window, seed=seed)
    layout = layout_of(case)
    with sanitizing(inputs={"q": case.q_THD, "k": case.k_SGD, "v": case.v_SGD}) as report:
        prefill_attention(case.q_THD, case.k_SGD, case.v_SGD, layout, blocks=SMALL)
    report.check()


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("size", HEAD_SIZES)
def test_head_sizes(size, dtype):
    case = packed([19, 5], size=size, dtype=dtype)
    assert_attention(*run(case), case)


@pytest.mark.parametrize("group", [1, 3, 7, 32])
def test_query_head_groups(group):
    case = packed([9], heads=2 * group if group < 32 else 32, kv_heads=2 if group < 32 else 1)
    assert_attention(*run(case), case)


def test_causal_mask_after_a_gather_compares_original_positions():
    """Dropping keys must act like masking them; a mask by retained index would let queries see later tokens."""
    full = packed([40], spread=1)
    kept = torch.tensor([0, 3, 4, 11, 12, 13, 29, 38])
    layout = pack_layout(
        full.cu_q, cumulative([len(kept)]), q_positions=full.q_positions, k_positions=full.k_positions[kept]
    )
    o_THD, lse_HT = prefill_attention(full.q_THD, full.k_SGD[kept], full.v_SGD[kept], layout, blocks=SMALL)
    everything = slice(0, 40)
    mask = full.mask(everything, everything).clone()
    mask[:, [n for n in range(40) if n not in kept.tolist()]] = False
    exact = full.reference(everything, everything, mask)
    torch.testing.assert_close(heads_first(o_THD).double(), exact.output, atol=2e-6, rtol=0)
    torch.testing.assert_close(lse_HT.double(), exact.lse, atol=2e-6, rtol=0)


def test_rows_without_keys_are_zero_with_lse_minus_infinity():
    case = packed([4], [3])
    positions = {"q_positions": torch.tensor([0, 4, 5, 9]).int(), "k_positions": torch.tensor([5, 6, 9]).int()}
    layout = pack_layout(case.cu_q, case.cu_k, **positions)
    o_THD, lse_HT = prefill_attention(case.q_THD, case.k_SGD, case.v_SGD, layout, blocks=SMALL)
    assert torch.equal(o_THD[:2], torch.zeros_like(o_THD[:2]))
    assert torch.equal(lse_HT.isneginf(), torch.tensor([[True, True, False, False]] * 2))
    assert torch.isfinite(o_THD).all()


@pytest.mark.parametrize("pairs", [[(0, 0)], [(0, 5)], [(7, 0)], [(0, 0), (3, 3), (0, 0)], []])
def test_empty_sequences_give_the_defined_empty_result(pairs):
    q_lengths, k_lengths = zip(*pairs, strict=True) if pairs else ((), ())
    case = packed(q_lengths, k_lengths)
    o_THD, lse_HT = run(case)
    assert o_THD.shape == case.q_THD.shape
    assert_attention(o_THD, lse_HT, case)


@pytest.mark.filterwarnings("ignore:All-NaN slice:RuntimeWarning")
def test_nan_around_keys_and_values_does_not_leak():
    """Beyond the head size, before and after the sequence, and in a neighbour that the last key tile overlaps."""
    case = packed([9, 21], size=12)
    k = torch.full((5 + 30 + 40, 1, 40), torch.nan)
    v = torch.full_like(k, torch.nan)
    k[5:14, :, 8:20], v[5:14, :, 8:20] = case.k_SGD[:9], case.v_SGD[:9]
    view = (slice(5, 35), slice(None), slice(8, 20))
    layout = layout_of(case)
    o_THD, lse_HT = prefill_attention(case.q_THD, k[view], v[view], layout, blocks=SMALL)
    exact = case.reference(slice(0, 9), slice(0, 9))
    torch.testing.assert_close(heads_first(o_THD[:9]).double(), exact.output, atol=2e-6, rtol=0)
    assert torch.isfinite(lse_HT[:, :9]).all()
    assert o_THD[9:].isnan().all()


def test_strides_of_views():
    """A fused qkv buffer, heads first, every other column, and an expanded axis."""
    case = packed([23], heads=2, kv_heads=2)
    o_THD, lse_HT = run(case)
    fused = torch.cat([case.q_THD, case.k_SGD, case.v_SGD], dim=1)
    q, k, v = fused.split(2, dim=1)
    for views in (
        (q, k, v),
        tuple(x.transpose(0, 1).contiguous().transpose(0, 1) for x in (q, k, v)),
        tuple(torch.stack([x, torch.full_like(x, torch.nan)], dim=-1).flatten(2)[..., ::2] for x in (q, k, v)),
    ):
        again, lse_again = prefill_attention(*views, layout_of(case), blocks=SMALL)
        assert torch.equal(again, o_THD)
        assert torch.equal(lse_again, lse_HT)
    shared_k, shared_v = (x[:, :1].expand(23, 2, 16) for x in (k, v))
    spread, _ = prefill_attention(q, shared_k, shared_v, layout_of(case), blocks=SMALL)
    grouped, _ = prefill_attention(q, k[:, :1], v[:, :1], layout_of(case), blocks=SMALL)
    assert torch.equal(spread, grouped)


def test_offsets_past_int32():
    """The third token lies 2^31 elements behind the first: 4 GiB of addresses, of which a few pages are touched."""
    case = packed([3], heads=1, size=16, dtype=torch.float16)
    far = [torch.empty_strided((3, 1, 16), (2**30, 16, 1), dtype=torch.float16) for _ in range(3)]
    for tensor, values in zip(far, (case.q_THD, case.k_SGD, case.v_SGD), strict=True):
        tensor.copy_(values)
    layout = layout_of(case)
    with sanitizing(inputs=dict(zip("qkv", far, strict=True))) as report:
        o_THD, lse_HT = prefill_attention(*far, layout, blocks=SMALL)
    report.check()
    assert_attention(o_THD, lse_HT, case)


def test_head_offsets_past_int32():
    case = packed([2], heads=3, kv_heads=3, size=16, dtype=torch.float16)
    far = [torch.empty_strided((2, 3, 16), (16, 2**30, 1), dtype=torch.float16) for _ in range(3)]
    for tensor, values in zip(far, (case.q_THD, case.k_SGD, case.v_SGD), strict=True):
        tensor.copy_(values)
    with sanitizing(inputs=dict(zip("qkv", far, strict=True))) as report:
        result = prefill_attention(*far, layout_of(case), blocks=SMALL)
    report.check()
    assert_attention(*result, case)


def test_large_scores_neither_overflow_nor_lose_the_maximum():
    case = packed([20], size=16)
    case.q_THD.mul_(200)
    case.k_SGD.mul_(200)
    o_THD, lse_HT = run(case)
    exact = case.reference(slice(0, 20), slice(0, 20))
    torch.testing.assert_close(heads_first(o_THD).double(), exact.output, atol=1e-5, rtol=0)
    torch.testing.assert_close(lse_HT.double(), exact.lse, atol=0, rtol=1e-6)


def test_scale_multiplies_the_scores():
    case = packed([12])
    o_THD, lse_HT = prefill_attention(case.q_THD, case.k_SGD, case.v_SGD, layout_of(case), scale=0.5, blocks=SMALL)
    doubled = packed([12])
    doubled.q_THD.mul_(2)
    exact = doubled.reference(slice(0, 12), slice(0, 12))
    dense, _ = prefill_attention(doubled.q_THD, case.k_SGD, case.v_SGD, layout_of(case), blocks=SMALL)
    assert_as_exact(heads_first(o_THD), exact.output, heads_first(dense))
    assert_as_exact(lse_HT, exact.lse, exact.lse.float())


def test_positions_may_repeat():
    """Multimodal rotary positions give all tokens of an image one temporal position; they see each other."""
    case = packed([24])
    repeated = torch.arange(24).int() // 5
    layout = pack_layout(case.cu_q, q_positions=repeated, k_positions=repeated)
    o_THD, _ = prefill_attention(case.q_THD, case.k_SGD, case.v_SGD, layout, blocks=SMALL)
    everything = slice(0, 24)
    exact = case.reference(everything, everything, repeated[:, None] >= repeated[None, :])
    torch.testing.assert_close(heads_first(o_THD).double(), exact.output, atol=2e-6, rtol=0)
