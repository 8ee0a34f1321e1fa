"""Blocks of 16 tokens that requests hold: how many, what fits beside them, what a cache too small refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from asymsim import Scenario
from asymsim.core.serving.layout import DONE, PREEMPT, SCHEDULE, TOO_LARGE, TOO_LONG
from asymsim.serving.config import EngineConfig
from asymsim.serving.results import SimulationResult
from asymsim.serving.simulate import simulate
from asymsim.serving.workload.requests import make_requests
from oracles.round_numbers import (
    CONTEXT,
    TICKS_PER_S,
    TOKEN_BYTES,
    alone_ticks,
    gpu_file,
    image_model,
    step_ticks,
    text_model,
)


def ticks(seconds: object) -> list[int]:
    return [int(each) for each in np.rint(np.asarray(seconds) * TICKS_PER_S)]


def serve(folder: Path, prompts: object, output: object, server: EngineConfig, **scenario: object) -> SimulationResult:
    number = len(np.atleast_1d(prompts))  # type: ignore[arg-type]
    target = Scenario(**{"model": text_model(folder), "gpu": gpu_file(folder), **scenario})  # type: ignore[arg-type]
    return simulate(target, make_requests(np.zeros(number), text_tokens=prompts, output_tokens=output), server)  # type: ignore[arg-type]


def peak_tokens(made: SimulationResult) -> float:
    return made.timeline["kv_peak_bytes"].max() / TOKEN_BYTES


@pytest.mark.parametrize(
    ("prompt", "output", "held"), [(1, 1, 16), (16, 1, 16), (17, 1, 32), (16, 2, 32), (16, 17, 32), (16, 18, 48)]
)
def test_a_request_holds_whole_blocks_of_its_prompt_and_all_but_its_last_token(
    prompt: int, output: int, held: int, tmp_path: Path
) -> None:
    made = serve(tmp_path, prompt, output, EngineConfig())
    assert peak_tokens(made) == held


@pytest.mark.parametrize(("dtype", "bytes_per_token"), [("auto", 256), ("fp8", 128), ("int4", 64)])
def test_an_entry_takes_the_bits_of_the_cache(dtype: str, bytes_per_token: int, tmp_path: Path) -> None:
    """Two layers of two KV heads with 16 keys and 16 values each: 128 elements."""
    made = serve(tmp_path, 17, 1, EngineConfig(), kv_dtype=dtype)
    assert made.timeline["kv_peak_bytes"].max() == 32 * bytes_per_token


@pytest.mark.parametrize(("short", "status"), [(0, DONE), (1, TOO_LARGE)])
@pytest.mark.parametrize(("prompt", "output", "held"), [(17, 16, 32), (17, 17, 48), (100, 1, 112)])
def test_a_request_that_just_fits_is_served(
    prompt: int, output: int, held: int, short: int, status: int, tmp_path: Path
) -> None:
    made = serve(tmp_path, prompt, output, EngineConfig(kv_cache_bytes=held * TOKEN_BYTES - short))
    assert made.status[0] == status
    assert made.preemptions[0] == 0


@pytest.mark.parametrize("short", [0, 1])
def test_requests_that_fill_the_cache_exactly_run_together(short: int, tmp_path: Path) -> None:
    made = serve(tmp_path, np.array([20, 30, 1]), 2, EngineConfig(kv_cache_bytes=80 * TOKEN_BYTES - short))
    together, single = step_ticks([(0, 20), (0, 30), (0, 1)]), step_ticks([(0, 20), (0, 30)])
    if short:
        single += step_ticks(contexts=[21, 31])
    assert ticks(made.queue_s) == ([0, 0, single] if short else [0, 0, 0])
    assert short or ticks(made.ttft_s) == [together] * 3


def test_a_method_that_drops_cache_after_the_prompt_needs_the_whole_of_it_before(tmp_path: Path) -> None:
    """SnapKV keeps 48 of 100 entries: 112 are held while the prompt comes in chunks, 48 where it comes at once."""
    snapkv = {"method": "snapkv", "settings": {"capacity": 48, "window": 8}}
    chunks = EngineConfig(max_num_batched_tokens=64, max_num_seqs=8)
    assert peak_tokens(serve(tmp_path, 100, 1, chunks, **snapkv)) == 112
    assert peak_tokens(serve(tmp_path, 100, 1, EngineConfig(), **snapkv)) == 48
    assert peak_tokens(serve(tmp_path, 100, 18, EngineConfig(), **snapkv)) == 80


def test_a_prompt_computed_anew_in_chunks_holds_its_generated_tokens_too(tmp_path: Path) -> None:
    """A cache of 176 tokens, and a third request whose prompt of 100 SnapKV cuts to 48 entries.

    It gives way when both others need a fourth block, with over 28 tokens generated: 144 entries come back in chunks.
    Once the first is done, the second's 64 leave room for 112, the prompt's alone: the third waits for the second.
    """
    scenario = Scenario(
        model=text_model(tmp_path),
        gpu=gpu_file(tmp_path),
        method="snapkv",
        settings={"capacity": 48, "window": 8},
    )
    asked = make_requests(np.zeros(3), text_tokens=np.array([16, 16, 100]), output_tokens=np.array([37, 45, 40]))
    server = EngineConfig(kv_cache_bytes=176 * TOKEN_BYTES, max_num_batched_tokens=64, max_num_seqs=3)
    made = simulate(scenario, asked, server, events=1000)
    preempted, scheduled = (made.event_log[made.event_log["kind"] == code] for code in (PREEMPT, SCHEDULE))
    assert preempted["request"].tolist() == [2]
    assert 128 < 100 + preempted["value"][0] <= 144
    assert scheduled["request"].tolist() == [0, 1, 2, 2]
    assert scheduled["ticks"][3] == ticks(made.e2e_s)[1] > ticks(made.e2e_s)[0]


def test_heads_that_keep_everything_are_among_those_of_a_prompt_in_chunks(tmp_path: Path) -> None:
    """DuoAttention keeps all of one head: in chunks both hold 112 tokens, at once the other 16 + 32 of its two ends."""
    halves = {"method": "duoattention", "settings": {"sinks": 16, "recent": 32}}
    chunks = EngineConfig(max_num_batched_tokens=64, max_num_seqs=8)
    assert peak_tokens(serve(tmp_path, 100, 1, chunks, **halves)) == 112
    assert peak_tokens(serve(tmp_path, 100, 1, EngineConfig(), **halves)) == (112 + 48) / 2


@pytest.mark.parametrize(("second", "together"), [(44, True), (45, False)])
def test_a_prompt_that_must_be_whole_waits_for_a_step_that_has_room(
    second: int, together: bool, tmp_path: Path
) -> None:
    server = EngineConfig(max_num_batched_tokens=64, max_num_seqs=8, chunked_prefill=False)
    made = serve(tmp_path, np.array([20, second]), 1, server)
    alone, both = step_ticks([(0, 20)]), step_ticks([(0, 20), (0, second)])
    assert ticks(made.queue_s) == [0, 0 if together else alone]
    assert ticks(made.ttft_s)[0] == (both if together else alone)


@pytest.mark.parametrize("short", [0, 1])
def test_a_prompt_in_chunks_holds_the_whole_of_it_to_the_last(short: int, tmp_path: Path) -> None:
    """112 tokens in both chunks of 100; a second prompt of 16 finds room beside the last chunk, or after it."""
    server = EngineConfig(kv_cache_bytes=128 * TOKEN_BYTES - short, max_num_batched_tokens=64, max_num_seqs=8)
    snapkv = {"method": "snapkv", "settings": {"capacity": 48, "window": 8}}
    made = serve(tmp_path, np.array([100, 16]), 1, server, **snapkv)
    first_chunk = step_ticks([(0, 64)])
    assert (ticks(made.queue_s)[1] == first_chunk) == (short == 0)
    assert made.queue_s[1] == made.ttft_s[0] or short == 0


@pytest.mark.parametrize(("short", "status"), [(0, DONE), (1, TOO_LARGE)])
def test_a_prompt_that_may_be_computed_anew_needs_room_for_what_was_generated(
    short: int, status: int, tmp_path: Path
) -> None:
    """After a preemption the prompt of 100 and up to 60 tokens come in chunks, before SnapKV drops any."""
    server = EngineConfig(kv_cache_bytes=160 * TOKEN_BYTES - short)
    snapkv = {"method": "snapkv", "settings": {"capacity": 48, "window": 8}}
    assert serve(tmp_path, 100, 61, server, **snapkv).status[0] == status
    whole = EngineConfig(kv_cache_bytes=160 * TOKEN_BYTES - short, chunked_prefill=False)
    assert serve(tmp_path, 100, 61, whole, **snapkv).status[0] == DONE
    smallest = EngineConfig(kv_cache_bytes=(48 + 64) * TOKEN_BYTES - short, chunked_prefill=False)
    assert serve(tmp_path, 100, 61, smallest, **snapkv).status[0] == status


def test_a_window_bounds_what_is_held(tmp_path: Path) -> None:
    """A token sees itself and the 39 before it: 39 entries, in three blocks."""
    model = text_model(tmp_path, sliding_window=40)
    assert peak_tokens(serve(tmp_path, 100, 30, EngineConfig(), model=model)) == 48
    assert (
        peak_tokens(serve(tmp_path, 100, 30, EngineConfig(max_num_batched_tokens=50, max_num_seqs=8), model=model))
        == 48
    )
    assert peak_tokens(serve(tmp_path, 20, 30, EngineConfig(), model=model)) == 48
    assert peak_tokens(serve(tmp_path, 20, 12, EngineConfig(), model=model)) == 32


@pytest.mark.parametrize(("output", "status"), [(96, DONE), (97, TOO_LONG)])
def test_prompt_and_output_together_are_at_most_the_context(output: int, status: int, tmp_path: Path) -> None:
    made = serve(tmp_path, CONTEXT - 96, output, EngineConfig(max_num_batched_tokens=CONTEXT))
    assert made.status[0] == status
    shorter = serve(tmp_path, 4, output, EngineConfig(max_model_len=100))
    assert shorter.status[0] == status
    if status == DONE:
        assert ticks(made.e2e_s) == [alone_ticks(CONTEXT - 96, output)[1]]
        assert ticks(shorter.e2e_s) == [alone_ticks(4, output)[1]]


def test_visual_tokens_count_towards_the_context(tmp_path: Path) -> None:
    scenario = Scenario(model=image_model(tmp_path), gpu=gpu_file(tmp_path))
    asked = make_requests([0.0, 0.0], text_tokens=10, output_tokens=np.array([5, 6]), visual_tokens=16)
    made = simulate(scenario, asked, EngineConfig(max_model_len=31))
    assert made.status.tolist() == [DONE, TOO_LONG]
    assert np.isnan(made.ttft_s[1])
    assert made.replica.tolist() == [0, -1]


def test_the_last_to_be_scheduled_is_preempted_first_and_comes_back_first(tmp_path: Path) -> None:
    """Three requests fill a cache of 96 with two blocks each; with a third block each only two of them fit.

    The last to be scheduled gives way, its 16 prompt and 17 generated tokens are computed anew once the second is done,
    and the fourth, which has waited from the start, comes after it.
    """
    scenario = Scenario(model=text_model(tmp_path), gpu=gpu_file(tmp_path))
    asked = make_requests(np.zeros(4), text_tokens=np.array([16, 16, 16, 40]), output_tokens=np.array([60, 20, 20, 2]))
    made = simulate(scenario, asked, EngineConfig(kv_cache_bytes=96 * TOKEN_BYTES, max_num_seqs=3), events=1000)
    preempted, scheduled = (made.event_log[made.event_log["kind"] == code] for code in (PREEMPT, SCHEDULE))
    assert preempted[["request", "value"]].tolist() == [(2, 17)]
    assert scheduled[["request", "value"]].tolist() == [(0, 16), (1, 16), (2, 16), (2, 33), (3, 40)]
    assert made.preemptions.tolist() == [0, 0, 1, 0]
