"""The compiled simulator against the naive one: the same events at the same ticks, for any fleet and requests."""

from __future__ import annotations

import dataclasses
from collections import Counter
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asymsim import Scenario
from asymsim.core.serving.fleet import advance
from asymsim.core.serving.layout import State
from asymsim.estimator.operator_table import kv_bytes_per_token
from asymsim.estimator.resolve import ResolvedScenario, resolve
from asymsim.serving.config import ClusterConfig, EngineConfig
from asymsim.serving.request_classes import request_classes
from asymsim.serving.state import initial_state
from asymsim.serving.workload.requests import Requests, make_requests
from oracles.plain_classes import Classes
from oracles.plain_fleet import PlainFleet, named

EVENTS = 20_000
# What each is here for: fused layers, layers that read weights, pruning inside, caches that are cut, evicted or kept
# by head, work in decoding, budgets by sample, cross-attention, windows, chunks.
SETTINGS: tuple[dict[str, Any], ...] = (
    {"model": "llava-1.5-7b"},
    {"model": "llava-1.5-7b", "method": "fastv", "keep": 0.5},
    {"model": "llava-1.5-7b", "method": "sparsevlm"},
    {"model": "llava-1.5-7b", "method": "asymvlm"},
    {"model": "llava-1.5-7b", "method": "desap", "tp_size": 2, "engine": "vllm"},
    {"model": "llava-1.5-7b", "method": "snapkv", "settings": {"capacity": 48, "window": 8}},
    {"model": "llava-1.5-7b", "method": "streamingllm"},
    {"model": "qwen2.5-vl-7b", "method": "duoattention", "engine": "sglang"},
    {"model": "llama-3.2-11b-vision"},
    {"model": "gemma-3-4b-it", "dtype": "fp16", "gpu": "l4"},
)


@cache
def bound(index: int) -> ResolvedScenario:
    return resolve(Scenario(**SETTINGS[index]))


@st.composite
def asked(draw: st.DrawFn) -> Requests:
    number = draw(st.integers(1, 12))
    gaps = draw(st.lists(st.sampled_from([0.0, 0.001, 0.004, 0.011, 0.05]), min_size=number, max_size=number))

    def column(values: st.SearchStrategy[int]) -> np.ndarray[Any, Any]:
        return np.array(draw(st.lists(values, min_size=number, max_size=number)))

    return make_requests(
        np.cumsum(gaps),
        text_tokens=column(st.one_of(st.integers(1, 40), st.integers(1, 40), st.integers(1, 400))),
        output_tokens=column(st.one_of(st.integers(1, 6), st.integers(30, 60))),
        num_images=1,
        visual_tokens=column(st.sampled_from([0, 1, 17, 64, 100])),
        image_of=column(st.integers(-1, 2)),
    )


FLEETS = st.one_of(
    st.builds(
        ClusterConfig,
        replicas=st.integers(1, 3),
        router=st.sampled_from(["round_robin", "least_loaded"]),
        concurrency=st.sampled_from([0, 0, 1, 3]),
    ),
    st.builds(
        ClusterConfig,
        replicas=st.just(0),
        encoder_replicas=st.integers(0, 2),
        prefill_replicas=st.integers(1, 2),
        decode_replicas=st.integers(1, 2),
        transfer_bytes_per_s=st.sampled_from([1e9, 50e9]),
        transfer_latency_s=st.sampled_from([0.0, 0.003]),
    ),
)
SERVERS = st.builds(
    EngineConfig,
    max_num_seqs=st.integers(1, 6),
    max_num_batched_tokens=st.sampled_from([16, 100, 512, 4096]),
    chunked_prefill=st.booleans(),
    max_model_len=st.sampled_from([200, 4096]),
    encoder_budget_tokens=st.sampled_from([None, 64, 150]),
    encoder_cache_tokens=st.sampled_from([None, 70, 200]),
    prefix_share=st.sampled_from([0.0, 0.0, 0.6]),
)


# Tokens of cache: from less than some requests need to plenty.
KV_TOKENS = st.sampled_from([64, 96, 128, 160, 200, 260, 400, 4096])


def with_cache(server: EngineConfig, index: int, tokens: int) -> EngineConfig:
    target = bound(index)
    return dataclasses.replace(
        server, kv_cache_bytes=tokens * kv_bytes_per_token(target.model, target.precision.kv_bits)
    )


