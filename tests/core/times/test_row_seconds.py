"""Seconds of single operator rows except attention, on a GPU of round numbers: class, share of a GPU, repetitions."""

from __future__ import annotations

import numpy as np
import pytest

from asymsim.core.operators.layout import (
    ALL_REDUCE,
    ATTENTION,
    BY_COLUMNS,
    BY_HEADS,
    BY_INNER,
    DECODE,
    DECODE_SELECTION,
    ELEMENTWISE,
    GEMM,
    OPERATOR,
    PREFILL,
    PROJECTOR,
    REPLICATED,
    SELECTION,
    UNFUSED_ATTENTION,
    VISION,
)
from asymsim.core.times.gpu_arrays import GpuArrays
from asymsim.core.times.parameters import (
    ALL_REDUCE_TIME,
    DECODE_ATTENTION_TIME,
    ELEMENTWISE_TIME,
    ENCODER_ATTENTION_TIME,
    GEMM_TIME,
    GROUPED_TIME,
    PREFILL_ATTENTION_TIME,
)
from asymsim.core.times.roofline import gemm_flops
from asymsim.core.times.row_time import row_roofline, time_class
from asymsim.estimator.operator_table import operator_times
from oracles.made_up_gpu import US, made_up_gpu
from oracles.made_up_rows import interval, product, row

GPU = made_up_gpu()


def seconds(operator_row: np.void, gpu: GpuArrays = GPU, tp_size: int = 1) -> float:
    return interval(operator_row, gpu, tp_size)[1]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"kind": ELEMENTWISE}, ELEMENTWISE_TIME),
        ({"kind": ALL_REDUCE}, ALL_REDUCE_TIME),
        ({"kind": GEMM, "weight_bytes": 1}, GEMM_TIME),
        ({"kind": GEMM, "weight_bytes": 1, "groups": 2}, GROUPED_TIME),
        ({"kind": GEMM}, GROUPED_TIME),
        ({"kind": UNFUSED_ATTENTION, "phase": PREFILL}, GROUPED_TIME),
        ({"kind": UNFUSED_ATTENTION, "phase": VISION}, GROUPED_TIME),
        ({"kind": ATTENTION, "phase": VISION}, ENCODER_ATTENTION_TIME),
        ({"kind": ATTENTION, "phase": PROJECTOR}, ENCODER_ATTENTION_TIME),
        ({"kind": ATTENTION, "phase": DECODE}, DECODE_ATTENTION_TIME),
        ({"kind": ATTENTION, "phase": DECODE_SELECTION}, DECODE_ATTENTION_TIME),
        ({"kind": ATTENTION, "phase": PREFILL}, PREFILL_ATTENTION_TIME),
        ({"kind": ATTENTION, "phase": SELECTION}, PREFILL_ATTENTION_TIME),
    ],
)
def test_a_row_has_the_class_of_its_kernel(values: dict[str, int], expected: int) -> None:
    assert time_class(row(**values)) == expected


def test_products_are_divided_by_columns_or_inner_dimension() -> None:
    # 1024 x 1300 x 400: 8 x 11 tiles are nine waves of ten.
    assert seconds(product(1024, 1300, 400, split=REPLICATED), tp_size=4) == pytest.approx((7 + 9 * 400) * US)
    # 325 columns each: 8 x 3 tiles, three waves.
    assert seconds(product(1024, 1300, 400, split=BY_COLUMNS), tp_size=4) == pytest.approx((7 + 3 * 400) * US)
    # 385 columns are 129 on the widest of three, two tiles.
    assert seconds(product(1280, 385, 400, split=BY_COLUMNS), tp_size=3) == pytest.approx((7 + 2 * 400) * US)
    assert seconds(product(1024, 1300, 401, split=BY_INNER), tp_size=4) == pytest.approx((7 + 9 * 101) * US)


def test_a_row_takes_its_time_as_often_as_it_runs() -> None:
    assert seconds(product(100, 100, 100, count=6)) == pytest.approx(6 * 107 * US)
    # Shapes are of one execution, bytes of all: six of 4096 bytes in all move 1024 bytes each on two GPUs.
    moved = row(kind=ELEMENTWISE, split=BY_HEADS, count=6, read_bytes=6 * 1536, write_bytes=6 * 512)
    gpu = made_up_gpu(bandwidth=1024 / US)
    assert seconds(moved, gpu, tp_size=2) == pytest.approx(6 * (3 + 2) * US)


def test_experts_stand_side_by_side() -> None:
    # 12 experts of one tile each: two waves.
    assert seconds(product(100, 100, 100, groups=12)) == pytest.approx((7 + 2 * 100) * US)


