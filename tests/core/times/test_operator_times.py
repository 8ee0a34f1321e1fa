"""Fitted operator times: never below the hardware, never shorter for more work, and told from each other by class."""

from __future__ import annotations

import dataclasses
import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asymsim.catalogue.gpu import gpu_names, load_gpu
from asymsim.catalogue.number_format import number_format as dtype
from asymsim.core.times import parameters as codes
from asymsim.core.times.all_reduce import all_reduce_seconds
from asymsim.core.times.decode_attention import decode_attention_seconds
from asymsim.core.times.device import Device, overlapped, throttled, waves
from asymsim.core.times.elementwise import elementwise_seconds
from asymsim.core.times.encoder_attention import encoder_attention_seconds
from asymsim.core.times.gemm import gemm_seconds
from asymsim.core.times.gpu_arrays import GpuArrays
from asymsim.core.times.prefill_attention import prefill_attention_seconds
from asymsim.estimator.gpu_arrays import gpu_arrays

FITTED = [name for name in gpu_names() if load_gpu(name).efficiency]
SIDES = st.integers(1, 40_000)
# Rounding of the few operations that a time is made of.
CLOSE = 1 + 1e-12


def arrays(name: str, number_format: str = "bf16") -> GpuArrays:
    return gpu_arrays(load_gpu(name), dtype(number_format))


def device(rates: GpuArrays) -> Device:
    return Device(rates.activation_flops_per_s, rates.bandwidth_bytes_per_s, rates.l2_bytes, rates.sm_count)


def product(m: float, n: float, k: float, rates: GpuArrays) -> float:
    peak = Device(rates.flops_per_s, rates.bandwidth_bytes_per_s, rates.l2_bytes, rates.sm_count)
    return float(
        gemm_seconds(float(m), float(n), float(k), 1.0, rates.input_bytes, rates.weight_bytes, peak, rates.gemm[0])
    )


def prefill(sequences: int, tokens: int, heads: int, kv_heads: int, rates: GpuArrays) -> float:
    size, kv_bytes = 128.0, 4.0 * sequences * tokens * kv_heads * 128
    shape = float(sequences), float(tokens), float(tokens), (tokens + 1) / 2, float(heads), float(kv_heads), size
    return float(prefill_attention_seconds(*shape, kv_bytes, 1, device(rates), rates.prefill_attention[0]))


def decode(sequences: int, tokens: int, heads: int, kv_heads: int, rates: GpuArrays) -> float:
    size, kv_bytes = 128.0, 4.0 * sequences * tokens * kv_heads * 128
    shape = float(sequences), float(tokens), float(heads), float(kv_heads), size, kv_bytes
    return float(decode_attention_seconds(*shape, 1, 0.0, device(rates), rates.decode_attention[0]))


def encode(sequences: int, tokens: int, heads: int, rates: GpuArrays) -> float:
    shape = float(sequences), float(tokens), float(tokens), float(heads), 64.0
    return float(encoder_attention_seconds(*shape, 0, device(rates), rates.encoder_attention[0]))


def test_every_measured_gpu_of_the_issue_is_fitted() -> None:
    named = {"a100_80gb_sxm", "l40s", "h100_sxm", "h200_sxm", "b200_sxm", "gb200", "rtx_pro_6000"}
    assert named <= set(FITTED)


@pytest.mark.parametrize("name", FITTED)
@given(m=SIDES, n=SIDES, k=SIDES, more=st.tuples(*[st.integers(0, 4096)] * 3), fp8=st.booleans())
def test_a_larger_product_never_takes_less(
    name: str, m: int, n: int, k: int, more: tuple[int, int, int], fp8: bool
) -> None:
    number_format = "fp8" if fp8 and "fp8" in load_gpu(name).peak_flops_per_s else "bf16"
    rates = arrays(name, number_format)
    small, large = product(m, n, k, rates), product(m + more[0], n + more[1], k + more[2], rates)
    assert small <= large * CLOSE
    moved = rates.input_bytes * m * k + rates.weight_bytes * n * k + 2 * m * n
    assert small * CLOSE >= 2 * m * n * k / rates.flops_per_s
    assert small * CLOSE >= moved / rates.bandwidth_bytes_per_s


