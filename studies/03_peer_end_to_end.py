"""Errors of aiconfigurator's estimator on the runs of ``asymsim validate latency``, beside the simulator's.

    pip install aiconfigurator==0.12.0 && pip install -e '.[measured]'
    python studies/03_peer_end_to_end.py

Each run is given to ``aiconfigurator.cli.api.cli_estimate``, the function that its command line calls, with the run's
model, GPU, engine, format, token counts and batch. The package has one set of tables an engine and uses it for every
version; a 70B run has an fp8 cache, as in the simulator. It refuses runs that overflow the memory by its count; both
are compared on the runs that it answers.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from aiconfigurator.cli.api import cli_estimate

from asymsim.validation.serving_runs.error_report import end_to_end
from asymsim.validation.serving_runs.error_rows import VERDICTS
from asymsim.validation.serving_runs.loader import Run, load_runs

MODELS = {
    "llama-3.1-8b": "meta-llama/Meta-Llama-3.1-8B",
    "llama-3.1-70b": "meta-llama/Meta-Llama-3.1-70B",
    "qwen3-32b": "Qwen/Qwen3-32B",
}


def peer(run: Run) -> tuple[float, float] | None:
    """TPOT and TTFT in seconds; None where aiconfigurator refuses the run."""
    try:
        estimate = cli_estimate(
            MODELS[run.model],
            run.gpu.name,
            backend_name=run.engine,
            isl=run.input_tokens,
            osl=run.output_tokens,
            batch_size=run.batch_size,
            gemm_quant_mode=run.gemm_mode or "bfloat16",
            kvcache_quant_mode="fp8" if run.kv_dtype == "fp8" else None,
        )
    except Exception as error:
        print(f"line {run.line}, {run.deployment}, batch {run.batch_size}: {str(error).splitlines()[0][:100]}")
        return None
    return estimate.tpot * 1e-3, estimate.ttft * 1e-3


def show(label: str, quantity: str, rows: Sequence[dict[str, Any]], peer_times: dict[int, tuple[float, float]]) -> None:
    """Print mean and median errors of both estimators on the rows that both answer."""
    used = [row for row in rows if row["line"] in peer_times and row[f"measured_{quantity}_s"]]
    if not used:
        return
    measured = np.array([row[f"measured_{quantity}_s"] for row in used])
    simulated = np.array([row[f"{quantity}_p50_s"] for row in used]) / measured - 1
    peers = np.array([peer_times[row["line"]][quantity == "ttft"] for row in used]) / measured - 1
    columns = (
        f"{100 * np.abs(each).mean():5.1f} / {100 * np.median(np.abs(each)):5.1f} %" for each in (simulated, peers)
    )
    print(f"{quantity.upper()} {label:45s} {len(used):4d} rows: mean / median", *columns, sep="   ")


def main() -> None:
    """Print both errors, the simulator's first."""
    logging.disable(logging.WARNING)
    peer_times = {run.line: times for run in load_runs().runs if (times := peer(run)) is not None}
    runs = end_to_end().runs
    possible = [row for row in runs if row["verdict"] != "impossible"]
    print(f"{len(peer_times)} of {len(runs)} runs answered; verdicts: {', '.join(VERDICTS)}")
    show("all", "tpot", runs, peer_times)
    show("judged and queued", "tpot", possible, peer_times)
    show(
        "judged and queued, half not fitted on",
        "tpot",
        [row for row in possible if row["half"] == "held out"],
        peer_times,
    )
    show("all", "ttft", runs, peer_times)
    show("judged", "ttft", [row for row in runs if row["verdict"] == "judged"], peer_times)
    for name in sorted({row["deployment"] for row in runs}):
        show(name, "tpot", [row for row in possible if row["deployment"] == name], peer_times)


if __name__ == "__main__":
    main()
