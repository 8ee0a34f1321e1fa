"""Seconds of prefill attention, each term alone, worked out by hand with round numbers.

An SM takes a microsecond for 128 query rows by 128 keys at a head size of 128, and ten SMs share the work. The mean
load of an SM, its longest tile and the bytes add up (``balance`` and ``overlap`` 1), so that each shows as it is.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from asymsim.core.times import parameters
from asymsim.core.times.device import Device
from asymsim.core.times.prefill_attention import prefill_attention_seconds

US = 1e-6
SM_FLOPS_PER_S = 4 * 128 * 128 * 128 / US
INSTANT = 1e30
PLAIN = {
    "packs": 0.0,
    "memory_share": 0.5,
    "query_traffic": 1.0,
    "kv_traffic": 1.0,
    "l2_share": 1.0,
    "tile_s": 2 * US,
    "tile_area_s": 4 * US,
    "tail": 0.0,
    "balance": 1.0,
    "throttle": 0.0,
    "throttle_s": 1.0,
    "overlap": 1.0,
    # Of head sizes 64, 128, 192 and 256.
    "launch_s": [3 * US, 5 * US, 7 * US, 9 * US],
}


def seconds(
    queries: int,
    keys: int,
    met_keys: float,
    *,
    rows: int = 128,
    sequences: int = 1,
    heads: int = 1,
    kv_heads: int = 1,
    head_size: int = 128,
    kv_bytes: float = 1.0,
    sms: int = 10,
    flops_per_s: float = SM_FLOPS_PER_S,
    bandwidth: float = INSTANT,
    l2_bytes: float = 1e-9,
    share: float = 1.0,
    **fitted_values: object,
) -> float:
    """Time of attention in tiles of ``rows`` queries, at ``share`` of the peak."""
    fitted = np.zeros(1, parameters.PREFILL_ATTENTION_PARAMETERS)
    for name, value in {**PLAIN, **fitted_values}.items():
        fitted[name] = value
    size = (64, 128, 192, 256).index(head_size)
    # Two other kinds of tiles and all other head sizes are far too slow.
    fitted["query_tiles"] = [64, rows, 192]
    fitted["tile_efficiency"] = 1e-9
    fitted["tile_efficiency"][0, size, 1] = share
    device = Device(sms * flops_per_s, bandwidth, l2_bytes, float(sms))
    arguments = [float(value) for value in (sequences, queries, keys, met_keys, heads, kv_heads, head_size, kv_bytes)]
    return float(prefill_attention_seconds(*arguments, size, device, fitted[0]))


def test_one_tile_meets_all_its_keys() -> None:
    # A block of keys at half of the peak, 2 us, and 2 + 4 us beside; a tenth of that on each of ten SMs.
    assert seconds(100, 100, 50.5, share=0.5) == pytest.approx((5 + 0.8 + 8) * US)
    # Two blocks and a part of a third are three.
    assert seconds(100, 300, 300, share=0.5) == pytest.approx((5 + 1.2 + 12) * US)


def test_causal_tiles_meet_half_of_the_keys_and_their_diagonal() -> None:
    # 8 tiles of 6 heads: 512.5 keys on average are 4 blocks; half of the diagonal's block and half of one begun.
    # The longest tile meets all 8.
    time_s = seconds(1024, 1024, 512.5, sequences=2, heads=3, kv_heads=3)
    assert time_s == pytest.approx((5 + 6 * 8 * (5 + 6) / 10 + (8 + 6)) * US)
    # Without a mask every tile meets all of them.
    assert seconds(256, 512, 512) == pytest.approx((5 + 2 * (4 + 6) / 10 + (4 + 6)) * US)


def test_windows_shorten_the_longest_tile() -> None:
    # A query meets up to twice the mean: 399 keys begin four blocks. A tile: 199.5 / 128, and one for the diagonal.
    met = 199.5 / 128 + 1
    assert seconds(1024, 1024, 200) == pytest.approx((5 + 8 * (met + 6) / 10 + (4 + 6)) * US)
    # Tiles of 64 rows have a quarter for their diagonal and a half for the block begun; less than a block is one.
    met = 99.5 / 128 + 0.75
    narrow = seconds(1024, 1024, 100, rows=64, tile_area_s=0.0)
    assert narrow == pytest.approx((5 + 16 * (met / 2 + 2) / 10 + (2 / 2 + 2)) * US)
    narrowest = seconds(1024, 1024, 20, rows=64, tile_area_s=0.0)
    assert narrowest == pytest.approx((5 + 16 * (1 / 2 + 2) / 10 + (1 / 2 + 2)) * US)
    # 512 rows see no more of a diagonal than there are keys, 320.
    wide = seconds(1024, 320, 130, rows=512, tile_area_s=0.0)
    assert wide == pytest.approx((5 + 2 * (4 * (129.5 / 128 + 1.25 + 0.5) + 2) / 10 + (4 * 3 + 2)) * US)


def test_tiles_and_their_ends_grow_with_rows_and_head_size() -> None:
    # 192 rows at a head size of 64: 0.75 us a block, 2 us and 4 x 1.5 x 0.5 us beside.
    assert seconds(192, 128, 128, rows=192, head_size=64) == pytest.approx((3 + 0.575 + 5.75) * US)
    assert seconds(128, 128, 128, head_size=192) == pytest.approx((7 + (1.5 + 8) * 1.1) * US)
    assert seconds(128, 128, 128, head_size=256) == pytest.approx((9 + (2 + 10) * 1.1) * US)


def test_the_best_tile_is_taken() -> None:
    # Tiles of 64 rows at half of the peak: 1 us a block, 2 + 2 us beside; half as many tiles of 128 take longer.
    fitted = np.zeros(1, parameters.PREFILL_ATTENTION_PARAMETERS)
    for name, value in PLAIN.items():
        fitted[name] = value
    fitted["query_tiles"] = [128, 192, 64]
    fitted["tile_efficiency"] = [[1e-9, 1e-9, 1e-9], [0.05, 1e-9, 0.5], [1e-9] * 3, [1e-9] * 3]
    arguments = 1.0, 256.0, 128.0, 128.0, 1.0, 1.0, 128.0, 1.0
    device = Device(10 * SM_FLOPS_PER_S, INSTANT, 1e-9, 10.0)
    time_s = float(prefill_attention_seconds(*arguments, 1, device, fitted[0]))
    assert time_s == pytest.approx((5 + 4 * (1 + 4) / 10 + (1 + 4)) * US)


def test_queries_of_one_kv_head_share_tiles_where_that_pays() -> None:
    shape = {"heads": 8, "kv_heads": 2, "rows": 64, "tile_area_s": 0.0}
    # 16 queries of 4 heads fill one tile of 64: two tiles instead of eight. Each: one block of half a us, 2 us.
    assert seconds(16, 128, 128, **shape) == pytest.approx((5 + 8 * 2.5 / 10 + 2.5) * US)
    assert seconds(16, 128, 128, **shape, packs=1.0) == pytest.approx((5 + 2 * 2.5 / 10 + 2.5) * US)
    # Three sequences of 100 queries: 7 tiles of 64 rows a KV head, not 2 for each of its heads. Their 16 queries
    # make a diagonal of an eighth of a block.
    met = 255.5 / 128 + 0.0625 + 0.5
    packed = seconds(100, 512, 256, sequences=3, **shape, packs=1.0)
    assert packed == pytest.approx((5 + 3 * 2 * 7 * (met / 2 + 2) / 10 + 4) * US)
    # 64 queries fill their tiles alone, and sharing changes nothing for a single head.
    alone = seconds(64, 128, 128, heads=8, kv_heads=8, rows=64, tile_area_s=0.0, packs=1.0)
    assert alone == pytest.approx((5 + 8 * 2.5 / 10 + 2.5) * US)


def test_the_longest_tile_ends_alone_in_part() -> None:
    # 20 tiles on ten SMs: two thirds of a tail of 0.3 x 7 us; on one SM, 20 parts of 21.
    assert seconds(128, 128, 128, heads=20, kv_heads=20, tail=0.3) == pytest.approx((5 + 14 + 7 + 1.4) * US)
    assert seconds(128, 128, 128, heads=20, kv_heads=20, sms=1, tail=0.3) == pytest.approx((5 + 140 + 7 + 2) * US)


def test_an_sm_balances_its_mean_load_and_the_longest_tile() -> None:
    assert seconds(128, 128, 128, heads=20, kv_heads=20, balance=2.0) == pytest.approx((5 + math.hypot(14, 7)) * US)


def test_a_long_kernel_slows_down_under_the_power_limit() -> None:
    # 21 us and a tail of 1.4 us are twice 11.2 us: 4 parts of 5 of the slow-down.
    arguments = {"heads": 20, "kv_heads": 20, "tail": 0.3, "throttle": 0.5, "throttle_s": 11.2 * US}
    assert seconds(128, 128, 128, **arguments) == pytest.approx((5 + 22.4 * 1.4) * US)


def test_bytes_pass_as_often_as_the_kernel_moves_them() -> None:
    # Queries and outputs of 2 x 16 x 3 x 64 elements: 4 x 6144 = 24,576 bytes three times; 8192 of the cache twice.
    shape = {"sequences": 2, "heads": 3, "kv_heads": 1, "head_size": 64, "kv_bytes": 8192}
    arguments = {"query_traffic": 3.0, "kv_traffic": 2.0, "tile_s": 0.0, "tile_area_s": 0.0, "flops_per_s": INSTANT}
    traffic_us = (3 * 24 + 2 * 8) / 0.5
    assert seconds(16, 32, 32, **shape, **arguments, bandwidth=1024 / US) == pytest.approx((3 + traffic_us) * US)
    # What lies in L2, half where its share is as large as one pass of all bytes, moves in half of the time.
    half = seconds(16, 32, 32, **shape, **arguments, bandwidth=1024 / US, l2_bytes=65_536.0, l2_share=0.5)
    assert half == pytest.approx((3 + traffic_us * 0.75) * US)
    fifth = seconds(16, 32, 32, **shape, **arguments, bandwidth=1024 / US, l2_bytes=16_384.0)
    assert fifth == pytest.approx((3 + traffic_us * 0.9) * US)


def test_compute_and_memory_overlap_by_their_exponent() -> None:
    # 0.8 + 8 us of compute beside 65,536 + 1024 bytes at half of the bandwidth, 6.6 us.
    time_s = seconds(128, 128, 64.5, share=0.5, kv_bytes=1024, bandwidth=66_560 / (3.3 * US), overlap=2.0)
    assert time_s == pytest.approx((5 + math.hypot(8.8, 6.6)) * US)


def test_no_prefill_attention_is_faster_than_the_data_sheet() -> None:
    free = {"launch_s": [1e-12] * 4, "tile_s": 0.0, "tile_area_s": 0.0, "memory_share": 1e9, "share": 1e9}
    # 4 x 2 x 3 x 256 x 64 x 128 FLOPs: six heads of one block a us, by ten SMs.
    time_s = seconds(256, 128, 64, sequences=2, heads=3, kv_heads=3, **free)
    assert time_s == pytest.approx(0.6 * US)
    moved = 4 * 2 * 256 * 3 * 128 + 1000
    floor = seconds(256, 128, 64, sequences=2, heads=3, kv_heads=3, kv_bytes=1000, bandwidth=moved / US, **free)
    assert floor == pytest.approx(1 * US)
