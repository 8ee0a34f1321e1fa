"""Section scaled to user-supplied measurements: two weights, each slower than predicted by another factor."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from asymsim.calibration.kernel_records import Record
from asymsim.calibration.launch_shape import Shape
from asymsim.calibration.user_rows import UserRows
from asymsim.calibration.user_scale import scaled_section
from asymsim.calibration.user_sections import user_section_rows
from asymsim.catalogue.gpu import load_gpu
from asymsim.estimator.gpu_arrays import fitted_section, gpu_arrays

GPU = load_gpu("h100_sxm")


def record(m: int, n: int, seconds: float, variant: str = "matmul") -> Record:
    return Record(
        line=2,
        gpu=GPU,
        operator="matmul",
        variant=variant,
        shape=Shape(f"m={m};n={n};k=4096"),
        dtype="bf16",
        metric="seconds",
        **dict.fromkeys(("p20", "p50", "p80"), seconds),
        versions="v=1",
        date="2026-01-01",
    )


def gemm_rows(records: list[Record]) -> tuple[UserRows, Counter[str]]:
    sections, left_out = user_section_rows(records, GPU)
    (section,) = sections
    assert section == "gemm_bf16"
    return sections[section], left_out


def test_the_fastest_variant_is_kept_with_the_median_of_its_times() -> None:
    times = {"matmul": (5e-3, 9e-3, 6e-3), "compiled": (2e-3, 8e-3, 4e-3), "other": (7e-3,)}
    records = [record(4096, 4096, seconds, variant) for variant, repeats in times.items() for seconds in repeats]
    rows, left_out = gemm_rows([*records, record(2048, 4096, 3e-3)])
    # Medians of 6, 4 and 7 ms.
    assert sorted(rows.seconds.tolist()) == [3e-3, 4e-3]
    assert left_out == {"repeated": 6}


def test_each_weight_is_predicted_by_the_scale_of_the_other() -> None:
    """Five shapes of one weight take twice the prediction, four of another three times."""
    shapes = [(m, 4096) for m in (1024, 2048, 3072, 4096, 5120)] + [(m, 8192) for m in (1024, 2048, 3072, 4096)]
    unit_rows, _ = gemm_rows([record(m, n, 1.0) for m, n in shapes])
    predicted = unit_rows.simulated_seconds(gpu_arrays(GPU, unit_rows.dtype))
    factors = [2.0 if n == 4096 else 3.0 for _, n in shapes]
    rows, _ = gemm_rows(
        [record(m, n, factor * s) for (m, n), factor, s in zip(shapes, factors, predicted, strict=True)]
    )
    base = fitted_section(GPU, "gemm_bf16")
    assert base is not None
    section, reason = scaled_section(rows, GPU, base, Counter())
    assert section is not None
    assert reason == ""
    assert section["rows"] == 9
    # The median of five twos and four threes; the one weight is predicted with 3, the other with 2.
    assert section["time_scale"] == pytest.approx(2.0)
    assert section["held_out_median_error"] == pytest.approx(1 / 2)
    assert section["held_out_mean_error"] == pytest.approx((5 * (1 / 2) + 4 * (1 / 3)) / 9)
    assert section["held_out_bias"] == pytest.approx(1 / 2)
    # Two shape groups: Student's t of one degree of freedom, 6.314, times the root mean square of log 1.5.
    half_width = 6.314 * math.log(1.5)
    assert section["ratio_p05"] == pytest.approx([math.exp(-half_width)] * 12)
    assert section["ratio_p95"] == pytest.approx([math.exp(half_width)] * 12)


@pytest.mark.parametrize(("shapes", "enough"), [(7, False), (8, True)])
def test_eight_shapes_make_a_scale(shapes: int, enough: bool) -> None:
    sizes = [1024 * number for number in range(1, shapes + 1)]
    unit_rows, _ = gemm_rows([record(m, 4096, 1.0) for m in sizes])
    predicted = unit_rows.simulated_seconds(gpu_arrays(GPU, unit_rows.dtype))
    # A mean of the logarithms would lie far above the median.
    factors = np.array([1.5] * (shapes - 2) + [9.0, 9.0])
    rows, _ = gemm_rows([record(m, 4096, seconds) for m, seconds in zip(sizes, predicted * factors, strict=True)])
    base = fitted_section(GPU, "gemm_bf16")
    assert base is not None
    section, reason = scaled_section(rows, GPU, base, Counter())
    assert (section is not None) == enough
    if section is not None:
        assert section["time_scale"] == pytest.approx(1.5)
    else:
        assert reason == "7 distinct shapes that it has fitted parameters for, at least 8"
