"""Memory that weights, workspace and activations leave for the cache, from the shape of a small model by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from asymsim import Scenario
from asymsim.catalogue.gpu import load_gpu
from asymsim.core.serving.layout import DONE, TOO_LARGE
from asymsim.serving.config import ClusterConfig, EngineConfig
from asymsim.serving.results import SimulationResult
from asymsim.serving.simulate import simulate
from asymsim.serving.workload.requests import make_requests
from asymsim.util.errors import InputError
from oracles.round_numbers import gpu_file, text_model

# Projections, FFN and two norms of both layers, the last norm, embedding and head.
PARAMETERS = 2 * (64 * 128 + 64 * 64 + 3 * 64 * 128 + 2 * 64) + 64 + 2 * 64 * 1000
# cuBLAS keeps 32 MiB.
WORKSPACE = 32 * 2**20
GIB = 2**30


def activations(tokens: int, tp_size: int = 1) -> int:
    """The stream and its normed copy beside gate, up and their product, which tensor parallelism divides; 2 bytes."""
    return 2 * tokens * (2 * 64 + 3 * 128 // tp_size)


def serve(
    folder: Path, prompts: object, server: EngineConfig, fleet: ClusterConfig | None = None, **more: object
) -> SimulationResult:
    capacity_bytes = more.pop("capacity_bytes", GIB)
    scenario = Scenario(
        model=text_model(folder),
        gpu=gpu_file(folder, capacity_bytes=capacity_bytes),  # type: ignore[arg-type]
        **more,  # type: ignore[arg-type]
    )
    number = len(np.atleast_1d(prompts))  # type: ignore[arg-type]
    asked = make_requests(np.zeros(number), text_tokens=prompts, output_tokens=2)  # type: ignore[arg-type]
    return simulate(scenario, asked, server, fleet)


@pytest.mark.parametrize("utilisation", [0.5, 0.25, 1.0])
def test_what_one_gpu_has_left(utilisation: float, tmp_path: Path) -> None:
    server = EngineConfig(gpu_memory_utilization=utilisation, max_num_batched_tokens=100, max_num_seqs=10)
    made = serve(tmp_path, 10, server)
    assert made.kv_capacity_bytes == utilisation * GIB - WORKSPACE - 2 * PARAMETERS - activations(100)
    assert made.gpus == 1


def test_nine_tenths_of_a_device_are_used_by_default(tmp_path: Path) -> None:
    made = serve(tmp_path, 10, EngineConfig(max_num_batched_tokens=100, max_num_seqs=10), capacity_bytes=10 * GIB)
    assert made.kv_capacity_bytes == 9 * GIB - WORKSPACE - 2 * PARAMETERS - activations(100)


@pytest.mark.parametrize(("tp_size", "copies"), [(2, 1), (4, 2)])
def test_several_gpus_divide_weights_heads_and_activations(tp_size: int, copies: int, tmp_path: Path) -> None:
    """Two KV heads on two GPUs are dealt out; on four, each stands on two of them."""
    server = EngineConfig(gpu_memory_utilization=0.5, max_num_batched_tokens=100, max_num_seqs=10)
    made = serve(tmp_path, 10, server, ClusterConfig(replicas=3), tp_size=tp_size)
    weights = -(-2 * PARAMETERS // tp_size)
    left = GIB // 2 - WORKSPACE - weights - activations(100, tp_size)
    assert made.kv_capacity_bytes == 3 * left * tp_size // copies
    assert made.gpus == 3 * tp_size


def test_weights_in_fewer_bits_leave_more(tmp_path: Path) -> None:
    server = EngineConfig(gpu_memory_utilization=0.5, max_num_batched_tokens=100, max_num_seqs=10)
    made = serve(tmp_path, 10, server, dtype="fp8")
    assert made.kv_capacity_bytes == GIB // 2 - WORKSPACE - PARAMETERS - activations(100)


def test_only_pools_that_hold_a_cache_are_counted(tmp_path: Path) -> None:
    server = EngineConfig(gpu_memory_utilization=0.5, max_num_batched_tokens=100, max_num_seqs=10)
    pools = ClusterConfig(replicas=0, encoder_replicas=5, prefill_replicas=2, decode_replicas=3)
    made = serve(tmp_path, 10, server, pools)
    assert made.kv_capacity_bytes == 5 * (GIB // 2 - WORKSPACE - 2 * PARAMETERS - activations(100))
    assert made.gpus == 10


def test_a_prompt_longer_than_a_step_takes_its_activations_from_the_cache(tmp_path: Path) -> None:
    server = EngineConfig(gpu_memory_utilization=0.5, max_num_batched_tokens=100, max_num_seqs=10)
    made = serve(tmp_path, np.array([10, 300, 299]), server)
    assert made.kv_capacity_bytes == GIB // 2 - WORKSPACE - 2 * PARAMETERS - activations(300)


@pytest.mark.parametrize(("capacity_bytes", "tokens"), [(70 * GIB - 2, 2048), (70 * GIB, 8192)])
def test_the_largest_step_of_a_large_gpu_takes_more(capacity_bytes: int, tokens: int, tmp_path: Path) -> None:
    made = serve(tmp_path, 10, EngineConfig(gpu_memory_utilization=0.5), capacity_bytes=capacity_bytes)
    assert made.kv_capacity_bytes == capacity_bytes // 2 - WORKSPACE - 2 * PARAMETERS - activations(tokens)


@pytest.mark.parametrize(
    ("device", "limits", "tokens", "requests_at_once"),
    [
        ("h100_sxm", {}, 8192, 1024),
        ("l40s", {}, 2048, 256),
        ("a100_80gb_sxm", {}, 2048, 256),
        ("l40s", {"max_num_seqs": 3000}, 3000, 3000),
        ("l40s", {"max_num_seqs": 30}, 2048, 30),
        ("l40s", {"max_num_batched_tokens": 100}, 100, 100),
        ("h100_sxm", {"max_num_batched_tokens": 5000}, 5000, 1024),
    ],
)
def test_defaults_are_those_of_a_vllm_server(
    device: str, limits: dict[str, int], tokens: int, requests_at_once: int
) -> None:
    """EngineArgs.get_batch_defaults: 8192 tokens and 1024 requests from 70 GiB on, but for the A100."""
    assert EngineConfig(**limits).batch_on(load_gpu(device)) == (tokens, requests_at_once)  # type: ignore[arg-type]


def free_of(folder: Path, left: int, prompts: list[int]) -> SimulationResult:
    """A GPU that weights and workspace leave ``left`` bytes of."""
    server = EngineConfig(gpu_memory_utilization=1.0, max_num_batched_tokens=100, max_num_seqs=10)
    return serve(folder, np.array(prompts), server, capacity_bytes=WORKSPACE + 2 * PARAMETERS + left)


def test_an_unusual_request_may_take_half_of_what_is_left_for_its_activations(tmp_path: Path) -> None:
    """512 elements a token: 488 of them take 499,712 bytes of a million."""
    most = free_of(tmp_path, 2 * activations(488), [100, 100, 488])
    assert most.status.tolist() == [DONE, DONE, DONE]
    assert most.kv_capacity_bytes == activations(488)
    beyond = free_of(tmp_path, 2 * activations(488), [100, 100, 489])
    assert beyond.status.tolist() == [DONE, DONE, TOO_LARGE]
    assert beyond.kv_capacity_bytes == 2 * activations(488) - activations(100)


def test_the_usual_request_is_not_refused_for_its_activations(tmp_path: Path) -> None:
    made = free_of(tmp_path, 2 * activations(488), [489, 100, 489])
    assert made.status.tolist() == [DONE, DONE, DONE]
    assert made.kv_capacity_bytes == 2 * activations(488) - activations(489)


def test_a_cache_of_a_byte_is_one_and_of_none_is_refused(tmp_path: Path) -> None:
    """A cache of one byte takes no request, but the model fits."""
    assert free_of(tmp_path, activations(100) + 1, [10]).status[0] == TOO_LARGE
    with pytest.raises(InputError, match="leaves no memory for a cache"):
        free_of(tmp_path, activations(100), [10])


def test_a_cache_that_is_given_stands_for_what_memory_leaves(tmp_path: Path) -> None:
    made = serve(tmp_path, np.array([10, 4000]), EngineConfig(kv_cache_bytes=12345678), ClusterConfig(replicas=2))
    assert made.kv_capacity_bytes == 2 * 12345678
    assert made.status.tolist() == [DONE, DONE]
