"""Gaps between tokens: the bins that count them, and the gaps that a preemption or a change of pool makes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from asymsim import Scenario
from asymsim.serving.config import ClusterConfig, EngineConfig
from asymsim.serving.results import SimulationResult
from asymsim.serving.simulate import simulate
from asymsim.serving.workload.requests import make_requests
from oracles.round_numbers import (
    TICKS_PER_S,
    TOKEN_BYTES,
    alone_ticks,
    binned,
    engine_file,
    gpu_file,
    step_ticks,
    text_model,
)

BINS = 4500


def ticks(seconds: object) -> list[int]:
    return [int(each) for each in np.rint(np.asarray(seconds) * TICKS_PER_S)]


def serve_text(folder: Path, arrivals: list[float], prompt: int, output: object, *servers: object) -> SimulationResult:
    scenario = Scenario(model=text_model(folder), gpu=gpu_file(folder))
    return simulate(scenario, make_requests(arrivals, text_tokens=prompt, output_tokens=output), *servers)  # type: ignore[arg-type]


def test_the_median_gap_of_a_lone_request_is_its_time_per_output_token(tmp_path: Path) -> None:
    """All gaps of one burst of decode steps are their mean: 20 of them, in the bin that holds it."""
    made = serve_text(tmp_path, [0.0], 30, 21)
    first, last = alone_ticks(30, 21)
    tpot_s = (last - first) / 20 / TICKS_PER_S
    assert made.gap_histogram.tolist() == binned([((last - first) // 20, 20)], BINS)
    (place,) = np.flatnonzero(made.gap_histogram)
    assert 1e-6 * 1.005**place <= tpot_s < 1e-6 * 1.005 ** (place + 1)


@pytest.mark.parametrize("host_s", [1e-6, 1e-5, 1e-3, 0.0123, 1.0, 6000.0])
def test_a_gap_of_any_length_has_its_bin(host_s: float, tmp_path: Path) -> None:
    """From a few microseconds to beyond the last bin, which begins at 5,555 s and takes all longer ones."""
    gpu, engine = gpu_file(tmp_path, rate=2.0**36), engine_file(tmp_path, host_s)
    scenario = Scenario(model=text_model(tmp_path), gpu=gpu, engine=engine)
    made = simulate(scenario, make_requests([0.0], text_tokens=16, output_tokens=2))
    gap_s = host_s + step_ticks(contexts=[17]) / 2**8 / TICKS_PER_S
    assert made.gap_histogram.sum() == 1
    (place,) = np.flatnonzero(made.gap_histogram)
    assert 1e-6 * 1.005**place <= gap_s
    assert gap_s < 1e-6 * 1.005 ** (place + 1) or place == BINS - 1
    assert (place == BINS - 1) == (gap_s > 5555)


def test_gaps_below_a_microsecond_are_in_the_first_bin(tmp_path: Path) -> None:
    """With 2**40 bytes/s the smallest step takes a quarter of one."""
    scenario = Scenario(model=text_model(tmp_path), gpu=gpu_file(tmp_path, rate=2.0**40))
    made = simulate(scenario, make_requests([0.0], text_tokens=1, output_tokens=4))
    assert 0 < (made.e2e_s - made.ttft_s)[0] < 3e-6
    assert made.gap_histogram[0] == made.gap_histogram.sum() == 3


def test_the_token_after_a_change_of_pool_has_waited_for_the_transfer(tmp_path: Path) -> None:
    """20 prompt tokens of 256 bytes at 2**24 bytes/s and 2**-10 s of latency; then four steps of the decoder."""
    pools = ClusterConfig(
        replicas=0,
        prefill_replicas=1,
        decode_replicas=1,
        transfer_bytes_per_s=2.0**24,
        transfer_latency_s=2.0**-10,
    )
    made = serve_text(tmp_path, [0.0], 20, 5, EngineConfig(), pools)
    moving = 20 * TOKEN_BYTES * 2**18 + 2**32
    first, last = alone_ticks(20, 5)
    assert (ticks(made.ttft_s), ticks(made.e2e_s)) == ([first], [last + moving])
    mean = (last - first) // 4
    assert made.gap_histogram.tolist() == binned([(moving + mean, 1), (mean, 3)], BINS)


def test_the_token_after_a_preemption_has_waited_for_the_cache_to_be_computed_anew(tmp_path: Path) -> None:
    """Two requests of 16 and 40 tokens in a cache of 64.

    At 32 entries each it is full: the second gives its cache back and waits until the first is done, then computes its
    16 prompt and 17 generated tokens anew.
    """
    made = serve_text(tmp_path, [0.0, 0.0], 16, 40, EngineConfig(kv_cache_bytes=64 * TOKEN_BYTES))
    prefill = step_ticks([(0, 16), (0, 16)])
    together = sum(step_ticks(contexts=[16 + token] * 2) for token in range(1, 17))
    single = step_ticks(contexts=[33])
    rest = sum(step_ticks(contexts=[16 + token]) for token in range(18, 40))
    again = step_ticks([(0, 33)])
    done = prefill + together + single + rest
    assert ticks(made.ttft_s) == [prefill, prefill]
    assert made.preemptions.tolist() == [0, 1]
    assert ticks(made.e2e_s) == [done, done + again + rest]
    waited = single + rest + again
    expected = [(together // 16, 32), (single, 1), (rest // 22, 22), (waited, 1), (rest // 22, 22)]
    assert made.gap_histogram.tolist() == binned(expected, BINS)
    assert made.engine_steps == 1 + 16 + 1 + 22 + 1 + 22


def test_a_preemption_between_chunks_makes_no_gap(tmp_path: Path) -> None:
    """A prompt that gives its first chunk back had no token yet: all its gaps are decode steps.

    The first request decodes from 16 tokens on; the second's 60 hold four blocks from their first chunk of 16 on, until
    the first needs a third block and takes it.
    """
    server = EngineConfig(kv_cache_bytes=6 * 16 * TOKEN_BYTES, max_num_batched_tokens=16, max_num_seqs=2)
    scenario = Scenario(model=text_model(tmp_path), gpu=gpu_file(tmp_path))
    asked = make_requests([0.0, 0.0], text_tokens=np.array([31, 60]), output_tokens=np.array([20, 3]))
    made = simulate(scenario, asked, server)
    assert made.preemptions.tolist() == [0, 1]
    assert made.gap_histogram.sum() == 19 + 2
    assert (
        np.flatnonzero(made.gap_histogram).max()
        <= np.flatnonzero(binned([(step_ticks([(44, 60)], [33]), 1)], BINS)).max()
    )


@pytest.mark.parametrize("late", [0, 1])
def test_an_arrival_ends_a_burst_of_decode_steps_with_the_step_it_falls_in(late: int, tmp_path: Path) -> None:
    """At the very end of the fifth step the second request is scheduled at once; a tick later, after the sixth."""
    before = step_ticks([(0, 16)]) + sum(step_ticks(contexts=[16 + token]) for token in range(1, 6))
    arrival = before + late
    started = before + late * step_ticks(contexts=[22])
    made = serve_text(tmp_path, [0.0, arrival / TICKS_PER_S], 16, np.array([40, 1]))
    joint = step_ticks([(0, 16)], [22 + late])
    assert ticks(made.queue_s) == [0, started - arrival]
    assert ticks(made.ttft_s)[1] == started + joint - arrival
    rest = sum(step_ticks(contexts=[16 + token]) for token in range(7 + late, 40))
    assert ticks(made.e2e_s)[0] == started + joint + rest
    burst = started - step_ticks([(0, 16)])
    steps = 5 + late
    assert made.gap_histogram.tolist() == binned(
        [(burst // steps, steps), (joint, 1), (rest // (33 - late), 33 - late)], BINS
    )


def test_an_arrival_between_equal_steps_is_scheduled_at_once(tmp_path: Path) -> None:
    """Behind a full window of 16 tokens each step takes as long: the arrival falls exactly on the end of the fifth."""
    scenario = Scenario(model=text_model(tmp_path, sliding_window=16), gpu=gpu_file(tmp_path))
    alone = simulate(scenario, make_requests([0.0], text_tokens=100, output_tokens=40))
    (first,) = ticks(alone.ttft_s)
    step = step_ticks(contexts=[16])
    assert ticks(alone.e2e_s) == [first + 39 * step]
    arrival_s = (first + 5 * step) / TICKS_PER_S
    made = simulate(scenario, make_requests([0.0, arrival_s], text_tokens=100, output_tokens=np.array([40, 1])))
    assert made.queue_s.tolist() == [0.0, 0.0]


def test_an_arrival_where_no_more_may_run_leaves_the_burst_whole(tmp_path: Path) -> None:
    first, last = alone_ticks(16, 40)
    arrival = (first + last) // 2
    made = serve_text(tmp_path, [0.0, arrival / TICKS_PER_S], 16, 40, EngineConfig(max_num_seqs=1))
    assert ticks(made.e2e_s) == [last, 2 * last - arrival]
    assert made.gap_histogram.tolist() == binned([((last - first) // 39, 78)], BINS)
