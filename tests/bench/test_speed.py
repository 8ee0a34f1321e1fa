"""How fast estimates are. Run by ``make bench``; nothing here passes or fails on a time."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from typing import Any

import numpy as np
import pytest

import asymsim
from asymsim.sweep.evaluate import evaluate

FASTV = asymsim.Scenario(model="llava-1.5-7b", method="fastv", keep=0.5, output_tokens=128)
ROWS = 200_000


def columns(rows: int) -> dict[str, Any]:
    random = np.random.default_rng(0)
    return {
        "text_tokens": random.integers(16, 512, rows, dtype=np.int32),
        "batch_size": random.integers(1, 64, rows, dtype=np.int32),
    }


@pytest.mark.benchmark(group="python")
def test_vectorised_estimates(benchmark: Any) -> None:
    """Full estimates (encoder, prefill, 128 output tokens, memory) on one core."""
    given = columns(ROWS)
    evaluate(FASTV, {"text_tokens": [16]})
    result = benchmark.pedantic(evaluate, args=(FASTV, given), rounds=10, warmup_rounds=1)
    benchmark.extra_info["estimates_per_s"] = round(ROWS / benchmark.stats.stats.min)
    print(f"\nvectorised: {ROWS / benchmark.stats.stats.min:,.0f} full estimates a second on one core (best round)")
    assert len(result["prefill_flops"]) == ROWS


@pytest.mark.benchmark(group="python")
def test_scalar_estimate(benchmark: Any) -> None:
    """One ``asymsim.estimate``, compiled and with its model known, its dense baseline included."""
    result = benchmark(asymsim.estimate, FASTV)
    print(f"\nscalar: {benchmark.stats.stats.median * 1e6:,.0f} us an estimate (median)")
    assert result.savings.prefill_flops > 0


def run(*arguments: str, cache: str | None = None) -> None:
    environment = dict(os.environ)
    if cache is not None:
        environment["NUMBA_CACHE_DIR"] = cache
    subprocess.run(
        [sys.executable, "-m", "asymsim.cli.app", *arguments], check=True, capture_output=True, env=environment
    )


@pytest.mark.benchmark(group="command line")
def test_help(benchmark: Any) -> None:
    benchmark.pedantic(run, args=("--help",), rounds=5, warmup_rounds=1)
    print(f"\nasymsim --help: {benchmark.stats.stats.median:.2f} s (median)")


@pytest.mark.benchmark(group="command line")
def test_estimate_with_a_warm_cache(benchmark: Any) -> None:
    benchmark.pedantic(run, args=("estimate", "--model", "llava-1.5-7b"), rounds=5, warmup_rounds=1)
    print(f"\nasymsim estimate, warm: {benchmark.stats.stats.median:.2f} s (median)")


@pytest.mark.benchmark(group="command line")
def test_estimate_with_a_cold_cache(benchmark: Any) -> None:
    cache = tempfile.mkdtemp()
    try:
        benchmark.pedantic(
            run, args=("estimate", "--model", "llava-1.5-7b"), kwargs={"cache": cache}, rounds=1, iterations=1
        )
    finally:
        shutil.rmtree(cache)
    print(f"\nasymsim estimate, cold: {benchmark.stats.stats.max:.2f} s")


PEAK = """
import resource
import sys
import numpy as np
import asymsim
from asymsim.sweep.evaluate import evaluate
rows = int(sys.argv[1])
random = np.random.default_rng(0)
evaluate(
    asymsim.Scenario(model="llava-1.5-7b", method="fastv", keep=0.5, output_tokens=128),
    {"text_tokens": random.integers(16, 512, rows, dtype=np.int32),
     "batch_size": random.integers(1, 64, rows, dtype=np.int32)},
)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


@pytest.mark.benchmark(group="memory")
def test_ten_million_rows(benchmark: Any) -> None:
    """All figures of 10 million scenarios, in a process of its own so that its peak is its own."""

    def peak_bytes() -> int:
        done = subprocess.run([sys.executable, "-c", PEAK, "10000000"], check=True, capture_output=True, text=True)
        return int(done.stdout)

    peak = benchmark.pedantic(peak_bytes, rounds=1, iterations=1)
    benchmark.extra_info["peak_bytes"] = peak
    print(f"\n10,000,000 rows: {benchmark.stats.stats.max:.1f} s, peak {peak / 2**30:.2f} GiB")
    assert peak > 0