@pytest.mark.parametrize("name", FITTED)
@given(
    sequences=st.integers(1, 64),
    tokens=st.integers(1, 16_000),
    kv_heads=st.sampled_from([1, 4, 8, 32]),
    group=st.sampled_from([1, 4, 7]),
    more=st.integers(0, 2048),
)
def test_more_tokens_never_take_less_attention(
    name: str, sequences: int, tokens: int, kv_heads: int, group: int, more: int
) -> None:
    rates, heads = arrays(name), kv_heads * group
    for seconds in (prefill(sequences, tokens, heads, kv_heads, rates), encode(sequences, tokens, heads, rates)):
        assert math.isfinite(seconds)
        assert seconds > 0
    assert prefill(sequences, tokens, heads, kv_heads, rates) <= (
        prefill(sequences, tokens + more, heads, kv_heads, rates) * CLOSE
    )
    assert encode(sequences, tokens, heads, rates) <= encode(sequences, tokens + more, heads, rates) * CLOSE
    flops = 2.0 * sequences * heads * tokens * (tokens + 1) * 128
    assert prefill(sequences, tokens, heads, kv_heads, rates) * CLOSE >= flops / rates.activation_flops_per_s
    assert encode(sequences, tokens, heads, rates) * CLOSE >= (
        4.0 * sequences * heads * tokens * tokens * 64 / rates.activation_flops_per_s
    )


@pytest.mark.parametrize("name", FITTED)
@given(
    sequences=st.integers(1, 256),
    tokens=st.integers(1, 64_000),
    kv_heads=st.sampled_from([1, 4, 8, 32]),
    group=st.sampled_from([1, 4, 7]),
    more=st.integers(0, 4096),
)
def test_a_longer_cache_never_takes_less_decoding(
    name: str, sequences: int, tokens: int, kv_heads: int, group: int, more: int
) -> None:
    rates, heads = arrays(name), kv_heads * group
    short = decode(sequences, tokens, heads, kv_heads, rates)
    moved = 4.0 * sequences * tokens * kv_heads * 128
    assert short * CLOSE >= moved / rates.bandwidth_bytes_per_s
    # FlashAttention-2 splits whenever it can, also where one part more costs more than it saves.
    if not rates.decode_attention["flash2"][0]:
        assert short <= decode(sequences, tokens + more, heads, kv_heads, rates) * CLOSE


@pytest.mark.parametrize("name", FITTED)
@given(m=SIDES, n=SIDES, k=SIDES, factor=st.floats(1, 8))
def test_better_hardware_never_takes_longer(name: str, m: int, n: int, k: int, factor: float) -> None:
    rates = arrays(name)
    for better in (
        rates._replace(flops_per_s=rates.flops_per_s * factor),
        rates._replace(bandwidth_bytes_per_s=rates.bandwidth_bytes_per_s * factor),
    ):
        slow, fast = product(m, n, k, rates), product(m, n, k, better)
        assert fast <= slow * CLOSE
        # What ends sooner is also throttled less.
        assert slow <= fast * factor * (1 + rates.gemm["throttle"][0])


@pytest.mark.parametrize("name", FITTED)
def test_large_work_goes_at_the_rate_of_the_hardware(name: str) -> None:
    rates = arrays(name)
    peak = 2 * 16_384**3 / rates.flops_per_s
    assert peak <= product(16_384, 16_384, 16_384, rates) < 2.5 * peak
    stream = 2**32 / rates.bandwidth_bytes_per_s
    seconds = float(elementwise_seconds(2.0**32, rates.bandwidth_bytes_per_s, rates.elementwise[0]))
    assert stream <= seconds < 1.5 * stream
    # A single row moves its weight and hardly anything else.
    weight = 2 * 8192 * 28_672 / rates.bandwidth_bytes_per_s
    assert weight <= product(1, 28_672, 8192, rates) < 2 * weight


def test_a_window_ends_a_tile_long_before_the_prompt_does() -> None:
    rates = arrays("h100_sxm")

    def seconds(met: float) -> float:
        shape = 1.0, 32_768.0, 32_768.0, met, 1.0, 1.0, 128.0, 4.0 * 32_768 * 128
        return float(prefill_attention_seconds(*shape, 1, device(rates), rates.prefill_attention[0]))

    # A window of 1024 keys is a thirty-second of the prompt; the longest tile must not be as long as without it.
    assert seconds(1008.0) < seconds(16_384.5) / 4
    assert seconds(16_384.5) < seconds(32_768.0)


def test_products_of_activations_need_numbers_of_their_own() -> None:
    user_gpu = dataclasses.replace(load_gpu("h100_sxm"), name="mine", architecture="of_no_relative", efficiency={})
    for sections in (("gemm_bf16",), ("gemm_bf16", "elementwise"), ("gemm_fp8", "elementwise")):
        efficiency = {name: load_gpu("h100_sxm").efficiency[name] for name in sections}
        for number_format in ("bf16", "fp8"):
            rates = gpu_arrays(dataclasses.replace(user_gpu, efficiency=efficiency), dtype(number_format))
            grouped = rates.sources[codes.GROUPED_TIME] != codes.ROOFLINE
            assert grouped == bool(rates.gemm["launch_s"].all() and rates.elementwise["launch_s"].all())
    assert codes.SOURCE_NAMES[arrays("h100_sxm", "fp8").sources[codes.GROUPED_TIME]] == "transferred"
    assert codes.SOURCE_NAMES[arrays("h100_sxm").sources[codes.GROUPED_TIME]] == "fitted"


