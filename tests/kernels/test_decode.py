"""Decode attention over evicted, ragged and head-wise caches, its cost against the count, and reported bugs."""

from __future__ import annotations

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from asymsim_kernels.decode import HEAD_SIZES, cost, decode_attention, default_splits
from asymsim_kernels.tiles import DTYPE_NAMES, Blocks
from asymsim_kernels.tools.count import counting
from asymsim_kernels.tools.sanitize import sanitizing
from asymsim_reference.attention import attention
from oracles.kernel_cases import UNSHRUNK, assert_as_exact, dense_run, largest

SMALL = Blocks(0, 16)
TYPES = (torch.float32, torch.float16)


def cache(batch, heads, kv_heads, capacity, size, dtype=torch.float32, seed=0):
    """Random queries, keys and values."""
    make = torch.Generator().manual_seed(seed)
    shapes = ((batch, heads, size), *[(batch, kv_heads, capacity, size)] * 2)
    return tuple(torch.randn(shape, generator=make).to(dtype) for shape in shapes)


def run(q_BHD, k_BGCD, v_BGCD, lengths_BG, splits, blocks=SMALL):
    """Run the kernel, its cost checked on the way."""
    with counting() as counts:
        result = decode_attention(q_BHD, k_BGCD, v_BGCD, lengths_BG, splits=splits, blocks=blocks)
    dtype = DTYPE_NAMES[q_BHD.dtype]
    assert counts.cost == cost(lengths_BG, q_BHD.shape[1], q_BHD.shape[2], dtype, splits, blocks)
    return result


