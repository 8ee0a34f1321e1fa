"""Intervals and sources of single operator rows: bands of predicted time, rows unlike the measured ones, floors."""

from __future__ import annotations

import math

import numpy as np
import pytest

from asymsim.core.operators.layout import ALL_REDUCE, DECODE, ELEMENTWISE, GEMM, PREFILL, UNFUSED_ATTENTION, VISION
from asymsim.core.times import parameters
from asymsim.core.times.gpu_arrays import GpuArrays
from asymsim.core.times.parameters import (
    BANDS,
    DECODE_ATTENTION_TIME,
    ELEMENTWISE_TIME,
    ENCODER_ATTENTION_TIME,
    FITTED,
    GEMM_TIME,
    GROUPED_TIME,
    MEASURED,
    NUM_TIME_CLASSES,
    PREFILL_ATTENTION_TIME,
    ROOFLINE,
    TRANSFERRED,
)
from asymsim.core.times.row_time import row_interval
from oracles.made_up_gpu import KNOWN, UNLIKE, US, made_up_gpu
from oracles.made_up_rows import attention as attention_row
from oracles.made_up_rows import interval as interval_on
from oracles.made_up_rows import row

GPU = made_up_gpu()


def attention(phase: int, size: int, queries: int = 128, pairs_a_query: int = 128) -> np.void:
    return attention_row(phase, 1, queries, 128, queries * pairs_a_query, k=size)


def interval(operator_row: np.void, gpu: GpuArrays = GPU) -> tuple[float, float, float, int]:
    return interval_on(operator_row, gpu)


PRODUCT = {"kind": GEMM, "m": 100, "n": 100, "k": 100}


@pytest.mark.parametrize(
    ("operator_row", "like"),
    [
        (row(**PRODUCT, weight_bytes=1), True),
        (row(**PRODUCT, weight_bytes=1, groups=4), True),
        # Products of activations and stored attention weights were not measured.
        (row(**PRODUCT), False),
        (row(kind=UNFUSED_ATTENTION, m=128, n=128, k=64), False),
        (row(kind=ELEMENTWISE, read_bytes=512), True),
        (row(kind=ALL_REDUCE, write_bytes=512), True),
        *((attention(PREFILL, size), True) for size in (64, 128, 192, 256)),
        *((attention(PREFILL, size), False) for size in (63, 65, 96, 255, 257, 512)),
        # Half of the keys are a causal mask's; fewer are a window's.
        (attention(PREFILL, 64, pairs_a_query=64), True),
        (attention(PREFILL, 64, pairs_a_query=63), False),
        *((attention(DECODE, size, queries=1), True) for size in (64, 128, 192, 256)),
        *((attention(DECODE, size, queries=1), False) for size in (63, 65, 127, 300)),
        *((attention(VISION, size), True) for size in (64, 72, 80)),
        *((attention(VISION, size), False) for size in (32, 71, 81, 128)),
    ],
)
def test_rows_unlike_the_measured_ones_are_less_certain(operator_row: np.void, like: bool) -> None:
    low, middle, high, source = interval(operator_row)
    p05, p95 = KNOWN if like else UNLIKE
    assert source == (FITTED if like else TRANSFERRED)
    assert (low, high) == pytest.approx((middle * p05, middle * p95))


@pytest.mark.parametrize(
    ("field", "phase", "queries"), [("prefill_attention", PREFILL, 128), ("decode_attention", DECODE, 1)]
)
def test_an_unmeasured_head_size_takes_transferred_parameters(field: str, phase: int, queries: int) -> None:
    gpu = made_up_gpu()
    getattr(gpu, field)["fitted_size"][0, 1] = 0.0
    assert interval(attention(phase, 128, queries), gpu)[3] == TRANSFERRED
    assert interval(attention(phase, 64, queries), gpu)[3] == FITTED


def test_an_encoder_s_head_size_that_was_not_measured_is_transferred() -> None:
    gpu = made_up_gpu()
    gpu.encoder_attention["fitted_size"][0, 2] = 0.0
    assert interval(attention(VISION, 80), gpu)[3] == TRANSFERRED
    assert interval(attention(VISION, 72), gpu)[3] == FITTED


