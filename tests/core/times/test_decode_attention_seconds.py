"""Seconds of decode attention, each term alone, worked out by hand with round numbers.

A KV head's key and value take 512 bytes a token, which an SM loads in a microsecond; ten tiles run at once. Compute
and bytes add up (``overlap`` 1), so that each term shows as it is.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from asymsim.core.times import parameters
from asymsim.core.times.decode_attention import decode_attention_seconds
from asymsim.core.times.device import Device

US = 1e-6
INSTANT = 1e30
PLAIN = {
    "flash2": 0.0,
    "memory_share": 0.5,
    "l2_speed": 4.0,
    "l2_share": 1.0,
    "l2_sharpness": 1.0,
    "tile_s": 3 * US,
    "quantised_share": 1.0,
    "slots": 2.0,
    "split_tokens": 1e9,
    "merge_s": 1.0,
    "merge_split_s": 1.0,
    "merge_speed": 1.0,
    "token_s": 0.0,
    "copy_s": 1.0,
    "overlap": 1.0,
    # Of head sizes 64, 128, 192 and 256.
    "launch_s": [4 * US, 5 * US, 6 * US, 7 * US],
    "sm_bytes_per_s": [64 / US, 512 / US, 64 / US, 64 / US],
}
# What a split costs beside its partial results.
MERGE = {"merge_s": 4 * US, "merge_split_s": 0.5 * US}


def seconds(
    kv_tokens: int,
    *,
    sequences: int = 1,
    heads: int = 1,
    kv_heads: int = 1,
    head_size: int = 128,
    token_bytes: float = 512.0,
    cached: float = 0.0,
    sms: int = 5,
    flops_per_s: float = INSTANT,
    bandwidth: float = INSTANT,
    l2_bytes: float = 1e-9,
    **fitted_values: object,
) -> float:
    """Time of one decode step whose cache holds ``token_bytes`` a token and KV head."""
    fitted = np.zeros(1, parameters.DECODE_ATTENTION_PARAMETERS)
    for name, value in {**PLAIN, **fitted_values}.items():
        fitted[name] = value
    size = (64, 128, 192, 256).index(head_size)
    kv_bytes = token_bytes * sequences * kv_tokens * kv_heads
    arguments = [float(value) for value in (sequences, kv_tokens, heads, kv_heads, head_size, kv_bytes)]
    device = Device(sms * flops_per_s, bandwidth, l2_bytes, float(sms))
    return float(decode_attention_seconds(*arguments, size, cached, device, fitted[0]))


def test_a_tile_is_one_kv_head_of_one_sequence() -> None:
    # 2 x 4 tiles run at once; 3 x 4 take two waves.
    assert seconds(1000, sequences=2, heads=8, kv_heads=4) == pytest.approx((5 + 1003) * US)
    assert seconds(1000, sequences=3, heads=8, kv_heads=4) == pytest.approx((5 + 2 * 1003) * US)
    broken = seconds(1000, sequences=3, heads=8, kv_heads=4, quantised_share=0.0)
    assert broken == pytest.approx((5 + 1.2 * 1003) * US)
    # An SM that holds one tile at a time.
    assert seconds(1000, sequences=2, heads=8, kv_heads=4, slots=1.0) == pytest.approx((5 + 2 * 1003) * US)


@pytest.mark.parametrize(("group", "waves"), [(1, 1), (63, 1), (64, 1), (65, 2), (128, 2), (129, 3)])
def test_a_tile_takes_64_query_heads_of_its_kv_head(group: int, waves: int) -> None:
    # Ten KV heads fill the GPU with one tile each.
    assert seconds(1000, heads=10 * group, kv_heads=10) == pytest.approx((5 + waves * 1003) * US)


def test_each_head_size_has_its_launch_and_its_rate() -> None:
    assert seconds(1000, head_size=64, token_bytes=256) == pytest.approx((4 + 4003) * US)
    assert seconds(1000, head_size=192, token_bytes=768) == pytest.approx((6 + 12_003) * US)
    assert seconds(1000, head_size=256, token_bytes=1024) == pytest.approx((7 + 16_003) * US)


def test_a_long_cache_is_split_over_idle_sms_and_its_parts_are_merged() -> None:
    # Eight parts of 125 tokens are one wave of 128 us, twelve would be two. Merging: 4 us, and half a us a part.
    arguments = {"split_tokens": 100.0, **MERGE}
    assert seconds(1000, **arguments) == pytest.approx((5 + 128 + 4 + 8 * 0.5) * US)
    # At 1024 bytes/us and half of that for merging, 512 bytes of queries take 2 us a part there and back. Memory
    # takes (512,000 + 512) / 512 us.
    slow = seconds(1000, **arguments, bandwidth=1024 / US, merge_speed=0.5)
    assert slow == pytest.approx((5 + 128 + 4 + 8 * (0.5 + 2) + 1001) * US)


def test_no_part_is_shorter_than_the_fewest_tokens() -> None:
    # Of 101 tokens two parts are made, each charged as 100; of 100 none.
    cheap = {"split_tokens": 100.0, "merge_s": 0.125 * US, "merge_split_s": 0.125 * US}
    assert seconds(101, **cheap) == pytest.approx((5 + 103 + 0.375) * US)
    assert seconds(100, **cheap) == pytest.approx((5 + 103) * US)


def test_parts_fill_at_most_four_waves() -> None:
    # Five tiles. On three slots 15 thirds would take 5/3 of the time, but twelve parts are the most: two waves.
    shape = {"heads": 5, "kv_heads": 5, "slots": 1.0, "split_tokens": 100.0, "tile_s": 0.0}
    cheap = {"merge_s": 0.125 * US, "merge_split_s": 0.125 * US}
    assert seconds(1200, **shape, **cheap, sms=3) == pytest.approx((5 + 2400) * US)
    # On four slots they take four waves of a third.
    assert seconds(1200, **shape, **cheap, sms=4) == pytest.approx((5 + 1600 + 0.5) * US)


def test_flash_attention_2_splits_as_soon_as_sms_idle() -> None:
    # Four tiles on ten slots: two parts, though three would take 400 tokens each. Queries are copied first.
    shape = {"flash2": 1.0, "split_tokens": 400.0, "copy_s": 11 * US, **MERGE}
    time_s = seconds(1200, sequences=2, heads=4, kv_heads=2, **shape)
    assert time_s == pytest.approx((5 + 11 + 603 + 4 + 2 * 0.5) * US)
    # One tile could be ten parts, but 1201 tokens make four of at most 400.
    time_s = seconds(1201, heads=2, kv_heads=1, **shape)
    assert time_s == pytest.approx((5 + 3 + 1201 / 4 + 4 + 4 * 0.5) * US)
    # Also where one part would take less.
    time_s = seconds(401, heads=2, kv_heads=1, **{**shape, "merge_s": 1000 * US})
    assert time_s == pytest.approx((5 + 3 + 401 / 2 + 1000 + 2 * 0.5) * US)
    # More tiles than slots stay whole.
    time_s = seconds(1200, sequences=11, heads=2, kv_heads=1, **shape)
    assert time_s == pytest.approx((5 + 2 * 1203) * US)


def test_flash_attention_2_neither_splits_nor_copies_ungrouped_queries() -> None:
    shape = {"flash2": 1.0, "split_tokens": 400.0, "copy_s": 11 * US, **MERGE}
    assert seconds(1200, sequences=2, heads=2, kv_heads=2, **shape) == pytest.approx((5 + 1203) * US)


@pytest.mark.parametrize(("sequences", "kv_heads", "copy_us"), [(1, 2, 0), (2, 1, 0), (2, 2, 11)])
def test_flash_attention_2_copies_the_queries_of_several_heads_and_sequences(
    sequences: int, kv_heads: int, copy_us: int
) -> None:
    time_s = seconds(1200, sequences=sequences, heads=2 * kv_heads, kv_heads=kv_heads, flash2=1.0, copy_s=11 * US)
    assert time_s == pytest.approx((5 + copy_us + 1203) * US)


def test_partial_results_of_flash_attention_2_go_through_memory() -> None:
    # Three parts: each merges 2 x 4 x 2 x 128 bytes at 0.5 x 1024 bytes/us. Bytes of keys and queries at 512.
    shape = {"flash2": 1.0, "split_tokens": 400.0, "merge_speed": 0.5, "bandwidth": 1024 / US, **MERGE}
    time_s = seconds(1200, heads=2, **shape)
    assert time_s == pytest.approx((5 + 403 + 4 + 3 * (0.5 + 4) + 1202) * US)


def test_keys_values_and_queries_come_from_memory() -> None:
    # 2 x 64 x 2 x 256 bytes of the cache; queries and outputs, 4 x 2 x 4 x 64 bytes, in a loop from L2 as far as
    # keys and values lie there.
    shape = {"sequences": 2, "heads": 4, "kv_heads": 2, "head_size": 64, "token_bytes": 256.0, "tile_s": 1e-30}
    arguments = {"sm_bytes_per_s": [INSTANT] * 4, "bandwidth": 1024 / US}
    moved_us = 64 + 2
    assert seconds(64, **shape, **arguments) == pytest.approx((4 + moved_us / 0.5) * US)
    # Half of them where the cache is as large as its share of L2; a ninth at twice that, under the cube.
    half = seconds(64, **shape, **arguments, cached=1.0, l2_bytes=131_072.0, l2_share=0.5)
    assert half == pytest.approx((4 + moved_us * (0.5 / 0.5 + 0.5 / 4)) * US)
    ninth = seconds(64, **shape, **arguments, cached=1.0, l2_bytes=32_768.0, l2_sharpness=3.0)
    assert ninth == pytest.approx((4 + moved_us * (8 / 9 / 0.5 + 1 / 9 / 4)) * US)
    # Between the layers of a model nothing stays.
    cold = seconds(64, **shape, **arguments, cached=0.0, l2_bytes=1e12)
    assert cold == pytest.approx((4 + moved_us / 0.5) * US)


def test_rotation_and_the_cache_write_grow_with_heads_and_sequences() -> None:
    # Two sequences of (8 + 2 x 4) heads of 128 elements: 8 us for each 4096.
    time_s = seconds(1000, sequences=2, heads=8, kv_heads=4, token_s=8 * US)
    assert time_s == pytest.approx((5 + 1003 + 2 * 8 * 16 * 128 / 4096) * US)


def test_compute_and_memory_overlap_by_their_exponent() -> None:
    # 1003 us of compute; 512,000 + 512 bytes at half of the bandwidth, 1004 us.
    time_s = seconds(1000, bandwidth=512_512 / (502 * US), overlap=2.0)
    assert time_s == pytest.approx((5 + math.hypot(1003, 1004)) * US)


def test_no_decode_attention_is_faster_than_the_data_sheet() -> None:
    free = {"launch_s": [1e-12] * 4, "tile_s": 1e-30, "memory_share": 1e9, "sm_bytes_per_s": [INSTANT] * 4}
    # 4 x 2 x 6 x 1000 x 128 FLOPs.
    bound = seconds(1000, sequences=2, heads=6, kv_heads=3, flops_per_s=4 * 128 * 1000 / US, **free)
    assert bound == pytest.approx(2 * 6 / 5 * US)
    moved = 2 * 3 * 1000 * 512 + 4 * 2 * 6 * 128
    assert seconds(1000, sequences=2, heads=6, kv_heads=3, bandwidth=moved / US, **free) == pytest.approx(US)