def plain(index: int, requested: Requests, server: EngineConfig, fleet: ClusterConfig) -> PlainFleet:
    return PlainFleet(Classes(Scenario(**SETTINGS[index]), requested, server), server, fleet)


def both(
    index: int, requested: Requests, server: EngineConfig, fleet: ClusterConfig
) -> tuple[State, list[Any], list[Any]]:
    kinds = request_classes(bound(index), requested, server)
    state, pace, limits = initial_state(bound(index), kinds, requested, server, fleet, EVENTS)
    while advance(state, pace, limits, 1000):
        pass
    assert state.fleet[0]["events"] <= EVENTS
    return state, named(state.log[: state.fleet[0]["events"]]), plain(index, requested, server, fleet).run()


@settings(max_examples=200)
@given(index=st.integers(0, len(SETTINGS) - 1), requested=asked(), server=SERVERS, fleet=FLEETS, tokens=KV_TOKENS)
def test_events_are_those_of_the_naive_simulator(
    index: int, requested: Requests, server: EngineConfig, fleet: ClusterConfig, tokens: int
) -> None:
    state, found, expected = both(index, requested, with_cache(server, index, tokens), fleet)
    assert found == expected
    check_conservation(state, found, len(requested))


def check_conservation(state: State, log: list[Any], number: int) -> None:
    """Whoever came is waiting, running, on the way or done, at every event; and all that was allocated was freed."""
    seen, moving = Counter[str](), set[int]()
    for _, kind, request, _, value, _ in log:
        if request < 0:
            continue
        if kind == "arrive":
            seen["waiting"] += 1
            seen["moving" if value in (2, 3) and seen["moving"] else "arrived"] += (
                -1 if value in (2, 3) and seen["moving"] else 1
            )
        elif kind == "schedule":
            seen["waiting"] -= 1
            seen["running"] += 1
        elif kind == "preempt":
            seen["running"] -= 1
            seen["waiting"] += 1
        elif kind == "transfer":
            seen["running"] -= 1
            seen["moving"] += 1
            moving.add(request)
        elif kind == "finish":
            seen["running"] -= 1
            seen["done"] += 1
        elif kind == "reject":
            seen["rejected"] += 1
        assert min(seen.values(), default=0) >= 0
        assert seen["arrived"] == seen["waiting"] + seen["running"] + seen["moving"] + seen["done"]
    assert seen["done"] + seen["rejected"] == number
    fleet = state.fleet[0]
    assert fleet["allocated_bytes"] == fleet["freed_bytes"]
    assert fleet["kv_bytes"] == fleet["waiting"] == fleet["running"] == fleet["busy"] == fleet["in_flight"] == 0
    assert (state.replicas["kv_bytes"] == 0).all()
    assert (state.replicas["referenced_tokens"] == 0).all()


@pytest.mark.parametrize("index", range(len(SETTINGS)))
def test_a_crowd_on_a_small_cache_is_preempted_and_served(index: int) -> None:
    rows = np.arange(12)
    requested = make_requests(rows * 1e-4, text_tokens=20 + rows, output_tokens=60, visual_tokens=32)
    whole = plain(index, requested, EngineConfig(kv_cache_bytes=2**40), ClusterConfig()).requests[-1].bytes_at(59)
    server = EngineConfig(max_num_seqs=6, kv_cache_bytes=3 * whole)
    state, found, expected = both(index, requested, server, ClusterConfig())
    assert found == expected
    check_conservation(state, found, 12)
    assert sum(kind == "preempt" for _, kind, *_ in found) > 0


def test_a_decoder_takes_the_cache_that_a_method_left() -> None:
    """Found by a search: a pool that reserved the whole prompt anew never began what had come with its cache."""
    asked_for = make_requests([0.0], text_tokens=64, output_tokens=2, visual_tokens=0)
    server = with_cache(EngineConfig(max_num_batched_tokens=16, max_num_seqs=1, chunked_prefill=False), 5, 64)
    pools = ClusterConfig(replicas=0, prefill_replicas=1, decode_replicas=1)
    state, found, expected = both(5, asked_for, server, pools)
    assert found == expected
    check_conservation(state, found, 1)
