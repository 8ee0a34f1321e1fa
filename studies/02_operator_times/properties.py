"""Properties of the fitted functions on random shapes: python properties.py.

Counts, of SHAPES shapes a GPU, how often a time shrinks when a dimension grows, falls below the roofline, or
(GEMM) grows on a machine with more bandwidth or a higher peak. All counts should be 0; decode attention on GPUs
with FlashAttention-2 is known to shrink where a further split begins.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import operators
from context_attention import context_attention_seconds
from encoder_attention import encoder_attention_seconds
from gemm import gemm_seconds
from generation_attention import generation_attention_seconds
from machine import GPUS, Machine, machine_of
from store import stored

SHAPES = 4000
SEED = 1
# Rounding of the last digit is no shrinking.
SLACK = 1e-12


def check_gemm(machine: Machine, fitted: Any, rng: np.random.Generator) -> Counter[str]:
    """Products of 1 to 32,768 in each dimension."""
    found: Counter[str] = Counter(shrinks=0, below=0, slower=0)
    faster = [machine._replace(**{name: 1.5 * getattr(machine, name)}) for name in Machine._fields[:2]]
    for _ in range(SHAPES):
        shape = [float(int(2**x)) for x in rng.uniform(0, 15, 3)]
        m, n, k = shape
        seconds = gemm_seconds(m, n, k, 2.0, machine, fitted)
        moved = 2 * (m * k + n * k) + 2 * m * n
        found["below"] += seconds < max(2 * m * n * k / machine.flops_per_s, moved / machine.bandwidth_bytes_per_s)
        which = rng.integers(3)
        shape[which] = float(int(shape[which] * rng.uniform(1, 2)) + 1)
        found["shrinks"] += gemm_seconds(*shape, 2.0, machine, fitted) < seconds * (1 - SLACK)
        found["slower"] += any(gemm_seconds(m, n, k, 2.0, one, fitted) > seconds * (1 + SLACK) for one in faster)
    return found


def check_attention(
    time_of: Callable[..., float], floor: Callable[..., float], rng: np.random.Generator
) -> Counter[str]:
    """Attention of 1 to 64 sequences of 2 to 16,384 tokens; ``time_of(b, n, h, kv)`` in seconds."""
    found: Counter[str] = Counter(shrinks=0, below=0)
    for _ in range(SHAPES):
        b, n = float(int(2 ** rng.uniform(0, 6))), float(int(2 ** rng.uniform(1, 14)))
        kv = float(rng.integers(1, 9))
        h = kv * rng.integers(1, 9)
        longer = float(int(n * rng.uniform(1, 2)) + 1)
        seconds = time_of(b, n, h, kv)
        found["below"] += bool(seconds < floor(b, n, h, kv) * (1 - SLACK))
        found["shrinks"] += time_of(b, longer, h, kv) < seconds * (1 - SLACK)
    return found


def check(gpu: str) -> None:
    """Print the counts of a GPU."""
    machine, rng = machine_of(gpu), np.random.default_rng(SEED)
    peak, bandwidth = machine.flops_per_s, machine.bandwidth_bytes_per_s
    counts = {}
    for kind in operators.CLASSES:
        record = stored(gpu, kind)
        if record is None or kind == "gemm_fp8":
            continue
        fitted = operators.build(kind, gpu, operators.vector_of(kind, record))
        if kind == "gemm_bf16":
            counts[kind] = check_gemm(machine, fitted, rng)
            continue
        time_of, floor = {
            "context_attention": (
                lambda b, n, h, kv, f=fitted: context_attention_seconds(b, n, h, kv, 128.0, 1, machine, f),
                lambda b, n, h, kv: max(256 * b * h * n * (n + 1) / peak, 512 * b * n * (h + kv) / bandwidth),
            ),
            "generation_attention": (
                lambda b, n, h, kv, f=fitted: generation_attention_seconds(b, n, h, kv, 128.0, 1, 0.0, machine, f),
                lambda b, n, h, kv: max(512 * b * h * n / peak, 512 * b * (n * kv + h) / bandwidth),
            ),
            "encoder_attention": (
                lambda b, n, h, kv, f=fitted: encoder_attention_seconds(b, n, h, 80.0, 2, machine, f),
                lambda b, n, h, kv: max(320 * b * h * n * n / peak, 640 * b * n * h / bandwidth),
            ),
        }[kind]
        counts[kind] = check_attention(time_of, floor, rng)
    print(f"{gpu}, of {SHAPES}:", "; ".join(f"{kind} {dict(count)}" for kind, count in counts.items()), flush=True)


if __name__ == "__main__":
    for name in GPUS:
        check(name)
