"""Pruning methods in a fleet of a small model: the event log is that of the naive simulator, whatever they work on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asymsim import Scenario
from asymsim.serving.config import ClusterConfig, EngineConfig
from asymsim.serving.simulate import simulate
from asymsim.serving.workload.requests import make_requests
from oracles.plain_classes import Classes
from oracles.plain_fleet import PlainFleet, named
from oracles.round_numbers import TOKEN_BYTES, gpu_file, image_model

# Work in the encoder, at its end, inside the language model, on the cache after the prompt, and with each token.
METHODS: dict[str, dict[str, Any]] = {
    "tome": {},
    "visionzip": {},
    "fastv": {"keep": 0.5, "settings": {"layer": 1}},
    "snapkv": {"settings": {"capacity": 20, "window": 4}},
    "h2o": {"keep": 0.5},
    "asymvlm": {"keep": 0.5},
    "duoattention": {"settings": {"sinks": 4, "recent": 12}},
}
FLEETS = {
    "one": ClusterConfig(),
    "pools": ClusterConfig(
        replicas=0, encoder_replicas=1, prefill_replicas=1, decode_replicas=1, transfer_bytes_per_s=2.0**24
    ),
    "no encoders": ClusterConfig(replicas=0, prefill_replicas=1, decode_replicas=2, transfer_latency_s=2.0**-9),
}
TIGHT = EngineConfig(kv_cache_bytes=128 * TOKEN_BYTES, max_num_batched_tokens=48, max_num_seqs=5)


@pytest.mark.parametrize("fleet", FLEETS)
@pytest.mark.parametrize("server", [EngineConfig(), TIGHT], ids=["roomy", "tight"])
@pytest.mark.parametrize("name", METHODS)
def test_events_are_those_of_the_naive_simulator(name: str, server: EngineConfig, fleet: str, tmp_path: Path) -> None:
    scenario = Scenario(model=image_model(tmp_path), gpu=gpu_file(tmp_path), method=name, **METHODS[name])
    asked = make_requests(
        np.array([0.0, 0.0, 0.0, 0.001, 0.002, 0.002, 0.02]),
        text_tokens=np.array([4, 40, 4, 9, 60, 4, 4]),
        output_tokens=np.array([60, 25, 60, 60, 2, 1, 30]),
        visual_tokens=np.array([16, 32, 16, 20, 32, 16, 16]),
        image_of=np.array([-1, 3, -1, -1, 3, 4, 4]),
    )
    made = simulate(scenario, asked, server, FLEETS[fleet], events=1000)
    naive = PlainFleet(Classes(scenario, asked, server), server, FLEETS[fleet])
    assert named(made.event_log) == naive.run()
    assert len(made.event_log) < 1000
    # H2O lets an entry go for each that comes, so that its caches never outgrow what they began with.
    assert server is not TIGHT or fleet != "one" or made.preemptions.any() == (name != "h2o")
    assert made.status.tolist() == [0] * 7
