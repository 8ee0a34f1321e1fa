"""How fast studies are. Run by ``make bench``; nothing here passes or fails on a time.

``ASYMSIM_BENCH_ROWS=1000000000`` sets the size of the reduced sweeps.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from asymsim.sweep.study_file import read_study

ROWS = int(os.environ.get("ASYMSIM_BENCH_ROWS", "4000000"))
FIXED = '[scenario]\nmodel = "llava-1.5-7b"\ngpu = "h100_sxm"\n'
REDUCED = """
[axes]
method = ["none", "fastv"]
text_tokens = {{ from = 1, to = {text}, step = 1 }}
batch_size = {{ from = 1, to = 50, step = 1 }}
output_tokens = {{ from = 1, to = 1000, step = 1 }}
[[reduce]]
kind = "histogram"
figure = "ttft_s"
from = 0.001
to = 10
bins = 100
scale = "log"
by = ["method"]
[[reduce]]
kind = "quantiles"
figure = "tpot_s"
by = ["method"]
[[reduce]]
kind = "pareto"
figures = ["ttft_s", "output_tokens_per_s"]
best = ["smallest", "largest"]
[[reduce]]
kind = "slo"
conditions = ["ttft_s < 0.2", "tpot_s < 0.02", "fits"]
"""
# Lengths as they are met, which no regularity compresses.
PARQUET = """
[axes]
method = ["none", "fastv"]
batch_size = { from = 1, to = 25, step = 1 }
text_tokens = { distribution = "lognormal", median = 80, sigma = 0.8, samples = 400, seed = 1 }
output_tokens = { distribution = "lognormal", median = 150, sigma = 0.9, samples = 500, seed = 2 }
[output]
figures = ["ttft_s", "tpot_s", "e2e_s"]
"""
# As a user starts it, and what the process and its workers took at most.
RUN = """
import json, resource, sys
from asymsim.cli.app import run
assert run(sys.argv[1:]) == 0
own, children = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
print(json.dumps([own * 1024, children * 1024]))
"""
RATES: dict[str, float] = {}


def swept(study: Path, out: Path, *flags: str) -> list[int]:
    command = [sys.executable, "-c", RUN, "sweep", str(study), "--out", str(out), *flags]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    peaks: list[int] = json.loads(done.stdout)
    return peaks


@pytest.mark.benchmark(group="sweep")
@pytest.mark.parametrize("flags", ["--workers 1", "--workers 2", "--local-cluster 2"])
def test_reduced_scenarios(flags: str, benchmark: Any, tmp_path: Path) -> None:
    """Full estimates into a histogram, quantiles, a Pareto front and counts, start of the process included."""
    study = tmp_path / "reduced.toml"
    study.write_text(FIXED + REDUCED.format(text=max(1, ROWS // 100_000)))
    rows = read_study(study).grid.rows
    peaks = benchmark.pedantic(swept, args=(study, tmp_path / "out", *flags.split()), rounds=1)
    RATES[flags] = rows / benchmark.stats.stats.min
    gain = f", {RATES[flags] / RATES['--workers 1']:.2f} times one worker's" if len(RATES) > 1 else ""
    processes = int(flags.split()[1]) if "cluster" in flags else 0
    peak = peaks[0] + processes * peaks[1]
    print(f"\nsweep {flags}: {rows:,} reduced, {RATES[flags]:,.0f} a second{gain}; peak {peak / 2**30:.2f} GiB in all")


@pytest.mark.benchmark(group="sweep")
def test_ten_million_rows_to_parquet(benchmark: Any, tmp_path: Path) -> None:
    """Three figures of 10 million scenarios with drawn lengths."""
    study = tmp_path / "rows.toml"
    study.write_text(FIXED + PARQUET)
    rows = read_study(study).grid.rows
    peaks = benchmark.pedantic(swept, args=(study, tmp_path / "out"), rounds=1)
    size = sum(path.stat().st_size for path in (tmp_path / "out").rglob("part-*"))
    seconds = benchmark.stats.stats.min
    print(
        f"\n{rows:,} rows to Parquet: {seconds:.1f} s, {size / rows:.2f} bytes a row, peak {peaks[0] / 2**30:.2f} GiB"
    )
    assert rows == 10_000_000
    assert size <= 8 * rows
