"""A made-up GPU and made-up models whose step times are sums that a test works out by hand.

The GPU was measured for nothing, so each operator takes its bytes over the bandwidth or its FLOPs over the peak. One
of the two rates is 2**28 a second and the other beyond reach: with `TICKS_PER_S` = 2**42, every byte, or every FLOP,
takes 2**14 ticks, about 4 ns.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

TICKS_PER_S = 2**42
RATE = 2.0**28
TICKS_EACH = 2**14
# Shape of the language model: hidden size, query heads, KV heads, head size, FFN width, layers, vocabulary.
HIDDEN, HEADS, KV_HEADS, HEAD, FFN, LAYERS, VOCAB = 64, 4, 2, 16, 128, 2, 1000
CONTEXT = 4096
# Key and value of one token in both layers, 2 bytes each.
TOKEN_BYTES = LAYERS * 2 * KV_HEADS * HEAD * 2
BLOCK = 16

_SOURCED = (
    "peak_flops_per_s",
    "bandwidth_bytes_per_s",
    "capacity_bytes",
    "l2_bytes",
    "sm_count",
    "link_bytes_per_s",
    "tdp_w",
)
_DECODER = {
    "hidden_size": HIDDEN,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "head_dim": HEAD,
    "intermediate_size": FFN,
    "num_hidden_layers": LAYERS,
    "vocab_size": VOCAB,
    "max_position_embeddings": CONTEXT,
    "tie_word_embeddings": False,
}


def gpu_file(folder: Path, *, counts: str = "bytes", rate: float = RATE, capacity_bytes: int = 2**36) -> str:
    """A GPU that gets through ``rate`` of its ``counts``, "bytes" or "flops", a second."""
    bandwidth, peak = (rate, 1e30) if counts == "bytes" else (1e30, rate)
    lines = [
        f'name = "{counts}_gpu"',
        'vendor = "none"',
        'architecture = "made_up"',
        f"bandwidth_bytes_per_s = {bandwidth!r}",
        f"capacity_bytes = {capacity_bytes}",
        "l2_bytes = 1048576",
        "sm_count = 1",
        'link = "none"',
        f"link_bytes_per_s = {bandwidth!r}",
        "tdp_w = 100.0",
        "[peak_flops_per_s]",
        "fp32 = 1e30",
        f"bf16 = {peak!r}",
        f"fp8 = {peak!r}",
        "[sources]",
        *(f'{name} = "made up"' for name in _SOURCED),
    ]
    path = folder / f"{counts}_gpu.toml"
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def engine_file(folder: Path, host_s: float) -> str:
    """A serving engine whose host adds ``host_s`` to each step."""
    path = folder / "engine.toml"
    path.write_text(
        f'[made_up]\nhost_s = {host_s!r}\nhost_p05_s = {host_s!r}\nhost_p95_s = {host_s!r}\nsource = "no"\n'
    )
    return str(path)


def text_model(folder: Path, **changes: Any) -> str:
    """A decoder of two layers without images; ``sliding_window`` makes both slide."""
    path = folder / f"text{''.join(f'_{name}_{value}' for name, value in changes.items())}.json"
    model_type = "mistral" if "sliding_window" in changes else "llama"
    path.write_text(json.dumps({"model_type": model_type, **_DECODER, **changes}))
    return str(path)


# The encoder: hidden size and head size, FFN width, layers; a tile of 16 patches of 8 x 8 pixels, and [CLS].
TOWER_HIDDEN, TOWER_FFN, TOWER_LAYERS, PATCHES, PATCH_INPUTS = 32, 64, 2, 16, 3 * 8 * 8


def image_model(folder: Path) -> str:
    """The decoder behind an encoder of two layers whose tile makes 16 visual tokens."""
    vision = {
        "model_type": "clip_vision_model",
        "hidden_size": TOWER_HIDDEN,
        "intermediate_size": TOWER_FFN,
        "num_hidden_layers": TOWER_LAYERS,
        "num_attention_heads": 1,
        "image_size": 32,
        "patch_size": 8,
    }
    path = folder / "images.json"
    text = {"model_type": "llama", **_DECODER}
    path.write_text(json.dumps({"model_type": "llava", "text_config": text, "vision_config": vision}))
    return str(path)


def linear_bytes(rows: int, inputs: int, outputs: int) -> int:
    """A product reads its weight and its rows and writes as many rows, 2 bytes an element."""
    return 2 * (inputs * outputs + rows * (inputs + outputs))


def dense_bytes(tokens: int) -> int:
    """One layer but for its attention.

    Projections to queries, keys and values, and back; gate, up and down. Beside them element-wise work: two norms and
    two residual additions read and write the stream, the rotation queries and keys, and the activation reads gate and
    up and writes their product.
    """
    if tokens == 0:
        return 0
    products = (
        linear_bytes(tokens, HIDDEN, (HEADS + 2 * KV_HEADS) * HEAD)
        + linear_bytes(tokens, HEADS * HEAD, HIDDEN)
        + linear_bytes(tokens, HIDDEN, 2 * FFN)
        + linear_bytes(tokens, FFN, HIDDEN)
    )
    stream, rotated = 2 * (2 + 2) * HIDDEN, 2 * (HEADS + KV_HEADS) * HEAD
    return products + 2 * tokens * (stream + rotated + 2 * FFN + FFN)


def prefill_attention_bytes(queries: int, keys: int) -> int:
    """One layer's attention of a prompt's chunk: queries in, outputs out, keys and values read and written."""
    return 2 * 2 * queries * HEADS * HEAD + 2 * 2 * keys * 2 * KV_HEADS * HEAD


def decode_attention_bytes(contexts: Iterable[int]) -> int:
    """One layer's attention of a decode step, whose requests attend to ``contexts`` tokens, the new one included."""
    lengths = list(contexts)
    kv = 2 * 2 * KV_HEADS * HEAD
    return sum(2 * 2 * HEADS * HEAD + length * kv + kv for length in lengths)


