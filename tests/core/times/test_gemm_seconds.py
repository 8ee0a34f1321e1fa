"""Seconds of matrix products, each term alone, worked out by hand with round numbers.

An SM multiplies a slice of 128 x 128 outputs by one inner element in a microsecond, and ten SMs share the work.
All resources add up (``overlap`` 1), so that a term shows in the sum as it is.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from asymsim.core.times import parameters
from asymsim.core.times.device import Device
from asymsim.core.times.gemm import gemm_seconds

US = 1e-6
SM_FLOPS_PER_S = 2 * 128 * 128 / US
# Tiles by their sides, in the order that the fitted efficiencies have.
TILES = [
    (16, 64), (32, 64), (64, 64), (128, 64), (256, 64), (64, 128), (128, 128), (256, 128), (64, 256), (128, 256),
    (64, 32),
]  # fmt: skip
LARGE = TILES.index((128, 128))
INSTANT = 1e30
PLAIN = {
    "launch_s": 7 * US,
    "memory_share": 0.5,
    "l2_speed": 4.0,
    "l2_share": 1.0,
    "l2_sharpness": 1.0,
    "tile_s": 2 * US,
    "tile_area_s": 4 * US,
    "quantised_share": 1.0,
    "sm_bytes_per_s": INSTANT,
    "split_s": 1.0,
    "split_speed": 1.0,
    "overlap": 1.0,
    "throttle": 0.0,
    "throttle_s": 1.0,
    "throttle_sharpness": 1.0,
    "reread_region": INSTANT,
    "dispatched": 0.0,
    "vector_s": 1.0,
    "quantise_s": 1.0,
    "quantise_row_s": 1.0,
    "quantise_share": 1.0,
}


def seconds(
    m: int,
    n: int,
    k: int,
    *,
    groups: int = 1,
    bytes_each: tuple[float, float] = (2.0, 2.0),
    sms: int = 10,
    flops_per_s: float = SM_FLOPS_PER_S,
    bandwidth: float = INSTANT,
    l2_bytes: float = 1e-9,
    tiles: dict[int, float] | None = None,
    **fitted_values: float,
) -> float:
    """Time of a product; only ``tiles`` run at a useful share of the peak, which they give."""
    fitted = np.zeros(1, parameters.GEMM_PARAMETERS)
    for name, value in {**PLAIN, **fitted_values}.items():
        fitted[name] = value
    fitted["tile_efficiency"] = 1e-9
    for tile, share in (tiles or {LARGE: 1.0}).items():
        fitted["tile_efficiency"][0, tile] = share
    device = Device(sms * flops_per_s, bandwidth, l2_bytes, float(sms))
    return float(gemm_seconds(float(m), float(n), float(k), float(groups), *bytes_each, device, fitted[0]))


@pytest.mark.parametrize(
    ("tile", "waves"),
    # 300 x 300 outputs: 19 x 5 tiles of 16 x 64 take ten waves of ten, 3 x 3 of 128 x 128 take one.
    list(enumerate([10, 5, 3, 2, 1, 2, 1, 1, 1, 1, 5])),
)
def test_tiles_of_each_shape_run_in_waves(tile: int, waves: int) -> None:
    rows, columns = TILES[tile]
    area = rows * columns / (128 * 128)
    # 120 inner elements are too few to split. A tile: its slices at half the peak, then 2 us, and 4 us by its area.
    tile_us = 2 * area * 120 + 2 + 4 * area
    assert seconds(300, 300, 120, tiles={tile: 0.5}) == pytest.approx((7 + waves * tile_us) * US)


def test_the_best_tile_is_taken() -> None:
    # One wave of 128 x 128 at a quarter of the peak takes 480 us + 6; of 64 x 64, three of 30 us + 3.
    both = seconds(300, 300, 120, tiles={LARGE: 0.25, TILES.index((64, 64)): 1.0})
    assert both == pytest.approx((7 + 3 * (30 + 3)) * US)


def test_persistent_kernels_take_broken_waves_and_never_less_than_one() -> None:
    # 5 x 3 tiles on ten SMs.
    assert seconds(600, 300, 120, quantised_share=0.0) == pytest.approx((7 + 1.5 * 126) * US)
    assert seconds(600, 300, 120, quantised_share=0.5) == pytest.approx((7 + 1.75 * 126) * US)
    assert seconds(100, 100, 120, quantised_share=0.0) == pytest.approx((7 + 126) * US)


def test_groups_side_by_side_fill_the_same_waves() -> None:
    assert seconds(300, 300, 120, groups=3) == pytest.approx((7 + 3 * 126) * US)


@pytest.mark.parametrize(
    ("m", "n", "slice_us"),
    [
        # (128 x 2 + 128 x 4) bytes a slice at 0.384 bytes/ns.
        (300, 300, 2.0),
        # Rows and columns beyond the product are not loaded: (30 x 2 + 81 x 4) bytes.
        (30, 81, 1.0),
        # 8 x 2 + 8 x 4 bytes load sooner than the tile multiplies.
        (8, 8, 1.0),
        (96, 96, 1.5),
    ],
)
def test_a_tile_waits_for_its_operands(m: int, n: int, slice_us: float) -> None:
    time_s = seconds(m, n, 120, bytes_each=(2.0, 4.0), sm_bytes_per_s=384 / US)
    assert time_s == pytest.approx((7 + 120 * slice_us + 6) * US)


def test_a_long_inner_dimension_is_split_over_idle_sms() -> None:
    # One tile of 128 x 128 x 1024 on ten SMs: parts of 128 elements, of which eight fill one wave. Eight partial
    # results of 4 bytes go through memory at 0.5 x 262,144 bytes/us, 4 us in all; memory itself is instant.
    bandwidth = 262_144 / US
    cold, moved = 2 * 128 * 1024, 2 * 128 * 1024 + 2 * 128 * 128
    memory_us = (cold + moved) / (0.5 * 262_144)
    time_s = seconds(128, 128, 1024, bandwidth=bandwidth, split_s=5 * US, split_speed=0.5)
    assert time_s == pytest.approx((7 + (128 + 6) + 5 + 4 + memory_us) * US)
    # A library that dispatches by rows never splits.
    whole = seconds(128, 128, 1024, bandwidth=bandwidth, split_s=5 * US, split_speed=0.5, dispatched=1.0)
    assert whole == pytest.approx((7 + (1024 + 6) + memory_us) * US)


def test_no_part_is_shorter_than_128_elements() -> None:
    # Of 129 two parts are made, each charged as 128; of 128 none.
    assert seconds(128, 128, 129, split_s=0.25 * US) == pytest.approx((7 + 128 + 6 + 0.25) * US)
    assert seconds(128, 128, 128, split_s=0.25 * US) == pytest.approx((7 + 128 + 6) * US)
    # Six parts of 100 were made of 600, were they allowed: five of 120 are charged as 128 each, as six are.
    assert seconds(128, 128, 600, split_s=0.25 * US) == pytest.approx((7 + 128 + 6 + 0.25) * US)
    # 256 is still two parts, and 257 three.
    assert seconds(128, 128, 256, sms=2, split_s=0.25 * US) == pytest.approx((7 + 128 + 6 + 0.25) * US)


def test_parts_fill_at_most_two_waves() -> None:
    # Three tiles on four SMs: four parts each would be three waves of a quarter, twelve tiles, but eight are the most.
    assert seconds(128, 384, 1024, sms=4, split_s=0.25 * US, tile_s=0.0, tile_area_s=0.0) == pytest.approx(
        (7 + 1024) * US
    )
    # On six SMs twelve are allowed: two waves of a quarter, as good as one wave of two parts; on five, ten are the
    # most, and three parts make nine: two waves of a third.
    assert seconds(128, 384, 1024, sms=6, split_s=0.25 * US, tile_s=0.0, tile_area_s=0.0) == pytest.approx(
        (7 + 512 + 0.25) * US
    )
    assert seconds(128, 384, 1024, sms=5, split_s=0.25 * US, tile_s=0.0, tile_area_s=0.0) == pytest.approx(
        (7 + 2 * 1024 / 3 + 0.25) * US
    )


@pytest.mark.parametrize(
    ("m", "first_rows"), [(1, 16), (16, 16), (17, 32), (32, 32), (33, 64), (128, 64), (129, 128), (5000, 128)]
)
def test_dispatched_kernels_have_at_least_the_rows_of_the_product(m: int, first_rows: int) -> None:
    # Of the tiles 64 columns wide, each is the better the smaller it is.
    shares = {0: 1.0, 1: 0.5, 2: 0.25, 3: 0.125}
    rows, share = {16: (16, 1.0), 32: (32, 0.5), 64: (64, 0.25), 128: (128, 0.125)}[first_rows]
    time_s = seconds(m, 64, 120, sms=1000, tiles=shares, dispatched=1.0, tile_s=0.0, tile_area_s=0.0)
    slice_us = rows * 64 / (128 * 128) / share
    assert time_s == pytest.approx((7 + 120 * slice_us) * US)


def test_the_weight_comes_from_memory_and_activations_as_far_as_they_do_not_lie_in_l2() -> None:
    # Two products of 8 x 32 x 16 in elements of 2 and 1 bytes: 1024 bytes of weights; 512 in, 1024 out.
    shape = {"groups": 2, "bytes_each": (2.0, 1.0), "flops_per_s": INSTANT, "bandwidth": 1024 / US}
    floor = {"tile_s": 0.0, "tile_area_s": 0.0}
    assert seconds(8, 32, 16, **shape, **floor) == pytest.approx((7 + (1 + 1.5) / 0.5) * US)
    # Half of the activations lie in L2 where all bytes, 2560, are its share of the cache.
    half = seconds(8, 32, 16, **shape, **floor, l2_bytes=5120.0, l2_share=0.5)
    assert half == pytest.approx((7 + (1 + 0.75) / 0.5 + 0.75 / 4) * US)
    # At twice the footprint, 1 in 1 + 2^3.
    ninth = seconds(8, 32, 16, **shape, **floor, l2_bytes=1280.0, l2_sharpness=3.0)
    assert ninth == pytest.approx((7 + (1 + 1.5 * 8 / 9) / 0.5 + 1.5 / 9 / 4) * US)


def test_operands_are_read_again_by_regions_that_do_not_share_them() -> None:
    # Sixteen SMs with a share of 1/4: a region of 128 outputs a side. Each of its 64 x 32 x 16 slices then reads
    # (2 + 1) x 32,768 / 128 = 768 bytes more, beside 512 of the weight, 2048 in and 4096 out.
    shape = {"bytes_each": (2.0, 1.0), "flops_per_s": INSTANT, "bandwidth": 1024 / US, "sms": 16}
    arguments = {"tile_s": 0.0, "tile_area_s": 0.0, "reread_region": 0.25}
    time_s = seconds(64, 32, 16, **shape, **arguments)
    assert time_s == pytest.approx((7 + (0.5 + 2 + 4 + 0.75) / 0.5) * US)
    # The footprint counts each byte once, and what lies in L2 is not read again.
    half = seconds(64, 32, 16, **shape, **arguments, l2_bytes=512.0 + 2048 + 4096)
    assert half == pytest.approx((7 + (0.5 + (6 + 0.75) / 2) / 0.5 + 6 / 2 / 4) * US)


def test_a_long_kernel_slows_down_under_the_power_limit() -> None:
    # 126 us are twice the 63 us at which half of the slow-down has set in: 8 parts of 9 under the cube.
    time_s = seconds(300, 300, 120, throttle=0.9, throttle_s=63 * US, throttle_sharpness=3.0)
    assert time_s == pytest.approx((7 + 126 * 1.8) * US)


def test_compute_and_memory_overlap_by_their_exponent() -> None:
    # 126 us of compute; bytes of 84 us at half of the bandwidth, twice 42.
    moved = 3 * 2 * 300 * 120 + 2 * 300 * (300 - 120)
    time_s = seconds(300, 300, 120, bandwidth=moved / (42 * US), overlap=2.0)
    assert time_s == pytest.approx((7 + math.hypot(126, 84)) * US)


def test_one_row_may_take_a_matrix_vector_kernel() -> None:
    # 2 x 120 x 300 + 2 x 120 + 2 x 300 bytes, 42 us at half of the bandwidth.
    moved = 2 * (120 * 300 + 120 + 300)
    arguments = {"bandwidth": moved / (21 * US), "vector_s": 3 * US}
    assert seconds(1, 300, 120, **arguments) == pytest.approx((3 + 42) * US)
    assert seconds(1, 300, 120, **{**arguments, "vector_s": 1.0}) == pytest.approx((7 + 126 + 42) * US)
    moved = 2 * (120 * 300 + 2 * 120 + 2 * 300)
    arguments["bandwidth"] = moved / (21 * US)
    assert seconds(2, 300, 120, **arguments) == pytest.approx((7 + 126 + 42) * US)


def test_one_byte_activations_are_quantised_first() -> None:
    # A row reads 2 and writes 1 byte an element: 360 bytes at 0.25 of 288 bytes/us are 5 us.
    arguments = {"groups": 2, "quantise_s": 11 * US, "quantise_share": 0.25, "bandwidth": 288 / US}
    moved_us = 2 * (300 * 120 + 100 * 120 + 2 * 100 * 300) / 144
    for least_us, row_us in ((4.0, 5.0), (6.0, 6.0)):
        one_byte = seconds(100, 300, 120, bytes_each=(1.0, 1.0), quantise_row_s=least_us * US, **arguments)
        assert one_byte == pytest.approx((7 + 126 + moved_us + 11 + 200 * row_us) * US)
    # 4-bit weights under 2-byte activations are not.
    weights_alone = seconds(300, 300, 120, bytes_each=(2.0, 0.5))
    assert weights_alone == pytest.approx((7 + 126) * US)


def test_no_product_is_faster_than_the_data_sheet() -> None:
    free = {"launch_s": 1e-12, "tile_s": 0.0, "tile_area_s": 0.0, "memory_share": 1e9, "l2_speed": 1e9}
    # 2 x 3 x 128 x 128 x 120 FLOPs on ten SMs take 36 us.
    assert seconds(128, 128, 120, groups=3, tiles={LARGE: 1e9}, **free) == pytest.approx(36 * US)
    # Two of 600 bytes in, 1200 of the weight, 800 out.
    moved = 2 * (2 * 10 * 30 + 30 * 20 * 2 + 2 * 10 * 20)
    floor = seconds(10, 20, 30, groups=2, tiles={LARGE: 1e9}, bandwidth=moved / (50 * US), **free)
    assert floor == pytest.approx(50 * US)
