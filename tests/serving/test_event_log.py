"""The event log of small runs, event by event."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from asymsim import Scenario
from asymsim.core.serving.layout import EVENTS, STATUS
from asymsim.serving import simulate as simulation
from asymsim.serving.config import ClusterConfig, EngineConfig
from asymsim.serving.results import SimulationResult
from asymsim.serving.simulate import simulate
from asymsim.serving.workload.requests import make_requests
from oracles.round_numbers import (
    TICKS_EACH,
    TICKS_PER_S,
    TOKEN_BYTES,
    alone_ticks,
    encoder_bytes,
    gpu_file,
    image_model,
    step_ticks,
    text_model,
)


def events_of(made: SimulationResult) -> list[tuple[int, str, int, int, int, int]]:
    """Ticks, kind, request, replica, value and duration of each event."""
    return [(ticks, EVENTS[kind], *rest) for ticks, kind, *rest in made.event_log.tolist()]


def test_two_requests_on_one_replica(tmp_path: Path) -> None:
    """The second's prompt takes the 44 tokens that the first leaves of its step, then 6 beside the first one's decode.

    Once it is through, both decode; the last of three tokens of the first, then the second alone.
    """
    scenario = Scenario(model=text_model(tmp_path), gpu=gpu_file(tmp_path))
    asked = make_requests([0.0, 0.0], text_tokens=np.array([20, 50]), output_tokens=np.array([3, 4]))
    made = simulate(scenario, asked, EngineConfig(max_num_batched_tokens=64, max_num_seqs=4), events=100)
    first = step_ticks([(0, 20), (0, 44)])
    second = first + step_ticks([(44, 50)], [21])
    third = second + step_ticks(contexts=[22, 51])
    fourth = third + step_ticks(contexts=[52]) + step_ticks(contexts=[53])
    assert events_of(made) == [
        (0, "arrive", 0, 0, 0, 0),
        (0, "arrive", 1, 0, 0, 0),
        (0, "schedule", 0, 0, 20, 0),
        (0, "schedule", 1, 0, 44, 0),
        (0, "step", -1, 0, 1, first),
        (first, "first_token", 0, 0, 0, 0),
        (first, "step", -1, 0, 1, second - first),
        (second, "first_token", 1, 0, 0, 0),
        (second, "step", -1, 0, 1, third - second),
        (third, "finish", 0, 0, 0, 0),
        (third, "step", -1, 0, 2, fourth - third),
        (fourth, "finish", 1, 0, 0, 0),
    ]


def test_the_log_keeps_the_first_events(tmp_path: Path) -> None:
    scenario = Scenario(model=text_model(tmp_path), gpu=gpu_file(tmp_path))
    asked = make_requests([0.0, 0.0625], text_tokens=20, output_tokens=2)
    whole = simulate(scenario, asked, events=100).event_log
    assert len(whole) == 2 * 6
    for number in (0, 1, 5, 12):
        assert simulate(scenario, asked, events=number).event_log.tolist() == whole[:number].tolist()


def test_a_refused_request_and_an_image_on_the_second_replica(tmp_path: Path) -> None:
    scenario = Scenario(model=image_model(tmp_path), gpu=gpu_file(tmp_path))
    asked = make_requests(
        np.array([0.0, 0.0, 0.0]),
        text_tokens=np.array([5000, 10, 4]),
        output_tokens=1,
        num_images=np.array([0, 0, 1]),
        visual_tokens=np.array([0, 0, 16]),
    )
    made = simulate(scenario, asked, cluster_config=ClusterConfig(replicas=2), events=100)
    short, encoding = alone_ticks(10, 1)[0], TICKS_EACH * encoder_bytes(1)
    long = encoding + alone_ticks(20, 1)[0]
    assert events_of(made) == [
        (0, "reject", 0, -1, STATUS.index("too_long"), 0),
        (0, "arrive", 1, 0, 0, 0),
        (0, "arrive", 2, 1, 0, 0),
        (0, "schedule", 1, 0, 10, 0),
        (0, "encode", 2, 1, 16, encoding),
        (0, "schedule", 2, 1, 20, 0),
        (0, "step", -1, 0, 1, short),
        (short, "first_token", 1, 0, 0, 0),
        (short, "finish", 1, 0, 0, 0),
        (0, "step", -1, 1, 1, long),
        (long, "first_token", 2, 1, 0, 0),
        (long, "finish", 2, 1, 0, 0),
    ]


def test_a_request_too_large_says_so(tmp_path: Path) -> None:
    scenario = Scenario(model=text_model(tmp_path), gpu=gpu_file(tmp_path))
    asked = make_requests([0.5], text_tokens=17, output_tokens=1)
    made = simulate(scenario, asked, EngineConfig(kv_cache_bytes=31 * TOKEN_BYTES), events=100)
    assert events_of(made) == [(2**41, "reject", 0, -1, STATUS.index("too_large"), 0)]
    assert made.sent_s.tolist() == [0.5]
    # Nothing was done: the run ends where it began.
    assert made.end_s == 0.0
    assert np.isnan(made.queue_s[0])


def test_equal_times_are_taken_in_order_of_replicas(tmp_path: Path) -> None:
    """Three replicas whose steps all end at the same tick."""
    scenario = Scenario(model=text_model(tmp_path), gpu=gpu_file(tmp_path))
    made = simulate(
        scenario,
        make_requests(np.zeros(3), text_tokens=20, output_tokens=3),
        cluster_config=ClusterConfig(replicas=3),
        events=99,
    )
    log = events_of(made)
    assert [replica for _, kind, _, replica, *_ in log if kind == "first_token"] == [0, 1, 2]
    assert [replica for _, kind, _, replica, *_ in log if kind == "finish"] == [0, 1, 2]


def test_an_arrival_from_a_pool_comes_before_the_end_of_a_step_at_its_tick(tmp_path: Path) -> None:
    """The second request's cache reaches the decoder at the tick at which the first one's last step is over."""
    scenario = Scenario(model=text_model(tmp_path), gpu=gpu_file(tmp_path))
    pools = ClusterConfig(replicas=0, prefill_replicas=1, decode_replicas=1, transfer_bytes_per_s=2.0**38)
    prefill, moving = step_ticks([(0, 16)]), 16 * TOKEN_BYTES * 2**4
    last = prefill + moving + sum(step_ticks(contexts=[16 + token]) for token in range(1, 6))
    asked = make_requests(
        [0.0, (last - moving - prefill) / TICKS_PER_S], text_tokens=16, output_tokens=np.array([6, 2])
    )
    made = simulate(scenario, asked, cluster_config=pools, events=100)
    at_once = [(kind, request, replica) for ticks, kind, request, replica, *_ in events_of(made) if ticks == last]
    assert at_once[:3] == [("arrive", 1, 1), ("finish", 0, 1), ("schedule", 1, 1)]
    assert ("transfer", 1, 0) in [(kind, request, replica) for _, kind, request, replica, *_ in events_of(made)]


def test_a_burst_is_not_cut_for_those_behind_a_request_that_waits(tmp_path: Path) -> None:
    """The first holds the cache; the second, which ends its burst once, waits for it, and the third behind that."""
    scenario = Scenario(model=text_model(tmp_path), gpu=gpu_file(tmp_path))
    prefill, step = step_ticks([(0, 16)]), step_ticks(contexts=[17])
    arrivals = [0.0, (prefill + 4.5 * step) / TICKS_PER_S, (prefill + 10.5 * step) / TICKS_PER_S]
    asked = make_requests(arrivals, text_tokens=np.array([16, 48, 16]), output_tokens=np.array([40, 1, 1]))
    made = simulate(scenario, asked, EngineConfig(kv_cache_bytes=64 * TOKEN_BYTES), events=100)
    steps = [value for _, kind, _, _, value, _ in events_of(made) if kind == "step"]
    assert steps == [1, 5, 34, 1]
    assert made.queue_s[1] + made.sent_s[1] == made.queue_s[2] + made.sent_s[2] == made.e2e_s[0]


def test_a_preemption_has_its_name(tmp_path: Path) -> None:
    scenario = Scenario(model=text_model(tmp_path), gpu=gpu_file(tmp_path))
    asked = make_requests([0.0, 0.0], text_tokens=16, output_tokens=40)
    made = simulate(scenario, asked, EngineConfig(kv_cache_bytes=64 * TOKEN_BYTES), events=100)
    assert [(kind, *rest) for _, kind, *rest in events_of(made) if kind == "preempt"] == [("preempt", 1, 0, 17, 0)]


def test_progress_counts_the_requests_that_were_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looked at after each event: one was sent, then its step is over, and so on to the third."""
    monkeypatch.setattr(simulation, "EVENTS_PER_CALL", 1)
    scenario = Scenario(model=text_model(tmp_path), gpu=gpu_file(tmp_path))
    seen: list[tuple[int, int]] = []
    asked = make_requests(np.arange(3) * 0.0625, text_tokens=20, output_tokens=1)
    simulate(scenario, asked, progress=lambda sent, number: seen.append((sent, number)))
    assert seen == [(sent, 3) for sent in (1, 2, 3) for _ in range(3)]
