"""Seconds of an image encoder's attention, each term alone, worked out by hand with round numbers.

An SM takes a microsecond for 128 query rows by 128 keys at a head size of 64, and ten SMs share the work. Compute and
bytes add up (``overlap`` 1), so that each term shows as it is.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from asymsim.core.times import parameters
from asymsim.core.times.device import Device
from asymsim.core.times.encoder_attention import encoder_attention_seconds

US = 1e-6
SM_FLOPS_PER_S = 4 * 128 * 128 * 64 / US
INSTANT = 1e30
PLAIN = {
    "memory_share": 0.5,
    "l2_speed": 4.0,
    "l2_share": 1.0,
    "tile_s": 2 * US,
    "tile_area_s": 4 * US,
    "quantised_share": 1.0,
    "throttle": 0.0,
    "throttle_s": 1.0,
    "overlap": 1.0,
    # Of head sizes 64, 72 and 80.
    "launch_s": [3 * US, 5 * US, 7 * US],
}


def seconds(
    queries: int,
    keys: int,
    *,
    sequences: int = 1,
    heads: int = 1,
    head_size: int = 64,
    shares: tuple[float, float, float] = (1e-9, 1.0, 1e-9),
    flops_per_s: float = SM_FLOPS_PER_S,
    bandwidth: float = INSTANT,
    l2_bytes: float = 1e-9,
    **fitted_values: object,
) -> float:
    """Time of attention; tiles of 64, 128 and 192 rows reach ``shares`` of the peak."""
    fitted = np.zeros(1, parameters.ENCODER_ATTENTION_PARAMETERS)
    for name, value in {**PLAIN, **fitted_values}.items():
        fitted[name] = value
    size = (64, 72, 80).index(head_size)
    fitted["query_tiles"] = [64, 128, 192]
    fitted["tile_efficiency"] = 1e-9
    fitted["tile_efficiency"][0, size] = shares
    device = Device(10 * flops_per_s, bandwidth, l2_bytes, 10.0)
    arguments = [float(value) for value in (sequences, queries, keys, heads, head_size)]
    return float(encoder_attention_seconds(*arguments, size, device, fitted[0]))


def test_every_tile_meets_all_keys() -> None:
    # 577 keys begin five blocks of 128. Two images of three heads, five tiles each: three waves of ten.
    assert seconds(577, 577, sequences=2, heads=3) == pytest.approx((3 + 3 * (5 + 6)) * US)
    assert seconds(512, 577, sequences=2, heads=3) == pytest.approx((3 + 3 * (5 + 6)) * US)
    assert seconds(577, 512, sequences=2, heads=3) == pytest.approx((3 + 3 * (4 + 6)) * US)
    assert seconds(577, 512, heads=3, quantised_share=0.0) == pytest.approx((3 + 1.5 * (4 + 6)) * US)


@pytest.mark.parametrize(
    ("tile", "waves", "tile_us"),
    # Twelve heads of 128 rows: 24 tiles of 64 rows, 12 of 128 or of 192. Two blocks of keys at half of the peak.
    [(0, 3, 2 * 1 + 2 + 2), (1, 2, 2 * 2 + 2 + 4), (2, 2, 2 * 3 + 2 + 6)],
)
def test_each_tile_has_its_rows(tile: int, waves: int, tile_us: float) -> None:
    shares = [1e-9, 1e-9, 1e-9]
    shares[tile] = 0.5
    assert seconds(128, 256, heads=12, shares=tuple(shares)) == pytest.approx((3 + waves * tile_us) * US)  # type: ignore[arg-type]


def test_the_best_tile_is_taken() -> None:
    assert seconds(128, 256, heads=12, shares=(0.5, 0.5, 0.5)) == pytest.approx((3 + 3 * 6) * US)


def test_each_head_size_has_its_launch() -> None:
    assert seconds(128, 128, head_size=72) == pytest.approx((5 + 72 / 64 + 6) * US)
    assert seconds(128, 128, head_size=80) == pytest.approx((7 + 80 / 64 + 6) * US)


def test_a_long_kernel_slows_down_under_the_power_limit() -> None:
    # 22 us are twice the 11 us at which half of the slow-down has set in: 4 parts of 5 under the square.
    time_s = seconds(128, 640, heads=12, throttle=0.5, throttle_s=11 * US)
    assert time_s == pytest.approx((3 + 22 * 1.4) * US)


def test_queries_keys_values_and_outputs_move_once() -> None:
    # Two images of three heads: 2 x 16 rows of queries and outputs, 2 x 32 of keys and values, 128 bytes each: 72 KiB.
    shape = {"sequences": 2, "heads": 3, "flops_per_s": INSTANT, "tile_s": 1e-30, "tile_area_s": 0.0}
    assert seconds(16, 32, **shape, bandwidth=1024 / US) == pytest.approx((3 + 72 / 0.5) * US)
    # Half from L2 where they are as large as its share; a fifth at twice that.
    half = seconds(16, 32, **shape, bandwidth=1024 / US, l2_bytes=147_456.0, l2_share=0.5)
    assert half == pytest.approx((3 + 72 * (0.5 / 0.5 + 0.5 / 4)) * US)
    fifth = seconds(16, 32, **shape, bandwidth=1024 / US, l2_bytes=36_864.0)
    assert fifth == pytest.approx((3 + 72 * (0.8 / 0.5 + 0.2 / 4)) * US)


def test_compute_and_memory_overlap_by_their_exponent() -> None:
    # 8 us of compute beside 4 x 384 x 64 bytes at half of the bandwidth, 6 us.
    time_s = seconds(128, 256, bandwidth=98_304 / (3 * US), overlap=2.0)
    assert time_s == pytest.approx((3 + math.hypot(8, 6)) * US)


def test_no_encoder_attention_is_faster_than_the_data_sheet() -> None:
    free = {"launch_s": [1e-12] * 3, "tile_s": 0.0, "tile_area_s": 0.0, "memory_share": 1e9, "l2_speed": 1e9}
    # Six heads of two tiles and three blocks, a us each, by ten SMs.
    time_s = seconds(256, 384, sequences=2, heads=3, shares=(1e9, 1e9, 1e9), **free)
    assert time_s == pytest.approx(3.6 * US)
    moved = 4 * 2 * (256 + 384) * 3 * 64
    floor = seconds(256, 384, sequences=2, heads=3, shares=(1e9, 1e9, 1e9), bandwidth=moved / (50 * US), **free)
    assert floor == pytest.approx(50 * US)
