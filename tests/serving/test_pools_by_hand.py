"""Pools for encoding, prefill and decoding: what each does, what moves between them and how long it takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from asymsim import Scenario
from asymsim.core.serving.layout import ARRIVE, DECODE_ONLY, ENCODE, ENCODER_ONLY, PREFILL_ONLY, TRANSFER
from asymsim.serving.config import ClusterConfig, EngineConfig
from asymsim.serving.results import SimulationResult
from asymsim.serving.simulate import simulate
from asymsim.serving.workload.requests import make_requests
from oracles.round_numbers import (
    HIDDEN,
    TICKS_EACH,
    TICKS_PER_S,
    TOKEN_BYTES,
    alone_ticks,
    encoder_bytes,
    engine_file,
    gpu_file,
    image_model,
    step_ticks,
    text_model,
)

# 2**22 bytes a second: 2**20 ticks a byte; a latency of 2**-6 s.
BYTE, LATENCY = 2**20, 2**36
LINK = {"transfer_bytes_per_s": 2.0**22, "transfer_latency_s": 2.0**-6}
EMBEDDINGS = 16 * HIDDEN * 2


def ticks(seconds: object) -> list[int]:
    return [int(each) for each in np.rint(np.asarray(seconds) * TICKS_PER_S)]


def pools(encoders: int = 0, prefills: int = 1, decoders: int = 1) -> ClusterConfig:
    return ClusterConfig(
        replicas=0, encoder_replicas=encoders, prefill_replicas=prefills, decode_replicas=decoders, **LINK
    )  # type: ignore[arg-type]


def serve_images(
    folder: Path, arrivals: object, fleet: ClusterConfig, output: int = 4, **more: object
) -> SimulationResult:
    scenario = Scenario(model=image_model(folder), gpu=gpu_file(folder), **more)  # type: ignore[arg-type]
    asked = make_requests(arrivals, text_tokens=4, output_tokens=output, visual_tokens=16)  # type: ignore[arg-type]
    return simulate(scenario, asked, cluster_config=fleet, events=5000)


def transfers(made: SimulationResult) -> list[tuple[int, int]]:
    events = made.event_log[made.event_log["kind"] == TRANSFER]
    return [(int(each["value"]), int(each["duration_ticks"])) for each in events]


def test_a_request_passes_through_three_pools(tmp_path: Path) -> None:
    """16 embeddings of 64 elements go to the prefill, 20 entries of 256 bytes from it: not whole blocks."""
    made = serve_images(tmp_path, [0.0], pools(encoders=1))
    encoding = TICKS_EACH * encoder_bytes(1)
    first, last = alone_ticks(20, 4)
    to_prefill, to_decode = EMBEDDINGS * BYTE + LATENCY, 20 * TOKEN_BYTES * BYTE + LATENCY
    assert transfers(made) == [(EMBEDDINGS, to_prefill), (20 * TOKEN_BYTES, to_decode)]
    assert ticks(made.ttft_s) == [encoding + to_prefill + first]
    assert ticks(made.e2e_s) == [encoding + to_prefill + last + to_decode]
    assert ticks(made.busy_s) == [encoding, first, last - first]
    assert made.replica.tolist() == [1]
    assert made.event_log[made.event_log["kind"] == ARRIVE]["value"].tolist() == [
        ENCODER_ONLY,
        PREFILL_ONLY,
        DECODE_ONLY,
    ]
    assert made.engine_steps == 5


def test_without_an_encoder_pool_the_prefill_encodes(tmp_path: Path) -> None:
    made = serve_images(tmp_path, [0.0], pools())
    first = TICKS_EACH * encoder_bytes(1) + alone_ticks(20, 1)[0]
    assert ticks(made.ttft_s) == [first]
    assert ticks(made.busy_s)[0] == first
    assert transfers(made) == [(20 * TOKEN_BYTES, 20 * TOKEN_BYTES * BYTE + LATENCY)]


def test_text_alone_needs_no_encoder(tmp_path: Path) -> None:
    scenario = Scenario(model=image_model(tmp_path), gpu=gpu_file(tmp_path))
    asked = make_requests([0.0], text_tokens=20, output_tokens=4, num_images=0)
    made = simulate(scenario, asked, cluster_config=pools(encoders=1))
    assert ticks(made.ttft_s) == [alone_ticks(20, 4)[0]]
    assert ticks(made.busy_s)[0] == 0


def test_a_request_of_one_token_ends_with_its_prefill(tmp_path: Path) -> None:
    made = serve_images(tmp_path, [0.0], pools(), output=1)
    assert transfers(made) == []
    assert made.e2e_s[0] == made.ttft_s[0]


@pytest.mark.parametrize(("kv_dtype", "entry"), [("auto", TOKEN_BYTES), ("fp8", TOKEN_BYTES // 2)])
def test_a_cache_moves_in_its_own_format_and_embeddings_in_that_of_activations(
    kv_dtype: str, entry: int, tmp_path: Path
) -> None:
    made = serve_images(tmp_path, [0.0], pools(encoders=1), dtype="fp8", kv_dtype=kv_dtype)
    assert [moved for moved, _ in transfers(made)] == [EMBEDDINGS, 20 * entry]


def test_a_replica_sends_one_after_the_other(tmp_path: Path) -> None:
    """Two prompts that end together: the second cache waits for the link, not for the first one's latency."""
    made = serve_images(tmp_path, [0.0, 0.0], pools())
    moving = 20 * TOKEN_BYTES * BYTE
    assert [duration for _, duration in transfers(made)] == [moving + LATENCY, 2 * moving + LATENCY]
    apart = serve_images(tmp_path, [0.0, 0.5], pools())
    assert [duration for _, duration in transfers(apart)] == [moving + LATENCY] * 2