def test_products_of_activations_run_at_the_rate_of_activations_in_16_bits() -> None:
    # 128 x 128 outputs by an inner element take a 128th of a us.
    slow = row(kind=GEMM, m=128, n=128, k=128, groups=20)
    assert seconds(slow) == pytest.approx((9 + 2 * 1) * US)
    # The weight's format does not matter to them: 2 x 128 x 128 + 2 x 2 x 128 x 128 bytes, at 2048 bytes/us.
    fp8 = made_up_gpu(bandwidth=2048 / US)._replace(input_bytes=1.0, weight_bytes=0.5)
    fp8.gemm["quantise_s"] = 1.0
    assert seconds(row(kind=GEMM, m=128, n=128, k=128), fp8) == pytest.approx((9 + 1 + 48) * US)
    one_byte = seconds(product(128, 128, 128), fp8) - 1.0
    # 128 x 128 bytes in, half as many of the weight, twice as many out; 3 x 128 bytes are quantised for each row.
    assert one_byte == pytest.approx((7 + 128 + (8 + 4 + 16) + 128 * 3 * 128 / 2048) * US)


def test_products_of_equal_shape_and_other_kind_keep_separate_times() -> None:
    shapes = [
        {"m": 300, "n": 300, "k": 90},
        {"m": 3000, "n": 300, "k": 90},
        {"m": 3000, "n": 900, "k": 90},
        {"m": 3000, "n": 900, "k": 100},
        {"m": 3000, "n": 900, "k": 100, "groups": 3},
        {"m": 3000, "n": 900, "k": 100, "groups": 3, "weight_bytes": 0},
        {"m": 3000, "n": 900, "k": 100, "groups": 3},
    ]
    rows = np.array([product(**shape) for shape in shapes], OPERATOR)  # type: ignore[arg-type]
    # 3 x 3 tiles, 24 x 3, 24 x 8 and three times as many, of ten at a time; without a weight 128 times as fast.
    expected = [7 + 90, 7 + 8 * 90, 7 + 20 * 90, 7 + 20 * 100, 7 + 58 * 100, 9 + 58 * 100 / 128, 7 + 58 * 100]
    assert operator_times(rows, GPU, 1)[0][:, 1] == pytest.approx(np.array(expected) * US)


def test_an_element_wise_row_is_as_many_launches_as_it_has_kernels() -> None:
    gpu = made_up_gpu(bandwidth=1024 / US)
    norms = row(kind=ELEMENTWISE, groups=4, count=5, read_bytes=5 * 6144, write_bytes=5 * 2048)
    # 8192 bytes in four kernels, each 3 us and 2048 bytes at half of the bandwidth.
    assert seconds(norms, gpu) == pytest.approx(5 * 4 * (3 + 4) * US)


def test_an_all_reduce_sends_one_execution_s_message() -> None:
    # Three of 128 bytes: 5 us and 1 us for each of three peers; three messages at a quarter of the link.
    gpu = made_up_gpu(link=1024 / US)
    operator_row = row(kind=ALL_REDUCE, count=3, m=8, n=8, write_bytes=3 * 128)
    assert seconds(operator_row, gpu, tp_size=4) == pytest.approx(3 * (8 + 1.5) * US)


def test_the_roofline_of_a_row_is_of_all_its_executions() -> None:
    gpu = made_up_gpu(bandwidth=1024 / US)
    assert row_roofline(row(kind=ELEMENTWISE, count=5, read_bytes=5 * 2048), gpu, 1) == pytest.approx(10 * US)
    # Without tiles and waves: 2 x 10 x 10 x 10 FLOPs three times, at 327,680 a us.
    assert row_roofline(product(10, 10, 10, count=3, flops=6000, weight_bytes=3), gpu, 1) == pytest.approx(
        6000 / 327_680 * US
    )
    # Switches that add up on the way send 3 / 4 of the message.
    gpu = made_up_gpu(link=1024 / US)
    assert row_roofline(row(kind=ALL_REDUCE, count=2, write_bytes=2 * 4096), gpu, 4) == pytest.approx(6 * US)
    # Each GPU takes its share of divided element-wise work, and all of repeated work.
    gpu = made_up_gpu()._replace(vector_flops_per_s=100 / US)
    divided, repeated = (
        row(kind=ELEMENTWISE, split=split, count=2, elementwise_flops=4000) for split in (BY_HEADS, REPLICATED)
    )
    assert row_roofline(divided, gpu, 4) == pytest.approx(10 * US)
    assert row_roofline(repeated, gpu, 4) == pytest.approx(40 * US)


@pytest.mark.parametrize(("k", "parts"), [(255, 1), (256, 1), (384, 1.5), (512, 2), (2560, 10), (5120, 10)])
def test_the_roofline_of_an_unmeasured_gpu_splits_products_into_parts_of_256(k: int, parts: float) -> None:
    # One tile of 128 x 128 on ten SMs, which are charged for the wave.
    assert gemm_flops(128.0, 128.0, float(k), 1.0, 10.0) == pytest.approx(2 * 10 * 128 * 128 * k / parts)
