"""How far two frameworks' GEMM tables differ on the same shapes: python noise_floor.py."""

from __future__ import annotations

import numpy as np
import reader
from machine import GPUS, Array


def compare(gpu: str, dtype: str) -> None:
    """|vLLM / SGLang - 1| over the shapes that both have."""
    tables = [reader.read_gemm(gpu, framework, dtype) for framework in ("vllm", "sglang")]
    if any(rows is None or not len(rows) for rows in tables):
        return
    seconds = [
        dict(zip(map(tuple, np.stack([rows[name] for name in "mnk"], 1).tolist()), rows["seconds"], strict=True))
        for rows in tables
        if rows is not None
    ]
    shared = [shape for shape in seconds[0] if shape in seconds[1]]
    ratio = np.array([seconds[0][shape] / seconds[1][shape] for shape in shared])
    long = np.array([seconds[0][shape] for shape in shared]) > 1e-3
    bias = 100 * (np.median(ratio) - 1)
    print(f"{gpu} {dtype}: {spread(ratio)}, bias {bias:+.1f} %; above 1 ms {spread(ratio[long])}", flush=True)


def spread(ratio: Array) -> str:
    """Rows, median and 90th percentile of |ratio - 1|."""
    if not len(ratio):
        return "no rows"
    off = 100 * np.abs(ratio - 1)
    return f"{len(ratio)} rows, median {np.median(off):.1f} %, p90 {np.quantile(off, 0.9):.1f} %"


if __name__ == "__main__":
    for name in GPUS:
        for number_format in ("bfloat16", "fp8"):
            compare(name, number_format)
