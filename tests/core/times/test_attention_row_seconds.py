"""Seconds of single attention rows on a GPU of round numbers: heads of each GPU, keys that are met, bytes that move."""

from __future__ import annotations

import numpy as np
import pytest

from asymsim.core.operators.layout import (
    BY_HEADS,
    DECODE,
    PREFILL,
    PROJECTOR,
    REPLICATED,
    SELECTION,
    UNFUSED_ATTENTION,
    VISION,
)
from asymsim.core.times.gpu_arrays import GpuArrays
from oracles.made_up_gpu import US, made_up_gpu
from oracles.made_up_rows import attention, interval, row

GPU = made_up_gpu()


def seconds(attention_row: np.void, gpu: GpuArrays = GPU, tp_size: int = 1) -> float:
    return interval(attention_row, gpu, tp_size)[1]


@pytest.mark.parametrize(("tp_size", "tiles"), [(1, 2 * 12), (2, 2 * 6), (4, 2 * 3), (5, 2 * 3), (12, 2 * 1)])
def test_prefill_runs_each_gpu_s_heads(tp_size: int, tiles: int) -> None:
    # One tile of 128 rows and a block of keys a head and sequence, 1 us; the longest is one.
    attention_row = attention(PREFILL, 2, 128, 128, 128 * 128, heads=12, kv_heads=12)
    assert seconds(attention_row, tp_size=tp_size) == pytest.approx((1 + tiles / 10 + 1) * US)


def test_prefill_packs_by_each_gpu_s_group() -> None:
    # Eight query heads of two KV heads, 32 rows each: packed, a tile a KV head. Of four GPUs each has two query
    # heads of one KV head, which share a tile.
    gpu = made_up_gpu()
    gpu.prefill_attention["packs"] = 1.0
    attention_row = attention(PREFILL, 1, 32, 128, 32 * 128, heads=8, kv_heads=2)
    assert seconds(attention_row, gpu) == pytest.approx((1 + 2 / 10 + 1) * US)
    assert seconds(attention_row, gpu, tp_size=4) == pytest.approx((1 + 1 / 10 + 1) * US)


