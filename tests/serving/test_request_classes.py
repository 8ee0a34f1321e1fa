"""Classes of requests: tokens, cache, the method's own work and activations, as plain Python counts them by layer."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pytest

from asymsim import Scenario
from asymsim.core.fields import read_fields
from asymsim.core.kv_cache import SequenceCache, cached_entries
from asymsim.estimator.resolve import ResolvedScenario, resolve
from asymsim.serving.capacity import capacity_of
from asymsim.serving.config import ClusterConfig, EngineConfig
from asymsim.serving.request_classes import RequestClasses, request_classes
from asymsim.serving.workload.requests import make_requests
from oracles.plain_classes import Classes
from oracles.plain_limits import limits

FLEET = ClusterConfig(transfer_bytes_per_s=2e9, transfer_latency_s=0.25, concurrency=7, router="round_robin")
SERVER = EngineConfig(max_num_batched_tokens=300, max_num_seqs=9, encoder_budget_tokens=1000, prefix_share=0.25)
# Pruning in the encoder, at its end, at the first layer and inside; caches that are cut, evicted or kept by head; work
# in decoding; budgets by sample; windows, cross-attention, experts and chunks, other formats and several GPUs.
CASES: dict[str, dict[str, Any]] = {
    "none": {"model": "llava-1.5-7b"},
    "fp8": {"model": "llava-1.5-7b", "dtype": "fp8", "kv_dtype": "fp8", "tp_size": 2, "gpu": "l40s"},
    "tome": {"model": "llava-1.5-7b", "method": "tome"},
    "visionzip": {"model": "llava-1.5-7b", "method": "visionzip"},
    "fastv": {"model": "llava-1.5-7b", "method": "fastv", "keep": 0.25},
    "sparsevlm": {"model": "llava-1.5-7b", "method": "sparsevlm"},
    "asymvlm": {"model": "llava-1.5-7b", "method": "asymvlm", "keep": 0.5},
    "desap": {"model": "qwen2.5-vl-7b", "method": "desap", "tp_size": 4, "engine": "vllm"},
    "snapkv": {"model": "llava-1.5-7b", "method": "snapkv", "settings": {"capacity": 48, "window": 8}},
    "pyramidkv": {"model": "llava-1.5-7b", "method": "pyramidkv"},
    "h2o": {"model": "llava-1.5-7b", "method": "h2o"},
    "duoattention": {"model": "qwen2.5-vl-7b", "method": "duoattention"},
    "cross": {"model": "llama-3.2-11b-vision"},
    "window": {"model": "gemma-3-4b-it", "gpu": "l4"},
    "experts": {"model": "qwen3-vl-30b-a3b", "tp_size": 2},
    "text": {"model": "llama-3.1-8b", "engine": "sglang"},
}
NAMES = {
    "prompt_tokens": "prompt",
    "output_tokens": "output",
    "context_tokens": "context",
    "encoder_tokens": "encoder_tokens",
    "selects_with_encoder": "early",
    "embedding_bytes": "embedding_bytes",
    "chunkable": "splits",
}


class Both(NamedTuple):
    """What the simulator prepares of a case, and plain Python."""

    bound: ResolvedScenario
    kinds: RequestClasses
    classes: Classes


@cache
def both(name: str) -> Both:
    """Twelve requests of six shapes; the third shape is the usual one, and another as frequent comes after it."""
    scenario = Scenario(**CASES[name])
    images = name != "text"
    text = np.array([40, 1, 70, 70, 70, 900, 900, 900, 3, 40, 2500, 9])
    visual = np.array([576, 20, 100, 100, 100, 600, 600, 600, 0, 576, 100, 1]) * images
    output = np.array([5, 1, 30, 30, 30, 60, 60, 60, 2, 5, 30, 90])
    asked = make_requests(
        np.zeros(12),
        text_tokens=text,
        output_tokens=output,
        visual_tokens=visual,
        num_images=np.array([1, 1, 2, 2, 2, 1, 1, 1, 0, 1, 3, 1]) * images,
    )
    bound = resolve(scenario)
    return Both(bound, request_classes(bound, asked, SERVER), Classes(scenario, asked, SERVER))


def pairs(name: str) -> list[tuple[int, Any, Any]]:
    made = both(name)
    return [(at, made.kinds.classes[made.kinds.class_of[at]], made.classes.of(at)) for at in range(12)]


@pytest.mark.parametrize("name", CASES)
def test_tokens_of_each_request(name: str) -> None:
    for at, kind, expected in pairs(name):
        for field, naive_field in NAMES.items():
            assert int(kind[field]) == int(getattr(expected, naive_field)), field
        assert both(name).kinds.visual_tokens[at] == expected.encoder_tokens


@pytest.mark.parametrize("name", CASES)
def test_work_of_the_method_and_of_the_encoder(name: str) -> None:
    made = both(name)
    for _, kind, expected in pairs(name):
        assert (kind["selection_ticks"], kind["decode_selection_ticks"]) == (
            expected.selection_ticks,
            expected.decode_selection_ticks,
        )
        assert made.kinds.batch_scaling[kind["schedule"]].tolist() == made.classes.sharing[expected.schedule]
        if expected.encoder_tokens:
            assert made.kinds.encoder_ticks[kind["encoder_row"]].tolist() == made.classes.encoder(expected.images)


@pytest.mark.parametrize("name", CASES)
def test_cache_of_each_request(name: str) -> None:
    """Bytes of all layers, in blocks and without, of the prompt and after some decode steps."""
    made = both(name)
    assert made.kinds.groups["layers"].sum() == len(made.classes.model.language_model.layer_pattern)
    bits = made.classes.precision.kv_bits
    entry_bytes = [2 * group.kind.head_size * bits // 8 * group.layers for group in made.classes.groups]
    for at, kind, expected in pairs(name):
        caches = made.kinds.caches[made.kinds.class_of[at]]
        for generated in {0, 1, kind["output_tokens"] // 2, kind["output_tokens"] - 1}:
            for block in (1, 16):
                entries = [cached_entries(read_fields(SequenceCache, cache), generated, block) for cache in caches]
                held = [each.blocks(int(generated), block) for each in expected.caches]
                assert np.dot(entries, made.kinds.groups["entry_bytes"]) == np.dot(held, entry_bytes)


@pytest.mark.parametrize("name", CASES)
def test_layers_of_each_request(name: str) -> None:
    """Tokens that enter the layers, and layers that store their attention weights."""
    made = both(name)
    for at, _, expected in pairs(name):
        caches, layers = made.kinds.caches[made.kinds.class_of[at]], made.kinds.groups["layers"]
        numbers = [group.layers for group in made.classes.groups]
        columns = {"queries": "queries", "visual_tokens": "visual", "unfused": "unfused", "images": "images"}
        for field, column in columns.items():
            found = sorted(np.repeat(caches[field], layers).tolist())
            assert found == sorted(
                np.repeat([int(getattr(each, column)) for each in expected.caches], numbers).tolist()
            )


@pytest.mark.parametrize("name", CASES)
def test_limits_of_a_replica(name: str) -> None:
    """Memory that weights, workspace and the largest activations leave for the cache, and limits that are given."""
    made = both(name)
    found = capacity_of(made.bound, SERVER, FLEET, made.kinds.activation_bytes)
    expected = limits(made.classes, SERVER, FLEET)
    assert found.kv_bytes == expected.kv_capacity
    assert (found.max_seqs, found.max_tokens, found.context_tokens) == (9, 300, expected.context)
    assert (found.encoder_budget_tokens, found.encoder_cache_tokens, found.prefix_share) == (1000, 1000, 0.25)
    assert (found.concurrency, found.router, found.transfer_ticks) == (7, 0, 2**40)
    assert found.transfer_ticks_per_byte == 2**42 / 2e9


def test_shapes_are_kept_apart_by_each_of_their_counts() -> None:
    """Requests that differ in one count alone, and two that do not differ."""
    columns = {
        "text_tokens": [10, 11, 10, 10, 10, 10],
        "output_tokens": [5, 5, 6, 5, 5, 5],
        "num_images": [1, 1, 1, 2, 1, 1],
        "visual_tokens": [30, 30, 30, 30, 31, 30],
    }
    asked = make_requests(np.zeros(6), **{name: np.array(values) for name, values in columns.items()})
    kinds = request_classes(resolve(Scenario(model="llava-1.5-7b")), asked, EngineConfig())
    assert len(set(kinds.class_of.tolist())) == 5
    assert kinds.class_of[0] == kinds.class_of[5]
    found = kinds.classes[kinds.class_of]
    assert found["output_tokens"].tolist() == columns["output_tokens"]
    assert (found["prompt_tokens"] - found["encoder_tokens"]).tolist() == columns["text_tokens"]


def test_sizes_of_images_are_those_of_the_requests() -> None:
    """Qwen2.5-VL makes a token of 28 x 28 pixels; a typical image where no size is given."""
    asked = make_requests(
        np.zeros(3),
        text_tokens=10,
        output_tokens=5,
        num_images=np.array([1, 2, 1]),
        image_height=np.array([280, 280, 560]),
        image_width=np.array([560, 560, 280]),
    )
    kinds = request_classes(resolve(Scenario(model="qwen2.5-vl-7b")), asked, EngineConfig())
    assert kinds.visual_tokens.tolist() == [200, 400, 200]
    assert kinds.classes["prompt_tokens"][kinds.class_of].tolist() == [210, 410, 210]