@pytest.mark.parametrize(
    ("phase", "size", "launch_s"),
    [(PREFILL, 65, 20), (PREFILL, 257, 40), (DECODE, 192, 30), (DECODE, 512, 40), (VISION, 65, 20), (VISION, 200, 30)],
)
def test_a_head_size_takes_the_parameters_of_the_next_larger_one(phase: int, size: int, launch_s: int) -> None:
    gpu = made_up_gpu()
    for fitted in (gpu.prefill_attention, gpu.decode_attention, gpu.encoder_attention):
        launches = fitted["launch_s"][0]
        launches[:] = [10.0 * (1 + at) for at in range(len(launches))]
    # Beside a launch of ten seconds the work, about a millisecond, is nothing.
    assert interval(attention(phase, size, queries=1), gpu)[1] == pytest.approx(launch_s, rel=1e-3)


def banded(time_class: int, unit_s: float) -> GpuArrays:
    """Band b begins at b units; its ends are 1 / (b + 2) and b + 2 of the median."""
    gpu = made_up_gpu()
    gpu.intervals["band_edges_s"][time_class] = [*(unit_s * at for at in range(BANDS)), math.inf]
    gpu.intervals["ratio_p05"][time_class] = [1 / (at + 2) for at in range(BANDS)]
    gpu.intervals["ratio_p95"][time_class] = [at + 2 for at in range(BANDS)]
    return gpu


@pytest.mark.parametrize(
    ("inner", "band"), [(1, 0), (42, 0), (43, 1), (92, 1), (93, 2), (542, 10), (543, 11), (5000, 11)]
)
def test_quantiles_are_those_of_the_band_of_one_execution(inner: int, band: int) -> None:
    # 7 us and 1 us an inner element, in bands of 50 us; a band begins at its edge. 20 executions stay in theirs.
    gpu = banded(GEMM_TIME, 50 * US)
    low, middle, high, _ = interval(row(kind=GEMM, m=128, n=128, k=inner, weight_bytes=1, count=20), gpu)
    # Each execution is rounded up to whole quarters of a picosecond, after its band is found.
    assert middle == pytest.approx(20 * (7 + inner) * US)
    assert (low, high) == pytest.approx((middle / (band + 2), middle * (band + 2)))


@pytest.mark.parametrize("kernels", [1, 2, 20])
def test_bands_of_element_wise_work_are_of_one_kernel(kernels: int) -> None:
    # A kernel takes 3 us, and however many there are they stay in the band from 2 to 4 us.
    gpu = banded(ELEMENTWISE_TIME, 2 * US)
    low, middle, high, _ = interval(row(kind=ELEMENTWISE, groups=kernels, read_bytes=64), gpu)
    assert middle == pytest.approx(3 * kernels * US)
    assert (low, high) == pytest.approx((middle / 3, middle * 3))


def test_experts_keep_the_band_of_all_of_them_together() -> None:
    # Ten experts at once take 7 + 100 us, in the band from 100 to 150 us.
    gpu = banded(GROUPED_TIME, 50 * US)
    low, middle, high, _ = interval(row(kind=GEMM, m=128, n=128, k=100, weight_bytes=1, groups=10), gpu)
    assert (low, middle, high) == pytest.approx((107 / 4 * US, 107 * US, 107 * 4 * US))


def test_rows_unlike_the_measured_ones_have_bands_of_their_own() -> None:
    gpu = banded(NUM_TIME_CLASSES + GROUPED_TIME, 5 * US)
    # 9 us and less than one, in the band from 5 to 10 us.
    low, middle, high, _ = interval(row(kind=GEMM, m=1, n=1, k=1), gpu)
    assert (low, high) == pytest.approx((middle / 3, middle * 3))