def test_prefill_meets_the_keys_that_its_mask_allows() -> None:
    # 1024 causal queries meet 512.5 keys on average: four blocks, and one for the diagonal; the longest tile eight.
    causal = attention(PREFILL, 2, 1024, 1024, 1024 * 1025 // 2, heads=3, kv_heads=3, count=2)
    assert seconds(causal) == pytest.approx(2 * (1 + 6 * 8 * 5 / 10 + 8) * US)
    # A window of 128 keys: 120 pairs a query, of two blocks at most.
    window = attention(PREFILL, 1, 1024, 1024, 1024 * 120)
    assert seconds(window) == pytest.approx((1 + 8 * (119.5 / 128 + 1) / 10 + 2) * US)


def test_prefill_reads_its_cache_once() -> None:
    # 6144 bytes of the cache in two executions; of six KV heads each of four GPUs has two, and two of eight heads.
    gpu = made_up_gpu(bandwidth=1024 / US)
    attention_row = attention(PREFILL, 1, 16, 1, 16, heads=8, kv_heads=6, count=2, kv_read_bytes=2 * 3072)
    compute_us = 2 * 1 / 10 + 1
    assert seconds(attention_row, gpu, tp_size=4) == pytest.approx(
        2 * (1 + compute_us + (1024 + 4 * 16 * 2 * 64) / 1024) * US
    )


def test_attention_outside_the_cache_reads_its_keys_and_values_in_16_bits() -> None:
    # 3 sequences of 32 keys in two KV heads: 4 x 64 bytes each; queries and outputs of 16 rows in four heads.
    gpu = made_up_gpu(bandwidth=1024 / US)
    attention_row = attention(SELECTION, 3, 16, 32, 16 * 32, heads=4, kv_heads=2)
    moved_us = 3 * (2 * 32 + 4 * 16) * 4 * 64 / 1024
    assert seconds(attention_row, gpu) == pytest.approx((1 + 12 / 10 + 1 + moved_us) * US)


@pytest.mark.parametrize(("tp_size", "waves"), [(1, 6), (2, 3), (3, 2), (4, 2), (6, 1), (8, 1)])
def test_decode_runs_each_gpu_s_kv_heads(tp_size: int, waves: int) -> None:
    # Ten sequences of six KV heads: a wave of ten tiles for each head of a GPU, which loads 1000 tokens of 256 bytes.
    attention_row = attention(
        DECODE, 10, 1, 1000, 1000, heads=6, kv_heads=6, count=2, kv_read_bytes=2 * 60 * 1000 * 256
    )
    assert seconds(attention_row, tp_size=tp_size) == pytest.approx(2 * (2 + waves * 1001) * US)


def test_decode_copies_kv_heads_where_gpus_are_more() -> None:
    # Twelve sequences of two KV heads: on four GPUs each has one, twelve tiles. Memory moves half of the cache, and
    # the queries of two of eight heads.
    gpu = made_up_gpu(bandwidth=1e6 / US)
    entry = 2 * 64 * 2
    attention_row = attention(DECODE, 12, 1, 1000, 1000, heads=8, kv_heads=2, kv_read_bytes=12 * 2 * 1000 * entry)
    memory_us = (12 * 1000 * entry + 12 * 2 * 64 * 4) / 1e6
    assert seconds(attention_row, gpu, tp_size=4) == pytest.approx((2 + 2 * 1001 + memory_us) * US)
    # Between the layers of a model the cache leaves L2, however large that is.
    large = gpu._replace(l2_bytes=1e12)
    large.decode_attention["l2_speed"] = 1e3
    assert seconds(attention_row, large, tp_size=4) == pytest.approx((2 + 2 * 1001 + memory_us) * US)
    # A replicated row is whole on each.
    replicated = attention_row.copy()
    replicated["split"] = REPLICATED
    memory_us = (12 * 2 * 1000 * entry + 12 * 8 * 64 * 4) / 1e6
    assert seconds(replicated, gpu, tp_size=4) == pytest.approx((2 + 3 * 1001 + memory_us) * US)


def test_an_encoder_s_windows_are_separate_sequences() -> None:
    # 1024 patches in windows of 256: 2 x 4 x 3 of them, two tiles of two blocks each: five waves.
    attention_row = attention(VISION, 2, 1024, 1024, 1024 * 256, heads=3, kv_heads=3)
    assert seconds(attention_row) == pytest.approx((4 + 5 * 2) * US)
    unwindowed = attention(VISION, 2, 1024, 1024, 1024 * 1024, heads=3, kv_heads=3)
    assert seconds(unwindowed) == pytest.approx((4 + 5 * 8) * US)
    # A resampler's queries, 128 over 300 keys, on two GPUs: 2 x 6 heads, two waves of three blocks.
    resampler = attention(PROJECTOR, 2, 128, 300, 128 * 300, heads=12, kv_heads=12)
    assert seconds(resampler, tp_size=2) == pytest.approx((4 + 2 * 3) * US)


def test_stored_weights_are_two_products_and_a_softmax() -> None:
    # 3 sequences of 5 heads, two executions. Products of 256 x 384 over 64 and of 256 x 64 over 384: 15 x 6 and 15 x 2
    # tiles, nine and three waves, of half a us and of three. The softmax reads and writes 15 x 256 x 384 weights.
    attention_row = row(
        kind=UNFUSED_ATTENTION, phase=PREFILL, split=BY_HEADS, count=2, groups=15, heads=5, kv_heads=5, m=256, n=384,
        k=64,
    )  # fmt: skip
    expected = 2 * 9 + 9 * 0.5 + 3 * 3 + 3
    assert seconds(attention_row) == pytest.approx(2 * expected * US)
    # Of two GPUs each has eight of the fifteen: 48 and 16 tiles. The softmax moves 4 bytes a weight at half of the
    # bandwidth; products move their operands and results in 2.
    gpu = made_up_gpu(bandwidth=1e6 / US)
    scores, queries, keys = (8 * size for size in (256 * 384, 256 * 64, 384 * 64))
    moved_us = (2 * 2 * (queries + keys + scores) + 2 * 4 * scores) / 1e6
    expected = 2 * 9 + 5 * 0.5 + 2 * 3 + 3 + moved_us
    assert seconds(attention_row, gpu, tp_size=2) == pytest.approx(2 * expected * US)
