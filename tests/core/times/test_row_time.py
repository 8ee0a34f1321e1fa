"""Tiles, waves and the sides of the roofline, worked out by hand."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from asymsim.core.operators.layout import (
    ALL_REDUCE,
    ATTENTION,
    BY_COLUMNS,
    BY_HEADS,
    BY_INNER,
    ELEMENTWISE,
    GEMM,
    OPERATOR,
    REPLICATED,
    UNFUSED_ATTENTION,
)
from asymsim.core.times.gpu_arrays import GpuArrays
from asymsim.core.times.parameters import roofline_gpu
from asymsim.core.times.roofline import gemm_flops
from asymsim.estimator.operator_table import operator_times

GPU = roofline_gpu(
    flops_per_s=1e12, vector_flops_per_s=1e10, bandwidth_bytes_per_s=1e9, link_bytes_per_s=1e8, sm_count=10
)


def row_seconds(row: np.void, gpu: GpuArrays, tp_size: int) -> float:
    return float(operator_times(np.array([row], OPERATOR), gpu, tp_size)[0][0, 1])


def row(**values: int) -> np.void:
    record = np.zeros(1, OPERATOR)
    record["count"] = record["groups"] = record["heads"] = record["kv_heads"] = 1
    for name, value in values.items():
        record[name] = value
    return record[0]


@pytest.mark.parametrize(
    ("m", "n", "k", "groups", "tiles_of_work"),
    [
        # One tile of 128 x 128 x k keeps one SM busy and the other nine waiting.
        (128, 128, 128, 1, 10),
        (128, 1280, 128, 1, 10),
        (1, 1280, 128, 1, 5),
        (64, 1280, 128, 1, 5),
        (65, 1280, 128, 1, 10),
        # An eleventh tile takes a second wave.
        (128, 1281, 128, 1, 20),
        (128, 128, 128, 11, 20),
        # Split in two along an inner dimension of 512, five tiles fill the SMs in half the time.
        (128, 640, 512, 1, 20),
        # Ten parts of 256 at most: two tiles split five times.
        (128, 256, 1280, 1, 20),
        (128, 256, 12800, 1, 200),
    ],
)
def test_whole_tiles_in_whole_waves(m: int, n: int, k: int, groups: int, tiles_of_work: int) -> None:
    assert gemm_flops(m, n, k, groups, 10) == tiles_of_work * 2 * 128 * 128 * 128


@pytest.mark.parametrize("m", [1, 64, 65, 4096])
@pytest.mark.parametrize("n", [128, 1000, 40_000])
def test_a_longer_product_never_takes_less_work(m: int, n: int) -> None:
    inner = [gemm_flops(m, n, k, 1, 132) for k in range(1, 3000, 7)]
    assert all(short <= long for short, long in pairwise(inner))
    columns = [gemm_flops(m, wide, 4096, 1, 132) for wide in range(1, 40_000, 97)]
    assert all(narrow <= wide for narrow, wide in pairwise(columns))
    rows = [gemm_flops(tall, n, 4096, 1, 132) for tall in range(1, 3000, 7)]
    assert all(low <= tall for low, tall in pairwise(rows))


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 7), (576, 4096, 4096), (129, 129, 257)])
@pytest.mark.parametrize("sm_count", [1, 10, 132])
def test_no_product_takes_less_than_its_own_flops(shape: tuple[int, int, int], sm_count: int) -> None:
    m, n, k = shape
    assert gemm_flops(m, n, k, 3, sm_count) >= 3 * 2 * m * n * k


def test_the_slower_side_of_the_roofline_counts() -> None:
    memory_bound = row(kind=ATTENTION, flops=10**9, read_bytes=10**9)
    compute_bound = row(kind=ATTENTION, flops=10**13, read_bytes=10**9)
    assert row_seconds(memory_bound, GPU, 1) == 1.0
    assert row_seconds(compute_bound, GPU, 1) == 10.0


def test_unfused_attention_multiplies_the_whole_square() -> None:
    assert row_seconds(row(kind=UNFUSED_ATTENTION, flops=10**12, torch_flops=2 * 10**12), GPU, 1) == 2.0


def test_element_wise_work_runs_on_the_vector_units() -> None:
    assert row_seconds(row(kind=ELEMENTWISE, elementwise_flops=5 * 10**10), GPU, 1) == 5.0
    assert row_seconds(row(kind=ELEMENTWISE, read_bytes=10**9, write_bytes=10**9), GPU, 1) == 2.0


@pytest.mark.parametrize(
    ("split", "seconds"),
    [(REPLICATED, 8 + 4 + 4), (BY_COLUMNS, 8 + 1 + 1), (BY_INNER, 2 + 4 + 1), (BY_HEADS, 2 + 1 + 1)],
)
def test_each_split_divides_its_own_bytes(split: int, seconds: float) -> None:
    moved = row(kind=ATTENTION, split=split, read_bytes=8 * 10**9, write_bytes=4 * 10**9, weight_bytes=4 * 10**9)
    assert row_seconds(moved, GPU, 4) == seconds


@pytest.mark.parametrize(("kv_heads", "seconds"), [(8, 1.0), (4, 1.0), (6, 4 / 3), (2, 2.0), (1, 4.0)])
def test_kv_heads_are_dealt_out_whole_and_copied_where_too_few(kv_heads: int, seconds: float) -> None:
    cache = row(kind=ATTENTION, split=BY_HEADS, kv_heads=kv_heads, kv_read_bytes=3 * 10**9, kv_write_bytes=10**9)
    assert row_seconds(cache, GPU, 4) == pytest.approx(seconds)


@pytest.mark.parametrize(("tp_size", "seconds"), [(2, 1.0), (4, 1.5), (8, 1.75)])
def test_a_ring_moves_nearly_twice_the_message(tp_size: int, seconds: float) -> None:
    assert row_seconds(row(kind=ALL_REDUCE, write_bytes=10**8), GPU, tp_size) == pytest.approx(seconds)


@pytest.mark.parametrize(("tp_size", "tiles"), [(75, 525), (49, 49), (3, 9), (6, 126)])
def test_whole_shares_stay_whole(tp_size: int, tiles: int) -> None:
    # 525 / 75 is 7, but 525 times the nearest double of 1 / 75 is more, which would start another tile.
    gpu = GPU._replace(bandwidth_bytes_per_s=1e300, sm_count=1)
    wide = row(kind=GEMM, split=BY_COLUMNS, m=128, n=128 * tiles, k=128)
    deep = row(kind=GEMM, split=BY_INNER, m=128, n=128, k=128 * tiles)
    for each in (wide, deep):
        assert row_seconds(each, gpu, tp_size) == pytest.approx(tiles / tp_size * 2 * 128**3 / 1e12, rel=1e-12)
