"""Rates, fitted parameters and sources that a GPU has at each number format, from a made-up data sheet."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from asymsim.catalogue.engine import Engine
from asymsim.catalogue.fitted_parameters import SECTIONS
from asymsim.catalogue.gpu import Gpu, load_gpu
from asymsim.catalogue.number_format import number_format
from asymsim.core.times.parameters import (
    ALL_REDUCE_TIME,
    BANDS,
    DECODE_ATTENTION_TIME,
    ELEMENTWISE_TIME,
    ENCODER_ATTENTION_TIME,
    FITTED,
    GEMM_TIME,
    GROUPED_TIME,
    HOST_TIME,
    MEASURED,
    NUM_TIME_CLASSES,
    PREFILL_ATTENTION_TIME,
    ROOFLINE,
    TRANSFERRED,
)
from asymsim.estimator.gpu_arrays import error_correlation, gpu_arrays

CLASS_OF = {
    "gemm_bf16": GEMM_TIME,
    "prefill_attention": PREFILL_ATTENTION_TIME,
    "decode_attention": DECODE_ATTENTION_TIME,
    "encoder_attention": ENCODER_ATTENTION_TIME,
    "elementwise": ELEMENTWISE_TIME,
    "all_reduce": ALL_REDUCE_TIME,
    "grouped_gemm": GROUPED_TIME,
}
H100 = load_gpu("h100_sxm")
PEAKS = {"fp32": 1.0, "fp16": 2.0, "bf16": 3.0, "fp8": 4.0, "int8": 5.0, "fp4": 6.0}


def section(name: str, value: float) -> dict[str, Any]:
    """A section whose parameters are all ``value``, with ends 1 / (2 + band) and 2 + band."""
    fields = SECTIONS[name].fields or {}
    values: dict[str, Any] = {key: np.full(kind.shape, value).tolist() for key, (kind, *_) in fields.items()}
    values["band_edges_s"] = [float(at) for at in range(BANDS + 1)]
    values["ratio_p05"] = [1 / (2 + at) for at in range(BANDS)]
    values["ratio_p95"] = [2.0 + at for at in range(BANDS)]
    return {**values, "source": "made up"}


def device(efficiency: dict[str, dict[str, Any]] | None = None, architecture: str = "without_donor") -> Gpu:
    return replace(
        H100, name="made_up", architecture=architecture, peak_flops_per_s=PEAKS, bandwidth_bytes_per_s=7.0,
        link_bytes_per_s=8.0, l2_bytes=9, sm_count=10, efficiency=efficiency or {},
    )  # fmt: skip


ALL_SECTIONS = {name: section(name, value) for value, name in enumerate(SECTIONS, 2)}


@pytest.mark.parametrize(
    ("name", "peak", "activation_peak", "input_bytes", "weight_bytes"),
    [
        ("fp32", 1, 1, 4, 4),
        ("fp16", 2, 3, 2, 2),
        ("bf16", 3, 3, 2, 2),
        ("fp8", 4, 3, 1, 1),
        ("int8", 5, 3, 1, 1),
        ("fp4", 6, 3, 0.5, 0.5),
        # Weights of four bits are unpacked to multiply activations of 16.
        ("w4a16", 2, 3, 2, 0.5),
    ],
)
def test_each_format_has_its_peak_and_operands(
    name: str, peak: float, activation_peak: float, input_bytes: float, weight_bytes: float
) -> None:
    rates = gpu_arrays(device(), number_format(name))
    assert (rates.flops_per_s, rates.activation_flops_per_s, rates.vector_flops_per_s) == (peak, activation_peak, 1)
    assert (rates.bandwidth_bytes_per_s, rates.link_bytes_per_s, rates.l2_bytes, rates.sm_count) == (7, 8, 9, 10)
    assert (rates.input_bytes, rates.weight_bytes) == (input_bytes, weight_bytes)
    assert (rates.host_s, rates.host_p05, rates.host_p95) == (0, 0, 0)


def test_activations_take_fp16_where_the_gpu_has_no_bf16() -> None:
    old = replace(device(), peak_flops_per_s={"fp32": 1.0, "fp16": 2.0})
    assert gpu_arrays(old, number_format("fp16")).activation_flops_per_s == 2.0


@pytest.mark.parametrize(
    ("name", "gemm", "source", "grouped"),
    [
        ("bf16", "gemm_bf16", FITTED, FITTED),
        ("fp16", "gemm_bf16", FITTED, FITTED),
        # Products were measured in one byte, experts were not.
        ("fp8", "gemm_fp8", FITTED, TRANSFERRED),
        ("int8", "gemm_fp8", TRANSFERRED, TRANSFERRED),
        ("fp4", "gemm_fp8", TRANSFERRED, TRANSFERRED),
        ("w4a16", "gemm_bf16", TRANSFERRED, TRANSFERRED),
    ],
)
def test_each_format_takes_the_parameters_it_was_measured_in(name: str, gemm: str, source: int, grouped: int) -> None:
    rates = gpu_arrays(device(ALL_SECTIONS), number_format(name))
    values_by_section = {key: float(value) for value, key in enumerate(SECTIONS, 2)}
    assert rates.gemm["launch_s"].tolist() == [values_by_section[gemm], values_by_section["gemm_bf16"]]
    assert rates.prefill_attention["balance"].tolist() == [values_by_section["prefill_attention"]]
    assert rates.decode_attention["slots"].tolist() == [values_by_section["decode_attention"]]
    assert rates.encoder_attention["tile_s"].tolist() == [values_by_section["encoder_attention"]]
    assert rates.elementwise["overlap"].tolist() == [values_by_section["elementwise"]]
    assert rates.all_reduce["peer_s"].tolist() == [values_by_section["all_reduce"]]
    assert (rates.sources[GEMM_TIME], rates.sources[GROUPED_TIME]) == (source, grouped)
    others = [PREFILL_ATTENTION_TIME, DECODE_ATTENTION_TIME, ENCODER_ATTENTION_TIME, ELEMENTWISE_TIME, ALL_REDUCE_TIME]
    assert (rates.sources[others] == FITTED).all()


def test_fp32_products_are_a_roofline() -> None:
    rates = gpu_arrays(device(ALL_SECTIONS), number_format("fp32"))
    assert (rates.sources == ROOFLINE).all()


def test_fitted_rows_have_bands_and_rows_unlike_them_the_spread_between_gpus() -> None:
    rates = gpu_arrays(device(ALL_SECTIONS), number_format("bf16"))
    between = {
        "gemm_bf16": (0.764481881, 1.38272953),
        "prefill_attention": (0.693459301, 1.26215328),
        "decode_attention": (0.82273792, 1.5342917),
    }
    for name, time_class in CLASS_OF.items():
        like, unlike = rates.intervals[time_class], rates.intervals[NUM_TIME_CLASSES + time_class]
        assert like["ratio_p05"].tolist() == [1 / (2 + at) for at in range(BANDS)]
        assert like["ratio_p95"].tolist() == [2.0 + at for at in range(BANDS)]
        assert like["band_edges_s"].tolist() == list(range(BANDS + 1))
        # One band for all times.
        assert unlike["band_edges_s"].tolist() == [0.0] + [math.inf] * BANDS
        assert len({*unlike["ratio_p05"].tolist()}) == len({*unlike["ratio_p95"].tolist()}) == 1
        # As data/transfer.toml has them.
        if name in between:
            assert (unlike["ratio_p05"][0], unlike["ratio_p95"][0]) == between[name]


def test_a_format_that_was_not_measured_has_the_spread_between_gpus() -> None:
    rates = gpu_arrays(device(ALL_SECTIONS), number_format("int8"))
    # Those of gemm_fp8 in data/transfer.toml.
    assert set(rates.intervals["ratio_p05"][GEMM_TIME].tolist()) == {0.552256706}
    assert set(rates.intervals["ratio_p95"][GEMM_TIME].tolist()) == {1.54963479}


def test_a_user_s_measurements_are_distinguished_from_fits() -> None:
    sections = {**ALL_SECTIONS, "elementwise": {**ALL_SECTIONS["elementwise"], "measured": True}}
    rates = gpu_arrays(device(sections), number_format("bf16"))
    assert (rates.sources[ELEMENTWISE_TIME], rates.sources[GEMM_TIME]) == (MEASURED, FITTED)
    assert gpu_arrays(device(sections), number_format("fp8")).sources[ELEMENTWISE_TIME] == MEASURED
    # In a format that was not measured even those are transferred.
    sections["gemm_fp8"] = {**ALL_SECTIONS["gemm_fp8"], "measured": True}
    assert gpu_arrays(device(sections), number_format("fp8")).sources[GEMM_TIME] == MEASURED
    assert gpu_arrays(device(sections), number_format("fp4")).sources[GEMM_TIME] == TRANSFERRED


def test_a_section_that_is_missing_comes_from_the_nearest_donor() -> None:
    measured = {name: ALL_SECTIONS[name] for name in ("gemm_bf16", "elementwise")}
    rates = gpu_arrays(device(measured, "hopper"), number_format("bf16"))
    assert rates.gemm["launch_s"].tolist() == [2.0, 2.0]
    assert rates.prefill_attention["launch_s"][0].tolist() == H100.efficiency["prefill_attention"]["launch_s"]
    assert (rates.sources[GEMM_TIME], rates.sources[PREFILL_ATTENTION_TIME]) == (FITTED, TRANSFERRED)
    assert set(rates.intervals["ratio_p05"][PREFILL_ATTENTION_TIME].tolist()) == {0.693459301}
    # The A100 has no encoder attention; the next donor of its architecture has.
    rates = gpu_arrays(device(measured, "ampere"), number_format("bf16"))
    assert (
        rates.encoder_attention["launch_s"][0].tolist() == load_gpu("l40s").efficiency["encoder_attention"]["launch_s"]
    )
    assert (
        rates.prefill_attention["launch_s"][0].tolist()
        == load_gpu("a100_80gb_sxm").efficiency["prefill_attention"]["launch_s"]
    )
    # Without a donor a class is a roofline, but products side by side run on the parameters of single ones.
    rates = gpu_arrays(device(measured), number_format("bf16"))
    assert [int(rates.sources[time_class]) for time_class in (PREFILL_ATTENTION_TIME, ALL_REDUCE_TIME)] == [
        ROOFLINE,
        ROOFLINE,
    ]
    assert rates.sources[GROUPED_TIME] == TRANSFERRED
    for part in (GROUPED_TIME, NUM_TIME_CLASSES + GROUPED_TIME):
        assert rates.intervals["ratio_p95"][part, 0] > 1.0
        assert rates.intervals["time_scale"][part] == 1.0


def test_a_scale_corrects_its_class_and_products_side_by_side() -> None:
    sections = {name: {**ALL_SECTIONS[name], "time_scale": 2.0 + at} for at, name in enumerate(SECTIONS)}
    rates = gpu_arrays(device(sections), number_format("fp8"))
    scales = {key: 2.0 + at for at, key in enumerate(SECTIONS)}
    for name, time_class in CLASS_OF.items():
        scale = scales["gemm_fp8" if time_class == GEMM_TIME else name]
        if time_class == GROUPED_TIME:
            scale *= scales["gemm_bf16"]
        assert rates.intervals["time_scale"][[time_class, NUM_TIME_CLASSES + time_class]].tolist() == [scale, scale]


def test_errors_correlate_as_each_class_s_measurements_say() -> None:
    sections = {
        name: {**ALL_SECTIONS[name], "shape_group_correlation": 0.1 * at} for at, name in enumerate(SECTIONS, 1)
    }
    del sections["all_reduce"]["shape_group_correlation"]
    named = {key: 0.1 * at for at, key in enumerate(SECTIONS, 1)}
    for format_name, gemm in (("bf16", "gemm_bf16"), ("w4a16", "gemm_bf16"), ("fp8", "gemm_fp8"), ("fp4", "gemm_fp8")):
        correlations = error_correlation(device(sections), number_format(format_name))
        for name, time_class in CLASS_OF.items():
            expected = named[gemm if time_class == GEMM_TIME else name]
            assert correlations[time_class] == pytest.approx(0.0 if time_class == ALL_REDUCE_TIME else expected)
        assert correlations[HOST_TIME] == 0.0
    assert error_correlation(device(sections), number_format("fp32"))[GEMM_TIME] == 0.0
    assert not error_correlation(device(), number_format("bf16")).any()


def test_an_engine_s_host_time_is_whole_ticks() -> None:
    # Ticks are 2^-42 s; a time that is rounded up may pass its own upper end, which then moves with it.
    engine = Engine(name="made up", host_s=1e-3, host_p05_s=1e-4, host_p95_s=1e-3, source="made up")
    rates = gpu_arrays(device(ALL_SECTIONS), number_format("bf16"), engine)
    assert rates.host_s * 2**42 == math.ceil(1e-3 * 2**42)
    assert rates.host_p05 == 1e-4
    assert rates.host_p95 == rates.host_s
    later = replace(engine, host_p95_s=5e-3)
    assert gpu_arrays(device(ALL_SECTIONS), number_format("bf16"), later).host_p95 == 5e-3
    assert rates.gemm["quantise_s"].tolist() == [2.0, 2.0]


def test_an_engine_may_quantise_within_the_kernel_before() -> None:
    engine = Engine(
        name="made up", host_s=1e-3, host_p05_s=0.0, host_p95_s=1e-2, source="made up", fused_quantisation=True
    )
    rates = gpu_arrays(device(ALL_SECTIONS), number_format("fp8"), engine)
    assert not rates.gemm["quantise_s"].any()
    assert not rates.gemm["quantise_row_s"].any()
    # A row's bytes pass in no time.
    assert np.isinf(rates.gemm["quantise_share"]).all()
