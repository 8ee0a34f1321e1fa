"""Lone requests and static batches: the simulation has the latencies of `asymsim.estimate` to the bit."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

import asymsim
from asymsim import Scenario
from asymsim.estimator.resolve import resolve
from asymsim.methods.base import registered_methods
from asymsim.serving.config import EngineConfig
from asymsim.serving.simulate import simulate
from asymsim.serving.workload.requests import make_requests
from asymsim.util.errors import AsymsimError

# One layer kind, windows, grouped heads, experts, cross-attention, several crops, chunks, text alone.
MODELS = (
    "llava-1.5-7b",
    "gemma-3-4b-it",
    "qwen2.5-vl-7b",
    "qwen3-vl-30b-a3b",
    "llama-3.2-11b-vision",
    "llava-v1.6-vicuna-7b",
    "llama-4-scout-17b-16e",
    "llama-3.1-8b",
)
HOSTS = ({}, {"engine": "vllm"}, {"tp_size": 2}, {"gpu": "l40s", "tp_size": 2, "engine": "sglang", "dtype": "fp8"})
# Models of any size fit, and every prompt is prefilled in one step.
ROOM = EngineConfig(max_num_batched_tokens=10**6, kv_cache_bytes=2**40)
TOKENS = {"text_tokens": 64, "output_tokens": 128}


def alike(name: str, model: str) -> bool:
    """Whether a method works on a model with one schedule; with several, `estimate` is a mean over them."""
    try:
        return len(resolve(Scenario(model=model, method=name)).schedules) == 1
    except AsymsimError:
        return False


PAIRS = [(name, model) for name in registered_methods() for model in MODELS if alike(name, model)]


@pytest.mark.parametrize(("name", "model"), PAIRS)
def test_one_request_takes_what_estimate_says(name: str, model: str) -> None:
    for host in HOSTS:
        scenario = Scenario(model=model, method=name, **TOKENS, **host)
        expected = asymsim.estimate(scenario).latency
        result = simulate(scenario, make_requests([0.25], **TOKENS), ROOM)
        assert result.queue_s[0] == 0.0
        assert result.ttft_s[0] == expected.ttft_s.p50
        assert (result.e2e_s - result.ttft_s)[0] / 127 == expected.tpot_s.p50
        assert result.e2e_s[0] == expected.e2e_s.p50


@pytest.mark.parametrize("batch", [2, 8, 32, 11])
@pytest.mark.parametrize("name", ["none", "fastv", "visionzip", "snapkv", "vl_cache", "pyramiddrop", "h2o", "desap"])
@pytest.mark.parametrize("model", ["llava-1.5-7b", "qwen2.5-vl-7b", "gemma-3-4b-it"])
def test_equal_requests_at_once_are_a_static_batch(model: str, name: str, batch: int) -> None:
    """To the bit in powers of two, but for a method's own work: its share by batch has 20 bits."""
    batch_latency = asymsim.estimate(Scenario(model=model, method=name, batch_size=batch, **TOKENS)).latency
    result = simulate(Scenario(model=model, method=name, **TOKENS), make_requests(np.zeros(batch), **TOKENS), ROOM)
    assert result.engine_steps == 128
    for column in (result.ttft_s, result.e2e_s):
        assert len(set(column)) == 1
    tpot_s = (result.e2e_s - result.ttft_s)[0] / 127
    # Between powers of two what requests share is interpolated.
    tolerance = 0.01 if batch == 11 else 1e-6
    assert result.ttft_s[0] == pytest.approx(batch_latency.ttft_s.p50, rel=tolerance)
    assert tpot_s == pytest.approx(batch_latency.tpot_s.p50, rel=tolerance)
    assert tpot_s == batch_latency.tpot_s.p50 or name == "h2o"
    assert result.ttft_s[0] == batch_latency.ttft_s.p50 or batch_latency.selection_s.p50 > 0 or batch == 11


def test_budgets_that_adapt_are_drawn_with_their_shares() -> None:
    """Each request gets one schedule of the mixture; all of them together what `estimate` expects on average."""
    scenario = Scenario(model="llava-1.5-7b", method="asymvlm", keep=0.5, **TOKENS)
    resolved = resolve(scenario)
    assert len(resolved.schedules) > 1
    number = 20_000
    result = simulate(scenario, make_requests(10.0 * np.arange(number), **TOKENS))
    prompt_counts = Counter(result.prompt_tokens.tolist())
    assert len(prompt_counts) == len({share for share, _ in resolved.schedules})
    for share, count in zip(
        sorted(share for share, _ in resolved.schedules), sorted(prompt_counts.values()), strict=True
    ):
        assert count / number == pytest.approx(share, abs=4 * np.sqrt(share / number))
    expected = asymsim.estimate(scenario).latency
    assert result.ttft_s.mean() == pytest.approx(expected.ttft_s.p50, rel=0.01)
