"""Values that a server, a fleet and requests take, and those just beyond that they refuse."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asymsim import Scenario
from asymsim.serving.config import ClusterConfig, EngineConfig
from asymsim.serving.simulate import simulate
from asymsim.serving.workload.requests import Requests, make_requests
from asymsim.util.errors import InputError
from oracles.round_numbers import gpu_file, text_model

SERVERS: list[tuple[str, list[Any], list[Any]]] = [
    ("max_num_seqs", [1, 10**5], [0, 10**5 + 1]),
    ("max_num_batched_tokens", [1, 10**7], [0, 10**7 + 1]),
    ("max_model_len", [1, 2**60], [0, 2**60 + 1]),
    ("encoder_budget_tokens", [1, 2**60], [0]),
    ("encoder_cache_tokens", [1, 2**60], [0]),
    ("kv_cache_bytes", [1, 2**60], [0, 2**60 + 1]),
    ("gpu_memory_utilization", [0.01, 1.0], [0.0, 1.01]),
    ("prefix_share", [0.0, 0.99], [-0.01, 1.0]),
]
FLEETS: list[tuple[str, list[Any], list[Any]]] = [
    ("replicas", [1, 10**5], [-1, 10**5 + 1]),
    ("concurrency", [0, 10**9], [-1, 10**9 + 1]),
    ("transfer_bytes_per_s", [1e-3, 1e15], [0.0, -1.0, math.nan]),
    ("transfer_latency_s", [0.0, 3599.0], [-1e-9, 3600.0]),
]


@pytest.mark.parametrize(("field", "good", "bad"), SERVERS)
def test_values_of_a_server(field: str, good: list[Any], bad: list[Any]) -> None:
    for value in good:
        assert getattr(EngineConfig(**{field: value}), field) == value
    for value in bad:
        with pytest.raises(InputError, match=field):
            EngineConfig(**{field: value})


@pytest.mark.parametrize(("field", "good", "bad"), FLEETS)
def test_values_of_a_fleet(field: str, good: list[Any], bad: list[Any]) -> None:
    for value in good:
        assert getattr(ClusterConfig(**{field: value}), field) == value
    for value in bad:
        with pytest.raises(InputError, match=field):
            ClusterConfig(**{field: value})


def test_a_step_has_a_token_for_each_request_that_decodes() -> None:
    assert EngineConfig(max_num_seqs=100, max_num_batched_tokens=100).max_num_seqs == 100
    with pytest.raises(InputError, match="give 100 or more"):
        EngineConfig(max_num_seqs=100, max_num_batched_tokens=99)


def test_defaults_are_those_that_the_documentation_names() -> None:
    server, fleet = EngineConfig(), ClusterConfig()
    assert (server.gpu_memory_utilization, server.chunked_prefill, server.prefix_share) == (0.9, True, 0.0)
    assert (fleet.replicas, fleet.router, fleet.concurrency) == (1, "least_loaded", 0)
    assert (fleet.transfer_bytes_per_s, fleet.transfer_latency_s) == (50e9, 0.0)


@pytest.mark.parametrize("pool", ["encoder_replicas", "prefill_replicas", "decode_replicas"])
def test_whole_replicas_and_pools_do_not_go_together(pool: str) -> None:
    with pytest.raises(InputError, match="give 0 in a fleet with separate pools"):
        ClusterConfig(**{"replicas": 1, pool: 1})  # type: ignore[arg-type]


def test_pools_for_prefill_and_decoding_need_each_other() -> None:
    pools = {"encoder_replicas": 1, "prefill_replicas": 2, "decode_replicas": 3}
    assert ClusterConfig(replicas=0, **pools).engines == 6
    assert ClusterConfig(replicas=4).engines == 4
    for missing in ("prefill_replicas", "decode_replicas"):
        with pytest.raises(InputError, match="give both, or replicas instead"):
            ClusterConfig(replicas=0, **{**pools, missing: 0})


def test_columns_of_requests_are_their_arguments() -> None:
    """An array or one value for all; one image of the model's typical size, like no other, by default."""
    made = make_requests(
        [0.0, 0.5, 0.5],
        text_tokens=np.array([3, 4, 5]),
        output_tokens=7,
        num_images=2,
        image_height=336,
        image_width=np.array([1, 2, 3]),
        visual_tokens=np.array([9, 8, -1]),
        image_of=6,
    )
    columns = {field.name: getattr(made, field.name).tolist() for field in dataclasses.fields(Requests)}
    assert columns == {
        "arrival_s": [0.0, 0.5, 0.5],
        "num_images": [2, 2, 2],
        "image_height": [336, 336, 336],
        "image_width": [1, 2, 3],
        "visual_tokens": [9, 8, -1],
        "text_tokens": [3, 4, 5],
        "output_tokens": [7, 7, 7],
        "image_of": [6, 6, 6],
    }
    plain = make_requests([0.0], text_tokens=1, output_tokens=1)
    rest = plain.num_images, plain.image_height, plain.image_width, plain.visual_tokens, plain.image_of
    assert [int(each[0]) for each in rest] == [1, 0, 0, -1, -1]
    taken = made.take(np.array([0, 2]))
    assert (taken.text_tokens.tolist(), taken.visual_tokens.tolist()) == ([3, 5], [9, -1])


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("text_tokens", [1, 0, 0]),
        ("output_tokens", [1, 0, 0]),
        ("num_images", [0, -1, -1]),
        ("image_height", [0, -1, -1]),
        ("image_width", [0, -1, -1]),
        ("visual_tokens", [-1, -2, -2]),
    ],
)
def test_the_first_count_out_of_range_is_named(field: str, values: list[int]) -> None:
    columns: dict[str, Any] = {"text_tokens": 5, "output_tokens": 5, field: np.array(values)}
    with pytest.raises(InputError, match=f"{field} of request 1"):
        make_requests([0.0, 0.0, 0.0], **columns)
    assert len(make_requests([0.0] * 3, **{**columns, field: np.array(values[:1] * 3)})) == 3


@pytest.mark.parametrize("arrivals", [[0.0, 2.0, 1.0], [0.0, 1.0, math.inf], [0.0, 1.0, math.nan], [0.0, 1.0, -1.0]])
def test_arrivals_never_fall(arrivals: list[float]) -> None:
    with pytest.raises(InputError, match="arrival_s of request 2"):
        make_requests(arrivals, text_tokens=1, output_tokens=1)
    with pytest.raises(InputError, match="arrival_s of request 0"):
        make_requests([-1e-9], text_tokens=1, output_tokens=1)


def test_columns_are_equally_long() -> None:
    made = make_requests([0.0, 1.0], text_tokens=1, output_tokens=1)
    with pytest.raises(InputError, match="give 2 values, one a request"):
        dataclasses.replace(made, text_tokens=np.array([1]))


def test_a_fleet_has_a_gibibyte_for_its_requests(tmp_path: Path) -> None:
    """2**27 of them at once, 8 bytes each, over all replicas."""
    scenario = Scenario(model=text_model(tmp_path), gpu=gpu_file(tmp_path))
    asked = make_requests([0.0], text_tokens=10, output_tokens=2)
    assert simulate(scenario, asked, EngineConfig(max_num_seqs=1024), ClusterConfig(replicas=200)).gpus == 200
    with pytest.raises(InputError, match="give fewer: 2000 requests and 0 shared images each"):
        simulate(scenario, asked, EngineConfig(max_num_seqs=2000), ClusterConfig(replicas=10**5))
