"""Times of requests that nobody disturbs, on a GPU that is as fast as its memory: sums worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from asymsim import Scenario
from asymsim.serving.config import EngineConfig
from asymsim.serving.results import SimulationResult
from asymsim.serving.simulate import simulate
from asymsim.serving.workload.requests import make_requests
from oracles.round_numbers import (
    LAYERS,
    TICKS_EACH,
    TICKS_PER_S,
    alone_ticks,
    encoder_bytes,
    engine_file,
    gpu_file,
    image_model,
    step_ticks,
    text_model,
)


def ticks(seconds: object) -> list[int]:
    return [int(each) for each in np.rint(np.asarray(seconds) * TICKS_PER_S)]


def serve_text(folder: Path, prompt: int, output: int, **server: object) -> SimulationResult:
    scenario = Scenario(model=text_model(folder), gpu=gpu_file(folder))
    return simulate(scenario, make_requests([0.0], text_tokens=prompt, output_tokens=output), EngineConfig(**server))  # type: ignore[arg-type]


def test_bytes_of_the_smallest_step(tmp_path: Path) -> None:
    """One prompt token, summed without the helper: weights, rows in and out, element-wise work, attention.

    A layer: 128, 64, 256 and 64 columns of 64, 64, 64 and 128 inputs in 2 bytes; 448 elements read and 320 written
    beside the products, on top of the stream of 4 x 64 in and out; 64 queries in and out; 64 elements of key and value
    read and written.
    """
    weights = 64 * 128 + 64 * 64 + 64 * 256 + 128 * 64
    rows = (64 + 128) + (64 + 64) + (64 + 256) + (128 + 64)
    elementwise = 2 * 4 * 64 + 2 * 96 + 256 + 128
    attention = 2 * 64 + 2 * 64
    embedding, head = 2 * 64, 64 * 1000 + 64 + 1000
    moved = 2 * (2 * (weights + rows + elementwise + attention) + embedding + head)
    made = serve_text(tmp_path, 1, 1)
    assert ticks(made.ttft_s) == ticks(made.e2e_s) == [2**14 * moved]
    assert step_ticks([(0, 1)]) == 2**14 * moved


@pytest.mark.parametrize(("prompt", "output"), [(1, 2), (16, 1), (33, 5), (200, 40)])
def test_a_prompt_and_its_decode_steps(prompt: int, output: int, tmp_path: Path) -> None:
    made = serve_text(tmp_path, prompt, output)
    first, last = alone_ticks(prompt, output)
    assert (ticks(made.ttft_s), ticks(made.e2e_s), made.queue_s[0]) == ([first], [last], 0.0)
    assert made.engine_steps == output
    assert ticks(made.busy_s) == ticks([made.end_s]) == [last]
    assert (made.prompt_tokens[0], made.visual_tokens[0], made.replica[0], made.preemptions[0]) == (prompt, 0, 0, 0)


def test_a_prompt_is_spread_over_steps_of_the_largest_batch(tmp_path: Path) -> None:
    made = serve_text(tmp_path, 150, 2, max_num_batched_tokens=64, max_num_seqs=8)
    first = step_ticks([(0, 64)]) + step_ticks([(64, 128)]) + step_ticks([(128, 150)])
    assert ticks(made.ttft_s) == [first]
    assert ticks(made.e2e_s) == [first + step_ticks(contexts=[151])]
    assert made.engine_steps == 4


def test_a_prompt_is_whole_without_chunks(tmp_path: Path) -> None:
    made = serve_text(tmp_path, 150, 2, max_num_batched_tokens=64, max_num_seqs=8, chunked_prefill=False)
    assert ticks(made.ttft_s) == [step_ticks([(0, 150)])]


@pytest.mark.parametrize(
    ("prompt", "share", "known"), [(100, 0.5, 48), (96, 0.5, 48), (95, 0.5, 32), (100, 0.15, 0), (33, 0.98, 32)]
)
def test_whole_blocks_of_a_shared_prefix_are_not_computed(
    prompt: int, share: float, known: int, tmp_path: Path
) -> None:
    made = serve_text(tmp_path, prompt, 3, prefix_share=share)
    first = step_ticks([(known, prompt)])
    assert ticks(made.ttft_s) == [first]
    assert ticks(made.e2e_s) == [first + step_ticks(contexts=[prompt + 1]) + step_ticks(contexts=[prompt + 2])]


@pytest.mark.parametrize(("visual", "tiles"), [(16, 1), (20, 2), (32, 2)])
def test_images_are_encoded_before_the_prompt(visual: int, tiles: int, tmp_path: Path) -> None:
    scenario = Scenario(model=image_model(tmp_path), gpu=gpu_file(tmp_path))
    made = simulate(scenario, make_requests([0.0], text_tokens=9, output_tokens=4, visual_tokens=visual))
    first, last = alone_ticks(9 + visual, 4)
    encoding = TICKS_EACH * encoder_bytes(1, tiles)
    assert (ticks(made.ttft_s), ticks(made.e2e_s)) == ([encoding + first], [encoding + last])
    assert (made.prompt_tokens[0], made.visual_tokens[0]) == (9 + visual, visual)


def test_the_host_is_added_to_each_step(tmp_path: Path) -> None:
    engine = engine_file(tmp_path, 2.0**-10)
    scenario = Scenario(model=text_model(tmp_path), gpu=gpu_file(tmp_path), engine=engine)
    made = simulate(scenario, make_requests([0.0], text_tokens=33, output_tokens=5))
    first, last = alone_ticks(33, 5)
    assert (ticks(made.ttft_s), ticks(made.e2e_s)) == ([first + 2**32], [last + 5 * 2**32])


def test_requests_of_one_step_share_its_kernels(tmp_path: Path) -> None:
    """Prompts of 30 and 51 tokens: queries and keys of the shared kernel are 41, their mean rounded up."""
    scenario = Scenario(model=text_model(tmp_path), gpu=gpu_file(tmp_path))
    made = simulate(scenario, make_requests([0.0, 0.0], text_tokens=np.array([30, 51]), output_tokens=3))
    first = step_ticks([(0, 30), (0, 51)])
    last = first + step_ticks(contexts=[31, 52]) + step_ticks(contexts=[32, 53])
    assert (ticks(made.ttft_s), ticks(made.e2e_s), made.engine_steps) == ([first] * 2, [last] * 2, 3)


def test_attention_flops_are_those_of_causal_pairs(tmp_path: Path) -> None:
    """Where steps take their FLOPs over the peak: a query meets itself and all before it.

    Both chunks of 64 tokens have the same products. The second one's longer time is all attention: 4 FLOPs for each
    pair, head and element of a head.
    """
    scenario = Scenario(model=text_model(tmp_path), gpu=gpu_file(tmp_path, counts="flops"))
    chunks = EngineConfig(max_num_batched_tokens=64, max_num_seqs=8)
    spread = ticks(simulate(scenario, make_requests([0.0], text_tokens=128, output_tokens=1), chunks).ttft_s)[0]
    alone = ticks(simulate(scenario, make_requests([0.0], text_tokens=64, output_tokens=1), chunks).ttft_s)[0]
    earlier, later = sum(range(1, 65)), sum(range(65, 129))
    assert spread - 2 * alone == TICKS_EACH * LAYERS * (later - earlier) * 4 * 4 * 16
