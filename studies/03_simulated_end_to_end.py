"""Errors of the serving simulation on the runs of ``asymsim validate latency``, with nothing fitted to queues.

    pip install -e '.[measured]'
    python studies/03_simulated_end_to_end.py

Each run becomes a closed loop of its concurrency with ten requests a slot, all sent at once, on one replica. The file
does not say whether lengths varied in a benchmark. Both are tried: equal lengths, and lengths sampled from 80 % of the
stated length up, as InferenceMAX does. Only the engine's host time is fitted on these runs (``asymsim validate
latency``).
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from asymsim.estimator.scenario import Scenario
from asymsim.serving.config import ClusterConfig, EngineConfig
from asymsim.serving.simulate import simulate
from asymsim.serving.workload.requests import make_requests
from asymsim.validation.serving_runs.deployment import predict
from asymsim.validation.serving_runs.loader import Run, load_runs

REQUESTS_PER_SLOT = 10
# InferenceMAX: benchmarks sample lengths with --random-range-ratio 0.8.
VARIED = 0.8
ENGINE_CONFIG = EngineConfig(max_num_seqs=1024)


def simulated_times(run: Run, lowest: float) -> tuple[float, float]:
    """Mean TTFT and TPOT, seconds, with lengths from ``lowest`` times the stated ones up."""
    count = REQUESTS_PER_SLOT * run.batch_size
    rng = np.random.default_rng(run.line)

    def lengths(stated: int, least: int) -> np.ndarray:
        return rng.integers(max(least, round(lowest * stated)), stated + 1, count)

    requests = make_requests(
        np.zeros(count),
        num_images=0,
        text_tokens=lengths(run.input_tokens, 1),
        output_tokens=lengths(run.output_tokens, 2),
    )
    scenario = Scenario(model=run.model, gpu=run.gpu.name, dtype=run.dtype, kv_dtype=run.kv_dtype, engine=run.engine)
    result = simulate(scenario, requests, ENGINE_CONFIG, ClusterConfig(concurrency=run.batch_size))
    tpot_s = (result.e2e_s - result.ttft_s) / (requests.output_tokens - 1)
    return float(result.ttft_s.mean()), float(tpot_s.mean())


def main() -> None:
    """Print mean and median errors of both, by deployment and in all."""
    errors = defaultdict(list)
    for run in load_runs().runs:
        if predict(run).judged and not np.isnan(run.ttft_s):
            predicted = [*simulated_times(run, 1.0), *simulated_times(run, VARIED)]
            row = np.array(predicted) / np.tile([run.ttft_s, run.tpot_s], 2) - 1
            errors[run.deployment].append(row)
            errors["all"].append(row)
    print(
        f"{'mean / median |error|':42s} runs   "
        + "   ".join(f"{name:>17s}" for name in ("TTFT, alike", "TPOT, alike", "TTFT, varied", "TPOT, varied"))
    )
    for name in sorted(errors, key=lambda name: (name == "all", name)):
        sizes = 100 * np.abs(np.array(errors[name]))
        cells = (
            f"{mean:6.1f} / {median:6.1f} %" for mean, median in zip(sizes.mean(0), np.median(sizes, 0), strict=True)
        )
        print(f"{name:42s} {len(sizes):4d}   " + "   ".join(cells))


if __name__ == "__main__":
    main()
