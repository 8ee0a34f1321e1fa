"""Differences of two frameworks' GEMM tables on the same shapes, a lower bound of any model's error.

python studies/02_operator_times/noise_floor.py
"""

from __future__ import annotations

import numpy as np

from asymsim.calibration.measured_tables import SYSTEMS
from asymsim.calibration.sections import load_section
from asymsim.catalogue.gpu import load_gpu
from asymsim.core.arrays import Array


def compare(name: str, section: str) -> None:
    """Print |vLLM / SGLang - 1| over the shapes that both have."""
    tables = [load_section(load_gpu(name), section, framework) for framework in ("vllm", "sglang")]
    seconds = [
        dict(zip(zip(*(table.columns[axis] for axis in "mnk"), strict=True), table.seconds, strict=True))
        for table in tables
        if table is not None
    ]
    if len(seconds) < 2:
        return
    shared = [shape for shape in seconds[0] if shape in seconds[1]]
    ratio = np.array([seconds[0][shape] / seconds[1][shape] for shape in shared])
    long = np.array([seconds[0][shape] for shape in shared]) > 1e-3
    bias = 100 * (np.median(ratio) - 1)
    print(f"{name} {section}: {spread(ratio)}, bias {bias:+.1f} %; above 1 ms {spread(ratio[long])}", flush=True)


def spread(ratio: Array) -> str:
    """Rows, median and 90th percentile of |ratio - 1|."""
    if not len(ratio):
        return "no rows"
    difference = 100 * np.abs(ratio - 1)
    return f"{len(ratio)} rows, median {np.median(difference):.1f} %, p90 {np.quantile(difference, 0.9):.1f} %"


if __name__ == "__main__":
    for system in SYSTEMS:
        for section in ("gemm_bf16", "gemm_fp8"):
            compare(system, section)
