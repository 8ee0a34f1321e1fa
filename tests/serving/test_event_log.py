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


def test_progress_counts_the_requests_that_were_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looked at after each event: one was sent, then its step is over, and so on to the third."""
    monkeypatch.setattr(simulation, "EVENTS_PER_CALL", 1)
    scenario = Scenario(model=text_model(tmp_path), gpu=gpu_file(tmp_path))
    seen: list[tuple[int, int]] = []
    asked = make_requests(np.arange(3) * 0.0625, text_tokens=20, output_tokens=1)
    simulate(scenario, asked, progress=lambda sent, number: seen.append((sent, number)))
    assert seen == [(sent, 3) for sent in (1, 2, 3) for _ in range(3)]
