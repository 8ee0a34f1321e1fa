"""Predictions for a run: the simulator's own estimate, with the head in 16 bits and only as many requests as fit."""

from __future__ import annotations

import numpy as np
import pytest

from asymsim import Scenario, estimate
from asymsim.catalogue.gpu import load_gpu
from asymsim.util.errors import InputError
from asymsim.validation.serving_runs.deployment import ClassTimes, predict
from oracles.serving_runs import run_of

H100 = load_gpu("h100_sxm")


@pytest.mark.parametrize("engine", ["vllm", "trtllm"])
def test_a_16_bit_model_takes_what_estimate_says(engine: str) -> None:
    found = predict(run_of(engine=engine))
    scenario = Scenario(model="llama-3.1-8b", text_tokens=1024, output_tokens=128, batch_size=8)
    step = estimate(scenario).latency.tpot_s
    assert found.decode.interval() == pytest.approx((step.p05, step.p50, step.p95), rel=1e-12)
    alone = Scenario(model="llama-3.1-8b", text_tokens=1024, output_tokens=1, batch_size=1)
    first = estimate(alone).latency.ttft_s
    assert found.prefill.interval() == pytest.approx((first.p05, first.p50, first.p95), rel=1e-12)


def test_an_8_bit_model_keeps_its_head_in_16() -> None:
    found = predict(run_of(dtype="fp8", batch_size=1, engine="sglang"))
    scenario = Scenario(model="llama-3.1-8b", text_tokens=1024, output_tokens=128, batch_size=1, dtype="fp8")
    step = estimate(scenario).latency.tpot_s
    extra_s = 128256 * 4096 / H100.bandwidth_bytes_per_s
    assert found.decode.interval().p50 - step.p50 == pytest.approx(extra_s, rel=0.2)


def test_the_roofline_of_a_step_is_weights_and_cache_over_bandwidth() -> None:
    """One sequence is far below the ridge: all but the embedding is read once, and the cache at the mean context."""
    found = predict(run_of(batch_size=1))
    weights = 2 * (8_030_261_248 - 128256 * 4096)
    cache = (1024 + (1 + 127) / 2) * 32 * 2 * 8 * 128 * 2
    at_least = (weights + cache) / H100.bandwidth_bytes_per_s
    assert at_least <= found.decode.roofline_s <= 1.01 * at_least
    assert found.decode.roofline_s < found.decode.interval().p05


def test_only_an_engine_that_fuses_spares_the_quantisation() -> None:
    bf16, fp8 = (
        [predict(run_of(engine=name, dtype=dtype)).decode.interval().p50 for name in ("trtllm", "sglang", "vllm")]
        for dtype in ("bf16", "fp8")
    )
    assert bf16[0] == bf16[1] == bf16[2]
    assert fp8[0] < fp8[1] == fp8[2] < bf16[0]


def test_as_many_requests_as_the_cache_holds() -> None:
    """70B in fp8 on one H200, by hand: 90 % of the device less weights, over 160 KiB a token of fp8 cache."""
    run = run_of(model="llama-3.1-70b", gpu=load_gpu("h200_sxm"), dtype="fp8", kv_dtype="fp8", input_tokens=8192)
    room = 0.9 * run.gpu.capacity_bytes - (70_553_706_496 + 2 * 128256 * 8192) - 32 * 2**20
    tokens = -(-(8192 + 127) // 16) * 16
    held = int(room // (tokens * 80 * 2 * 8 * 128))
    assert predict(run_of(**{**vars(run), "batch_size": held})).running == held
    full = predict(run_of(**{**vars(run), "batch_size": held + 1}))
    assert (full.running, full.queued, full.judged) == (held, True, False)


def test_a_model_that_does_not_fit_runs_one_request() -> None:
    assert predict(run_of(model="llama-3.1-70b", batch_size=4)).running == 1


def test_others_prefills_are_shared_over_the_output() -> None:
    found = predict(run_of())
    parts = found.engine_step.seconds - found.decode.seconds
    assert np.allclose(parts, found.prefill.seconds * 7 / 128)
    assert predict(run_of(batch_size=1)).engine_step.interval() == predict(run_of(batch_size=1)).decode.interval()


def test_faster_than_the_roofline_is_impossible() -> None:
    floor_s = predict(run_of()).engine_step.roofline_s
    assert predict(run_of(tpot_s=floor_s)).possible
    assert not predict(run_of(tpot_s=0.999 * floor_s)).possible


def test_classes_add_within_and_join_as_squares_between() -> None:
    seconds = np.zeros_like(ClassTimes.zero().seconds)
    seconds[0], seconds[1] = (7, 10, 16), (6, 10, 18)
    assert (ClassTimes(seconds, 1.0) * 2 + ClassTimes(seconds, 1.0)).interval() == (60 - 15, 60, 60 + 30)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"gpu": load_gpu("a100_80gb_sxm"), "dtype": "fp8"}, "dtype"),
        ({"input_tokens": 10**8, "batch_size": 1000}, "batch_size x tokens"),
        ({"input_tokens": 10**9 - 1}, "text_tokens"),
        ({"batch_size": 10**9 - 1}, "batch_size"),
    ],
)
def test_what_cannot_be_predicted_is_named_with_its_line(changes: dict[str, object], field: str) -> None:
    with pytest.raises(InputError, match=rf"line 2: {field} = "):
        predict(run_of(**changes))