def assert_decoded(result, q_BHD, k_BGCD, v_BGCD, lengths_BG):
    """Hold output and LSE to the tolerance, KV head by KV head."""
    o_BHD, lse_BH = result
    kv_heads = k_BGCD.shape[1]
    for b, lengths in enumerate(lengths_BG.tolist()):
        for g, n in enumerate(lengths):
            heads = slice(g * q_BHD.shape[1] // kv_heads, (g + 1) * q_BHD.shape[1] // kv_heads)
            q, k, v = q_BHD[b, heads, None], k_BGCD[b, g : g + 1, :n], v_BGCD[b, g : g + 1, :n]
            exact = attention(q, k, v)
            output, lse = dense_run(q, k, v, torch.ones(1, n, dtype=torch.bool))
            assert_as_exact(o_BHD[b, heads, None], exact.output, output, largest(v))
            assert_as_exact(lse_BH[b, heads, None], exact.lse, lse, largest(exact.scores))


@settings(max_examples=40, phases=UNSHRUNK)
@given(
    st.integers(1, 3),
    st.sampled_from([(1, 1), (2, 2), (3, 1), (6, 2), (14, 2)]),
    st.integers(1, 70),
    st.sampled_from([1, 5, 16, 24]),
    st.sampled_from(TYPES),
    st.integers(1, 6),
    st.sampled_from([Blocks(0, 16), Blocks(0, 32)]),
    st.data(),
)
def test_matches_float64_and_executes_its_cost(batch, head_counts, capacity, size, dtype, splits, blocks, data):
    heads, kv_heads = head_counts
    row = st.lists(st.integers(0, capacity), min_size=kv_heads, max_size=kv_heads)
    lengths = torch.tensor(data.draw(st.lists(row, min_size=batch, max_size=batch)), dtype=torch.int32)
    tensors = cache(batch, heads, kv_heads, capacity, size, dtype, seed=capacity)
    assert_decoded(run(*tensors, lengths, splits, blocks), *tensors, lengths)


@settings(max_examples=10, phases=UNSHRUNK)
@given(st.integers(0, 50), st.integers(0, 50), st.integers(1, 5))
@example(0, 0, 3)
def test_sanitizer_finds_nothing(first, second, splits):
    q, k, v = cache(1, 6, 2, 50, 5)
    lengths = torch.tensor([[first, second]], dtype=torch.int32)
    with sanitizing(inputs={"q": q, "k": k, "v": v, "lengths": lengths}) as report:
        decode_attention(q, k, v, lengths, splits=splits, blocks=SMALL)
    report.check()


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("size", HEAD_SIZES)
def test_head_sizes(size, dtype):
    tensors = cache(1, 4, 2, 37, size, dtype)
    lengths = torch.tensor([[37, 18]], dtype=torch.int32)
    assert_decoded(run(*tensors, lengths, 2), *tensors, lengths)


@pytest.mark.parametrize("group", [1, 3, 7, 32])
def test_query_head_groups(group):
    tensors = cache(1, 2 * group, 2, 20, 16)
    lengths = torch.tensor([[20, 11]], dtype=torch.int32)
    assert_decoded(run(*tensors, lengths, 2), *tensors, lengths)


def test_more_splits_than_entries_leaves_empty_splits_without_effect():
    tensors = cache(1, 2, 1, 17, 16)
    lengths = torch.tensor([[17]], dtype=torch.int32)
    alone, lse_alone = run(*tensors, lengths, 1)
    split, lse_split = run(*tensors, lengths, 9)
    torch.testing.assert_close(split, alone, atol=1e-6, rtol=0)
    torch.testing.assert_close(lse_split, lse_alone, atol=1e-6, rtol=0)


@pytest.mark.parametrize("splits", [1, 4])
def test_an_empty_cache_gives_zero_and_minus_infinity(splits):
    q, k, v = cache(2, 2, 1, 20, 16)
    lengths = torch.tensor([[0], [20]], dtype=torch.int32)
    o_BHD, lse_BH = run(q, k, v, lengths, splits)
    assert torch.equal(o_BHD[0], torch.zeros_like(o_BHD[0]))
    assert lse_BH[0].isneginf().all()
    assert torch.isfinite(o_BHD).all()


def test_no_sequences_and_no_capacity():
    q, k, v = cache(0, 2, 1, 20, 16)
    o_BHD, lse_BH = decode_attention(q, k, v, torch.empty(0, 1, dtype=torch.int32), splits=3)
    assert o_BHD.shape == (0, 2, 16)
    assert lse_BH.shape == (0, 2)
    q, k, v = cache(1, 2, 1, 0, 16)
    o_BHD, lse_BH = decode_attention(q, k, v, torch.zeros(1, 1, dtype=torch.int32), splits=3)
    assert not o_BHD.any()
    assert lse_BH.isneginf().all()


@pytest.mark.parametrize("splits", [1, 3])
def test_nan_beyond_the_length_does_not_leak(splits):
    q, k, v = cache(1, 2, 2, 40, 12)
    lengths = torch.tensor([[21, 0]], dtype=torch.int32)
    clean = run(q, k, v, lengths, splits)
    k[0, 0, 21:], v[0, 0, 21:], k[0, 1], v[0, 1] = torch.nan, torch.nan, torch.nan, torch.nan
    for got, expected in zip(run(q, k, v, lengths, splits), clean, strict=True):
        assert torch.equal(got, expected)


def test_strides_of_views():
    """A cache of B x C x G x D, a window sliced out of it, every other column, heads expanded from one."""
    q, k, v = cache(2, 4, 2, 30, 16)
    lengths = torch.tensor([[30, 9], [1, 17]], dtype=torch.int32)
    expected = run(q, k, v, lengths, 2)
    views = [tuple(x.transpose(1, 2).contiguous().transpose(1, 2) for x in (k, v))]
    views.append(tuple(torch.nn.functional.pad(x, (0, 0, 3, 4), value=torch.nan)[:, :, 3:-4] for x in (k, v)))
    views.append(tuple(torch.stack([x, torch.full_like(x, torch.nan)], -1).flatten(3)[..., ::2] for x in (k, v)))
    for keys, values in views:
        for got, right in zip(run(q, keys, values, lengths, 2), expected, strict=True):
            assert torch.equal(got, right)
    one_length = torch.tensor([[11], [30]], dtype=torch.int32)
    expanded = run(q, k[:, :1].expand(2, 2, 30, 16), v[:, :1].expand(2, 2, 30, 16), one_length.expand(2, 2), 2)
    for got, right in zip(expanded, run(q, k[:, :1], v[:, :1], one_length, 2), strict=True):
        assert torch.equal(got, right)


def test_offsets_past_int32():
    """The third entry lies 2^31 elements behind the first."""
    q, k, v = cache(1, 2, 1, 3, 16, torch.float16)
    far = [torch.empty_strided((1, 1, 3, 16), (16, 16, 2**30, 1), dtype=torch.float16) for _ in range(2)]
    far[0].copy_(k)
    far[1].copy_(v)
    lengths = torch.tensor([[3]], dtype=torch.int32)
    with sanitizing(inputs={"k": far[0], "v": far[1]}) as report:
        result = decode_attention(q, *far, lengths, splits=2, blocks=SMALL)
    report.check()
    assert_decoded(result, q, k, v, lengths)


@pytest.mark.parametrize("axis", [0, 1])
def test_sequence_and_head_offsets_past_int32(axis):
    shape = [1, 1, 2, 16]
    shape[axis] = 3
    strides = [32, 32, 16, 1]
    strides[axis] = 2**30
    q, k, v = cache(shape[0], shape[1], shape[1], 2, 16, torch.float16)
    far = [torch.empty_strided(shape, strides, dtype=torch.float16) for _ in range(2)]
    far[0].copy_(k)
    far[1].copy_(v)
    lengths = torch.full((shape[0], shape[1]), 2, dtype=torch.int32)
    with sanitizing(inputs={"k": far[0], "v": far[1]}) as report:
        result = decode_attention(q, *far, lengths, splits=1, blocks=SMALL)
    report.check()
    assert_decoded(result, q, k, v, lengths)


def test_the_order_of_a_compacted_cache_does_not_matter():
    q, k, v = cache(1, 2, 1, 33, 16)
    lengths = torch.tensor([[33]], dtype=torch.int32)
    order = torch.randperm(33, generator=torch.Generator().manual_seed(1))
    for got, right in zip(
        run(q, k[:, :, order], v[:, :, order], lengths, 2), run(q, k, v, lengths, 2), strict=True
    ):  # fmt: skip
        torch.testing.assert_close(got, right, atol=1e-6, rtol=0)


def test_default_splits_fill_the_gpu_but_keep_two_tiles_a_split():
    assert default_splits(pairs=1, capacity=1 << 20, block_n=64, processors=132) == 64
    assert default_splits(pairs=1000, capacity=1 << 20, block_n=64, processors=132) == 1
    assert default_splits(pairs=1, capacity=300, block_n=64, processors=132) == 2
    assert default_splits(pairs=0, capacity=0, block_n=64, processors=132) == 1