def step_bytes(chunks: Iterable[tuple[int, int]] = (), contexts: Iterable[int] = ()) -> int:
    """One step: ``chunks`` of prompts, each its first and last position, and decoding requests at ``contexts``.

    Prompts of one step share a kernel, whose queries and keys are their means, rounded up.
    """
    spans, lengths = list(chunks), list(contexts)
    tokens = sum(last - first for first, last in spans) + len(lengths)
    attention = decode_attention_bytes(lengths)
    if spans:
        queries = -(-sum(last - first for first, last in spans) // len(spans))
        keys = -(-sum(last for _, last in spans) // len(spans))
        attention += len(spans) * prefill_attention_bytes(queries, keys)
    sequences = len(spans) + len(lengths)
    head = linear_bytes(sequences, HIDDEN, VOCAB)
    return LAYERS * (dense_bytes(tokens) + attention) + 2 * 2 * tokens * HIDDEN + head


def step_ticks(chunks: Iterable[tuple[int, int]] = (), contexts: Iterable[int] = ()) -> int:
    """Ticks of `step_bytes`."""
    return TICKS_EACH * step_bytes(chunks, contexts)


def alone_ticks(prompt: int, output: int) -> tuple[int, int]:
    """Ticks to the first token and to the last of a request that nobody disturbs."""
    first = step_ticks([(0, prompt)])
    return first, first + sum(step_ticks(contexts=[prompt + made]) for made in range(1, output))


def encoder_bytes(requests: int, tiles: int = 1) -> int:
    """Encoding the images of some requests at once: patches, two layers of queries and MLP, projector."""
    rows = requests * tiles * PATCHES
    tokens = requests * tiles * (PATCHES + 1)
    layer = (
        linear_bytes(tokens, TOWER_HIDDEN, 3 * TOWER_HIDDEN)
        + linear_bytes(tokens, TOWER_HIDDEN, TOWER_HIDDEN)
        + linear_bytes(tokens, TOWER_HIDDEN, TOWER_FFN)
        + linear_bytes(tokens, TOWER_FFN, TOWER_HIDDEN)
    )
    stream = 2 * (2 + 2) * TOWER_HIDDEN
    layer += 2 * tokens * (stream + TOWER_FFN + TOWER_FFN)
    attention = 2 * 4 * tokens * TOWER_HIDDEN
    projector = linear_bytes(rows, TOWER_HIDDEN, HIDDEN) + linear_bytes(rows, HIDDEN, HIDDEN)
    return linear_bytes(rows, PATCH_INPUTS, TOWER_HIDDEN) + TOWER_LAYERS * (layer + attention) + projector


def binned(gaps: Iterable[tuple[int, int]], bins: int) -> list[int]:
    """Counts of gaps by size, from pairs of ticks and a number: bins grow by 0.5 % from a microsecond."""
    counts = [0] * bins
    for ticks, number in gaps:
        seconds = ticks / TICKS_PER_S
        place = math.floor(math.log(seconds / 1e-6) / math.log(1.005)) if seconds > 1e-6 else 0
        counts[min(place, bins - 1)] += number
    return counts