def test_a_scale_comes_before_the_band_and_the_floor() -> None:
    gpu = banded(GEMM_TIME, 50 * US)
    gpu.intervals["time_scale"][GEMM_TIME] = 3.0
    gpu.intervals["time_scale"][NUM_TIME_CLASSES + GEMM_TIME] = 100.0
    low, middle, _, _ = interval(row(kind=GEMM, m=128, n=128, k=43, weight_bytes=1), gpu)
    assert middle == pytest.approx(150 * US)
    assert low == pytest.approx(150 / 5 * US)


def test_neither_the_median_nor_the_lower_end_passes_the_roofline() -> None:
    gpu = made_up_gpu()
    # 2 x 1280 x 128 x 128 FLOPs on ten SMs are 128 us; predicted are 7 us more.
    bound = row(kind=GEMM, m=1280, n=128, k=128, weight_bytes=1, flops=3 * 2 * 1280 * 128 * 128, count=3)
    low, middle, high, _ = interval(bound, gpu)
    assert (low, middle, high) == pytest.approx((3 * 128 * US, 3 * 135 * US, 3 * 135 * 1.5 * US))
    gpu.intervals["time_scale"] = 0.5
    low, middle, high, _ = interval(bound, gpu)
    assert (low, middle, high) == pytest.approx((3 * 128 * US, 3 * 128 * US, 3 * 128 * 1.5 * US))


def test_an_interval_contains_its_median() -> None:
    gpu = made_up_gpu()
    gpu.intervals["ratio_p05"], gpu.intervals["ratio_p95"] = 2.0, 0.5
    low, middle, high, _ = interval(row(kind=ELEMENTWISE, read_bytes=64), gpu)
    assert low == middle == high


@pytest.mark.parametrize("source", [TRANSFERRED, FITTED, MEASURED])
def test_a_row_is_no_more_certain_than_its_class(source: int) -> None:
    gpu = made_up_gpu()
    gpu.sources[:] = source
    assert interval(row(**PRODUCT, weight_bytes=1), gpu)[3] == source
    assert interval(row(**PRODUCT), gpu)[3] == TRANSFERRED


def test_a_class_that_was_not_measured_is_a_roofline_without_an_interval() -> None:
    gpu = made_up_gpu()
    gpu.sources[ELEMENTWISE_TIME] = ROOFLINE
    gpu = gpu._replace(bandwidth_bytes_per_s=1024 / US)
    low, middle, high, source = interval(row(kind=ELEMENTWISE, read_bytes=3 * 2048, count=3), gpu)
    assert source == ROOFLINE
    assert middle == pytest.approx(6 * US)
    assert math.isnan(low)
    assert math.isnan(high)


def test_the_class_of_a_row_comes_with_its_interval() -> None:
    for operator_row, expected in (
        (attention(PREFILL, 64), PREFILL_ATTENTION_TIME),
        (attention(VISION, 64), ENCODER_ATTENTION_TIME),
    ):
        *ends, time_class = row_interval(operator_row, GPU, 1)
        assert time_class == expected
        assert ends == list(interval(operator_row)[:3])
    assert row_interval(attention(DECODE, 64, 1), GPU, 1)[3] == DECODE_ATTENTION_TIME


def test_times_are_whole_ticks() -> None:
    # A quarter of a picosecond, 2^-42 s, rounded up: thirds of a us are not multiples of it.
    operator_row = row(kind=GEMM, m=128, n=128, k=100, weight_bytes=1, count=3)
    gpu = made_up_gpu()
    gpu.gemm["launch_s"] = US / 3
    ticks = interval(operator_row, gpu)[1] * 2.0**42
    assert ticks == 3 * math.ceil((100 + 1 / 3) * 1e-6 * 2**42)


def test_a_factor_scales_like_rows_unlike_rows_and_the_host() -> None:
    gpu = made_up_gpu()._replace(host_s=3.0)
    factors = np.arange(1.0, 1 + NUM_TIME_CLASSES)
    scaled = parameters.with_scaled_times(gpu, factors)
    assert scaled.intervals["time_scale"].tolist() == [*factors, *factors]
    assert scaled.host_s == 3.0 * NUM_TIME_CLASSES
    assert scaled.stamp != gpu.stamp
    assert (gpu.intervals["time_scale"] == 1.0).all()