def test_what_corrects_a_section_corrects_borrowed_rows_too() -> None:
    device = load_gpu("h100_sxm")
    efficiency = {**device.efficiency, "gemm_bf16": {**device.efficiency["gemm_bf16"], "time_scale": 1.5}}
    rates = gpu_arrays(dataclasses.replace(device, efficiency=efficiency), dtype("bf16"))
    for of in (codes.GEMM_TIME, codes.GROUPED_TIME):
        assert rates.intervals["time_scale"][[of, codes.NUM_TIME_CLASSES + of]].tolist() == [1.5, 1.5]
    assert rates.intervals["time_scale"][codes.PREFILL_ATTENTION_TIME] == 1.0


def test_waves_are_broken_or_whole() -> None:
    assert waves(15.0, 10.0, 0.0) == 1.5
    assert waves(15.0, 10.0, 1.0) == 2.0
    assert waves(3.0, 10.0, 0.0) == 1.0
    assert waves(15.0, 10.0, 0.5) == 1.75


def test_parts_overlap_between_their_sum_and_the_longer_one() -> None:
    assert overlapped(3.0, 4.0, 1.0) == 7.0
    assert overlapped(3.0, 4.0, 2.0) == pytest.approx(5.0)
    assert overlapped(4.0, 3.0, 1e3) == pytest.approx(4.0)


def test_a_long_kernel_is_throttled_by_its_share() -> None:
    assert throttled(1.0, 0.2, 1.0, 2.0) == pytest.approx(1.1)
    assert throttled(1e6, 0.2, 1.0, 2.0) == pytest.approx(1.2e6)
    assert throttled(1e-6, 0.2, 1.0, 2.0) == pytest.approx(1e-6)


def test_an_all_reduce_takes_the_better_way_and_none_alone() -> None:
    numbers = np.zeros(1, codes.ALL_REDUCE_PARAMETERS)
    for field, value in (("launch_s", 1e-6), ("peer_s", 1e-7), ("link_share", 0.8), ("one_shot_share", 0.8)):
        numbers[field] = value
    assert all_reduce_seconds(1e6, 1.0, 1e11, numbers[0]) == 0.0
    small, large = (float(all_reduce_seconds(size, 8.0, 1e11, numbers[0])) for size in (1e3, 1e9))
    assert small == pytest.approx(1.7e-6 + 7 * 1e3 / 8e10)
    assert large == pytest.approx(2 * 1.7e-6 + 2 * 7 / 8 * 1e9 / 8e10)
    sizes = [float(all_reduce_seconds(size, 4.0, 1e11, numbers[0])) for size in np.geomspace(1, 1e10, 200)]
    assert all(less <= more for less, more in pairwise(sizes))


def test_a_gpu_of_its_own_file_takes_its_architecture_s_numbers() -> None:
    user_gpu = dataclasses.replace(load_gpu("h100_sxm"), name="mine", efficiency={})
    transferred = gpu_arrays(user_gpu, dtype("bf16"))
    assert transferred.gemm[0] == arrays("h100_sxm").gemm[0]
    assert codes.SOURCE_NAMES[transferred.sources[codes.GEMM_TIME]] == "transferred"
    unknown = dataclasses.replace(user_gpu, architecture="of_no_relative")
    assert set(gpu_arrays(unknown, dtype("bf16")).sources) == {codes.ROOFLINE}


@pytest.mark.parametrize(
    ("name", "number_format", "source"),
    [
        ("h100_sxm", "bf16", "fitted"),
        ("h100_sxm", "fp16", "fitted"),
        ("h100_sxm", "fp8", "fitted"),
        ("h100_sxm", "int8", "transferred"),
        ("h100_sxm", "w4a16", "transferred"),
        ("b200_sxm", "fp4", "transferred"),
        ("h100_pcie", "bf16", "transferred"),
        ("h100_sxm", "fp32", "roofline"),
        ("mi300x", "bf16", "roofline"),
        ("t4", "fp16", "roofline"),
    ],
)
def test_a_format_that_was_not_measured_borrows_the_numbers(name: str, number_format: str, source: str) -> None:
    assert codes.SOURCE_NAMES[arrays(name, number_format).sources[codes.GEMM_TIME]] == source
