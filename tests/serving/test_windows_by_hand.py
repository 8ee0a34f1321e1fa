"""The fleet over time: means over windows of 2**-10 s, twice as long whenever 4,096 of them are full."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from asymsim import Scenario
from asymsim.serving.config import EngineConfig
from asymsim.serving.results import SimulationResult
from asymsim.serving.simulate import simulate
from asymsim.serving.workload.requests import make_requests
from asymsim.util.errors import InputError
from oracles.round_numbers import TICKS_PER_S, TOKEN_BYTES, engine_file, gpu_file, step_ticks, text_model

HOST_S = 2.0**-8
HOST = 2**34
WINDOW = 2**32
Span = tuple[int, int, float]


def windows(spans: list[Span], window: int, end: int) -> list[float]:
    """Mean of a quantity that has a value in each span (from, to, value) of ticks."""
    means = []
    for start in range(0, end, window):
        stop = min(start + window, end)
        total = sum(value * max(0, min(stop, until) - max(start, since)) for since, until, value in spans)
        means.append(total / (stop - start))
    return means


def peaks(spans: list[Span], window: int, end: int) -> list[float]:
    return [
        max([value for since, until, value in spans if since < min(start + window, end) and until > start], default=0)
        for start in range(0, end, window)
    ]


def serve(folder: Path, arrivals: list[float]) -> SimulationResult:
    """One at a time: 16 prompt tokens and 3 generated ones, on an engine whose host takes a 256th of a second."""
    scenario = Scenario(model=text_model(folder), gpu=gpu_file(folder), engine=engine_file(folder, HOST_S))
    return simulate(scenario, make_requests(arrivals, text_tokens=16, output_tokens=3), EngineConfig(max_num_seqs=1))


def expected(arrivals: list[int]) -> dict[str, list[Span]]:
    """Requests one after the other: a block while the prompt is computed, two while two tokens are generated."""
    prefill = HOST + step_ticks([(0, 16)])
    decode = 2 * HOST + step_ticks(contexts=[17]) + step_ticks(contexts=[18])
    spans: dict[str, list[Span]] = {"waiting": [], "running": [], "kv_bytes": []}
    free = 0
    for arrival in arrivals:
        start = max(free, arrival)
        free = start + prefill + decode
        spans["waiting"].append((arrival, start, 1))
        spans["running"].append((start, free, 1))
        spans["kv_bytes"] += [
            (start, start + prefill, 16 * TOKEN_BYTES),
            (start + prefill, free, 32 * TOKEN_BYTES),
        ]
    spans["busy"] = spans["running"]
    return spans


@pytest.mark.parametrize(
    ("arrivals", "doublings"),
    [
        ([0.0017], 0),
        ([0.0, 0.001], 0),
        ([0.0, 0.0, 0.0, 0.002], 0),
        ([0.0, 2.0, 3.99], 1),
        ([0.0, 0.001, 3.0, 10.0], 2),
    ],
)
def test_windows_are_means_over_time(arrivals: list[float], doublings: int, tmp_path: Path) -> None:
    made = serve(tmp_path, arrivals)
    spans = expected([round(each * TICKS_PER_S) for each in arrivals])
    window, end = WINDOW << doublings, max(until for _, until, _ in spans["running"])
    assert made.end_s == end / TICKS_PER_S
    for name, own in spans.items():
        assert made.timeline[name].tolist() == pytest.approx(windows(own, window, end), abs=1e-9), name
    assert made.timeline["kv_peak_bytes"].tolist() == peaks(spans["kv_bytes"], window, end)
    assert made.timeline["start_s"].tolist() == [at * window / TICKS_PER_S for at in range(len(made.timeline))]


def test_an_arrival_gives_back_the_blocks_of_steps_that_are_cut_off(tmp_path: Path) -> None:
    """A burst of 39 steps holds blocks for 55 tokens; cut to its fourth step, for 20, until the new prompt is through.

    Then the burst goes on to its end with what it needs: 34 steps after the joint one.
    """
    scenario = Scenario(model=text_model(tmp_path), gpu=gpu_file(tmp_path), engine=engine_file(tmp_path, HOST_S))
    prefill = HOST + step_ticks([(0, 16)])
    steps = [HOST + step_ticks(contexts=[16 + token]) for token in range(1, 40)]
    arrival, cut = prefill + sum(steps[:3]) + HOST // 2, prefill + sum(steps[:4])
    joint = cut + HOST + step_ticks([(0, 16)], [21])
    end = joint + sum(steps[5:])
    asked = make_requests([0.0, arrival / TICKS_PER_S], text_tokens=16, output_tokens=np.array([40, 1]))
    made = simulate(scenario, asked)
    assert made.end_s == end / TICKS_PER_S
    held = [(0, prefill, 16), (prefill, arrival, 64), (arrival, cut, 32), (cut, joint, 32 + 16), (joint, end, 64)]
    spans = [(since, until, tokens * TOKEN_BYTES) for since, until, tokens in held]
    assert made.timeline["kv_bytes"].tolist() == pytest.approx(windows(spans, WINDOW, end), rel=1e-9)


def test_a_window_has_all_replicas_and_requests_together(tmp_path: Path) -> None:
    """Three requests of one step: 3 running, 48 tokens of cache, one replica at work."""
    scenario = Scenario(model=text_model(tmp_path), gpu=gpu_file(tmp_path), engine=engine_file(tmp_path, HOST_S))
    made = simulate(scenario, make_requests(np.zeros(3), text_tokens=16, output_tokens=1))
    for name, value in (("waiting", 0), ("running", 3), ("kv_bytes", 48 * TOKEN_BYTES), ("busy", 1)):
        assert made.timeline[name].tolist() == pytest.approx([value] * len(made.timeline)), name


def test_no_requests_make_no_windows(tmp_path: Path) -> None:
    scenario = Scenario(model=text_model(tmp_path), gpu=gpu_file(tmp_path))
    made = simulate(scenario, make_requests([], text_tokens=16, output_tokens=1))
    assert (len(made.timeline), made.engine_steps, made.end_s) == (0, 0, 0.0)


def test_simulated_time_ends_after_eleven_days(tmp_path: Path) -> None:
    """2**62 - 2**58 ticks are 983,040 s: what is not done by then is an error, with the number of such requests."""
    scenario = Scenario(model=text_model(tmp_path), gpu=gpu_file(tmp_path))
    step_s = step_ticks([(0, 16)]) / TICKS_PER_S
    made = simulate(scenario, make_requests([983040.0 - step_s], text_tokens=16, output_tokens=1))
    assert made.end_s == 983040.0
    late = make_requests([0.0, 983040.0 - step_s + 1e-3], text_tokens=16, output_tokens=1)
    with pytest.raises(InputError, match="1 would not be done within 11 days"):
        simulate(scenario, late)
    refused = simulate(scenario, make_requests([983040.0], text_tokens=5000, output_tokens=1))
    assert refused.status.tolist() == [1]
    with pytest.raises(InputError, match="2 would not be done"):
        simulate(scenario, make_requests([0.0, 983040.5, 983041.0], text_tokens=16, output_tokens=1))


def test_arrivals_are_within_a_million_seconds(tmp_path: Path) -> None:
    scenario = Scenario(model=text_model(tmp_path), gpu=gpu_file(tmp_path))
    with pytest.raises(InputError, match="would not be done"):
        simulate(scenario, make_requests([1e6], text_tokens=16, output_tokens=1))
    with pytest.raises(InputError, match="give arrivals from 0 to 1000000 s"):
        simulate(scenario, make_requests([1e6 + 1], text_tokens=16, output_tokens=1))
