"""The router: whose turn it is, and how much a waiting request weighs beside a running one."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from asymsim import Scenario
from asymsim.serving.config import ClusterConfig, EngineConfig
from asymsim.serving.results import SimulationResult
from asymsim.serving.simulate import simulate
from asymsim.serving.workload.requests import make_requests
from oracles.round_numbers import TICKS_PER_S, gpu_file, step_ticks, text_model

LEAST, TURNS = "least_loaded", "round_robin"
Router = Literal["round_robin", "least_loaded"]


def serve(
    folder: Path, arrivals: object, output: object, fleet: ClusterConfig, server: EngineConfig | None = None
) -> SimulationResult:
    scenario = Scenario(model=text_model(folder), gpu=gpu_file(folder))
    return simulate(scenario, make_requests(arrivals, text_tokens=16, output_tokens=output), server, fleet)  # type: ignore[arg-type]


@pytest.mark.parametrize(("running", "expected"), [(5, [1, 1, 0]), (7, [1, 1, 0, 1]), (3, [1, 0, 1]), (8, [1, 1, 0])])
def test_a_waiting_request_weighs_as_four_that_run(running: int, expected: list[int], tmp_path: Path) -> None:
    """The first replica runs so many long requests, the second's short ones are done when more come at once.

    Each of the new ones waits, and adds four to its replica: against 5, the second replica takes 0 -> 4 -> 8, and the
    third request goes to the first; against 8, equals go to the first too.
    """
    long_and_short = [400, 1] * running
    late_s = 3 * step_ticks([(0, 16)] * running) / TICKS_PER_S
    arrivals = np.array([0.0] * len(long_and_short) + [late_s] * len(expected))
    output = np.array(long_and_short + [1] * len(expected))
    made = serve(tmp_path, arrivals, output, ClusterConfig(replicas=2, router=LEAST))
    assert made.replica.tolist() == [0, 1] * running + expected


@pytest.mark.parametrize("replicas", [1, 2, 3])
def test_turns_go_round(replicas: int, tmp_path: Path) -> None:
    made = serve(tmp_path, np.zeros(7), 4, ClusterConfig(replicas=replicas, router=TURNS))
    assert made.replica.tolist() == [at % replicas for at in range(7)]


def test_each_pool_has_its_own_turn(tmp_path: Path) -> None:
    pools = ClusterConfig(replicas=0, prefill_replicas=2, decode_replicas=3, router=TURNS)
    made = serve(tmp_path, np.arange(6) * 0.0625, 3, pools)
    assert made.replica.tolist() == [0, 1, 0, 1, 0, 1]
    # The decoders' time shows who had which: each of the three had two of six.
    assert len(set(made.busy_s[2:])) == 1
    assert made.busy_s[2] > 0


@pytest.mark.parametrize("router", [LEAST, TURNS])
def test_replicas_serve_side_by_side(router: Router, tmp_path: Path) -> None:
    made = serve(tmp_path, np.zeros(4), 5, ClusterConfig(replicas=4, router=router), EngineConfig(max_num_seqs=1))
    assert len(set(made.e2e_s)) == 1
    assert not made.queue_s.any()
    assert made.busy_s.tolist() == [made.end_s] * 4
    assert made.engine_steps == 4 * 5


@pytest.mark.parametrize("most", [1, 2, 3])
def test_no_more_than_the_concurrency_are_sent(most: int, tmp_path: Path) -> None:
    """Six at once, one served at a time: each further one is sent when an earlier one is done."""
    made = serve(tmp_path, np.zeros(6), 5, ClusterConfig(concurrency=most), EngineConfig(max_num_seqs=1))
    alone = made.e2e_s[0]
    assert made.sent_s == pytest.approx([max(0, at - most + 1) * alone for at in range(6)])
    assert made.queue_s == pytest.approx([min(at, most - 1) * alone for at in range(6)])
    assert made.e2e_s == pytest.approx([min(at + 1, most) * alone for at in range(6)])


def test_a_request_that_comes_after_the_others_are_done_is_sent_when_it_comes(tmp_path: Path) -> None:
    made = serve(tmp_path, [0.0, 0.0, 0.5], 5, ClusterConfig(concurrency=1))
    assert made.sent_s[2] == 0.5
    assert made.sent_s[1] == made.e2e_s[0]


def test_a_refused_request_is_not_in_flight(tmp_path: Path) -> None:
    made = serve(tmp_path, np.zeros(3), np.array([5000, 5, 5]), ClusterConfig(concurrency=1))
    assert made.sent_s[:2].tolist() == [0.0, 0.0]
    assert made.sent_s[2] == made.e2e_s[1]
