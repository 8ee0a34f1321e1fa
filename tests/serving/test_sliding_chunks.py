"""Chunks of a prompt under a sliding window, or attention in chunks: keys that are read and pairs that are computed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from asymsim import Scenario
from asymsim.serving.config import EngineConfig
from asymsim.serving.simulate import simulate
from asymsim.serving.workload.requests import make_requests
from oracles.round_numbers import (
    HEAD,
    HEADS,
    KV_HEADS,
    LAYERS,
    TICKS_EACH,
    TICKS_PER_S,
    gpu_file,
    prefill_attention_bytes,
    step_ticks,
    text_model,
)

PROMPT, CHUNK = 100, 32
# Around the first token of the second and the third chunk, and of the last, which has 4 tokens.
WINDOWS = (1, 31, 32, 33, 34, 63, 64, 65, 66, 96, 97, 98, 100, 101)
SERVER = EngineConfig(max_num_batched_tokens=CHUNK, max_num_seqs=2)


def spans() -> list[tuple[int, int]]:
    return [(first, min(PROMPT, first + CHUNK)) for first in range(0, PROMPT, CHUNK)]


def seen(query: int, window: int) -> set[int]:
    """A token sees itself and the ``window - 1`` before it."""
    return {key for key in range(query + 1) if query - key < window}


def first_token_ticks(folder: Path, counts: str, **changes: int) -> int:
    scenario = Scenario(model=text_model(folder, **changes), gpu=gpu_file(folder, counts=counts))
    made = simulate(scenario, make_requests([0.0], text_tokens=PROMPT, output_tokens=1), SERVER)
    return round(made.ttft_s[0] * TICKS_PER_S)


@pytest.mark.parametrize("window", WINDOWS)
def test_a_chunk_reads_the_keys_that_any_of_its_queries_sees(window: int, tmp_path: Path) -> None:
    expected = 0
    for first, last in spans():
        keys = len(set().union(*(seen(query, window) for query in range(first, last))))
        unread = prefill_attention_bytes(last - first, last) - prefill_attention_bytes(last - first, keys)
        expected += step_ticks([(first, last)]) - TICKS_EACH * LAYERS * unread
    assert first_token_ticks(tmp_path, "bytes", sliding_window=window) == expected


@pytest.mark.parametrize("window", WINDOWS)
def test_a_chunk_computes_the_pairs_that_its_queries_see(window: int, tmp_path: Path) -> None:
    """Against the same model without a window, all that is less is 4 FLOPs a pair, head and element."""
    fewer = sum(query + 1 - len(seen(query, window)) for query in range(PROMPT))
    whole = first_token_ticks(tmp_path, "flops")
    assert whole - first_token_ticks(tmp_path, "flops", sliding_window=window) == (
        TICKS_EACH * LAYERS * 4 * fewer * HEADS * HEAD
    )


def test_decode_steps_read_no_more_than_the_window(tmp_path: Path) -> None:
    """39 entries of the cache and the new token, from the first step on."""
    scenario = Scenario(model=text_model(tmp_path, sliding_window=40), gpu=gpu_file(tmp_path))
    made = simulate(scenario, make_requests([0.0], text_tokens=PROMPT, output_tokens=6), SERVER)
    gap_ticks = np.rint((made.e2e_s - made.ttft_s) * TICKS_PER_S / 5).astype(np.int64)
    assert gap_ticks.tolist() == [step_ticks(contexts=[40])]


def attention_in_chunks(folder: Path, chunk_tokens: int) -> str:
    """Llama 4 of two layers whose tokens see those of their own chunk alone."""
    path = folder / f"chunks_of_{chunk_tokens}.json"
    text = {
        "hidden_size": 64,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": HEAD,
        "intermediate_size": 128,
        "num_hidden_layers": LAYERS,
        "vocab_size": 1000,
        "attention_chunk_size": chunk_tokens,
    }
    # Widths of the encoder that fit one another; no image is seen.
    vision = {"intermediate_size": 3072, "vision_output_dim": 4096}
    path.write_text(json.dumps({"model_type": "llama4", "text_config": text, "vision_config": vision}))
    return str(path)


@pytest.mark.parametrize("chunk_tokens", [16, 31, 32, 33, 50, 64, 96, 99, 101])
@pytest.mark.parametrize("counts", ["bytes", "flops"])
def test_attention_in_chunks_begins_with_the_chunk_of_the_first_query(
    counts: str, chunk_tokens: int, tmp_path: Path
) -> None:
    """Against chunks longer than the prompt: a key is 128 bytes read and written, a pair 4 FLOPs a head and element."""

    def taken(model: str) -> int:
        scenario = Scenario(model=model, gpu=gpu_file(tmp_path, counts=counts))
        asked = make_requests([0.0], text_tokens=PROMPT, output_tokens=1, num_images=0)
        return round(simulate(scenario, asked, SERVER).ttft_s[0] * TICKS_PER_S)

    unread = fewer = 0
    for first, last in spans():
        met = [set(range(query // chunk_tokens * chunk_tokens, query + 1)) for query in range(first, last)]
        unread += last - len(set().union(*met))
        fewer += sum(query + 1 - len(keys) for query, keys in zip(range(first, last), met, strict=True))
    less = unread * 2 * 2 * 2 * KV_HEADS * HEAD if counts == "bytes" else fewer * 4 * HEADS * HEAD
    whole, chunks = (taken(attention_in_chunks(tmp_path, size)) for size in (PROMPT + 1, chunk_tokens))
    assert whole - chunks == TICKS_EACH * LAYERS * less