def test_prefill_holds_a_cache_until_it_has_arrived(tmp_path: Path) -> None:
    """Room for two blocks: of two prompts of 17 tokens, the second begins once the first one's cache has left."""
    scenario = Scenario(model=text_model(tmp_path), gpu=gpu_file(tmp_path))
    asked = make_requests([0.0, 0.0], text_tokens=16, output_tokens=2)
    made = simulate(scenario, asked, EngineConfig(kv_cache_bytes=32 * TOKEN_BYTES), pools())
    both = step_ticks([(0, 16), (0, 16)])
    assert ticks(made.queue_s) == [0, 0]
    assert ticks(made.ttft_s) == [both, both]
    longer = make_requests([0.0, 0.0], text_tokens=17, output_tokens=2)
    alone = simulate(scenario, longer, EngineConfig(kv_cache_bytes=32 * TOKEN_BYTES), pools())
    first = step_ticks([(0, 17)])
    assert ticks(alone.queue_s) == [0, first + 17 * TOKEN_BYTES * BYTE + LATENCY]


def test_prefill_holds_what_a_method_left_while_it_moves(tmp_path: Path) -> None:
    """SnapKV leaves 48 of 100 tokens, for which 112 were held: beside them a prompt of 64 begins in a cache of 127."""
    snapkv = {"method": "snapkv", "settings": {"capacity": 48, "window": 8}}
    scenario = Scenario(model=text_model(tmp_path), gpu=gpu_file(tmp_path), **snapkv)  # type: ignore[arg-type]
    server = EngineConfig(kv_cache_bytes=127 * TOKEN_BYTES, max_num_batched_tokens=64, max_num_seqs=8)
    asked = make_requests([0.0, 0.0], text_tokens=np.array([100, 64]), output_tokens=2)
    made = simulate(scenario, asked, server, pools(), events=100)
    assert transfers(made)[0] == (48 * TOKEN_BYTES, 48 * TOKEN_BYTES * BYTE + LATENCY)
    assert made.queue_s[1] == made.ttft_s[0]


def test_an_image_that_several_requests_have_is_encoded_by_the_encoder_alone(tmp_path: Path) -> None:
    """A prefill replica gets embeddings, and has no encoder cache of its own."""
    scenario = Scenario(model=image_model(tmp_path), gpu=gpu_file(tmp_path))
    asked = make_requests([0.0, 0.25], text_tokens=4, output_tokens=1, visual_tokens=16, image_of=3)
    made = simulate(scenario, asked, cluster_config=pools(encoders=1), events=100)
    assert made.event_log[made.event_log["kind"] == ENCODE][["request", "replica"]].tolist() == [(0, 0)]
    first = EMBEDDINGS * BYTE + LATENCY + alone_ticks(20, 1)[0]
    assert ticks(made.ttft_s) == [first + TICKS_EACH * encoder_bytes(1), first]


def test_an_encoder_step_takes_the_host_s_time_too(tmp_path: Path) -> None:
    made = serve_images(tmp_path, [0.0], pools(encoders=1), engine=engine_file(tmp_path, 2.0**-10))
    assert ticks(made.busy_s)[0] == TICKS_EACH * encoder_bytes(1) + 2**32


def test_many_transfers_arrive_in_order_of_time(tmp_path: Path) -> None:
    """Of 80 requests on six replicas, each cache arrives when it was to arrive, and nothing happens out of order."""
    fleet = pools(encoders=2, prefills=2, decoders=2)
    made = serve_images(tmp_path, np.arange(80) * 0.003, fleet, output=3)
    log = made.event_log
    arrivals = log[log["kind"] == ARRIVE]
    assert (np.diff(arrivals["ticks"]) >= 0).all()
    for request in range(80):
        own = log[log["request"] == request]
        sent = own[own["kind"] == TRANSFER]
        received = own[(own["kind"] == ARRIVE) & (own["value"] != ENCODER_ONLY)]
        assert (sent["ticks"] + sent["duration_ticks"]).tolist() == received["ticks"].tolist()
        assert received["value"].tolist() == [PREFILL_ONLY, DECODE_ONLY]
    assert (made.status == 0).all()
