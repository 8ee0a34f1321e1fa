"""The runs of ``asymsim validate latency`` by aiconfigurator's own estimator, beside the simulator.

    pip install aiconfigurator==0.12.0 && pip install -e '.[measured]'
    python studies/03_peer_end_to_end.py

Each run is put to ``aiconfigurator.cli.api.cli_estimate``, which is what its command line calls, with the run's
model, GPU, engine, format, token counts and batch. The package holds one set of tables an engine and takes it
whatever version ran; a 70B run gets an fp8 cache, as the simulator gives it. It refuses runs that overflow the
memory by its own count; both are compared on those that it answers.
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
    """TPOT and TTFT in seconds, or None where it refuses."""
    try:
        found = cli_estimate(
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
    return found.tpot * 1e-3, found.ttft * 1e-3


def show(label: str, quantity: str, rows: Sequence[dict[str, Any]], theirs: dict[int, tuple[float, float]]) -> None:
    """Mean and median error of either on the rows that both answer."""
    used = [row for row in rows if row["line"] in theirs and row[f"measured_{quantity}_s"]]
    if not used:
        return
    measured = np.array([row[f"measured_{quantity}_s"] for row in used])
    ours = np.array([row[f"{quantity}_p50_s"] for row in used]) / measured - 1
    other = np.array([theirs[row["line"]][quantity == "ttft"] for row in used]) / measured - 1
    columns = (f"{100 * np.abs(each).mean():5.1f} / {100 * np.median(np.abs(each)):5.1f} %" for each in (ours, other))
    print(f"{quantity.upper()} {label:45s} {len(used):4d} rows: mean / median", *columns, sep="   ")


def main() -> None:
    """Print both errors, the simulator's first."""
    logging.disable(logging.WARNING)
    theirs = {run.line: found for run in load_runs().runs if (found := peer(run)) is not None}
    runs = end_to_end().runs
    possible = [row for row in runs if row["verdict"] != "impossible"]
    print(f"{len(theirs)} of {len(runs)} runs answered; verdicts: {', '.join(VERDICTS)}")
    show("all", "tpot", runs, theirs)
    show("judged and queued", "tpot", possible, theirs)
    show(
        "judged and queued, half not fitted on", "tpot", [row for row in possible if row["half"] == "held out"], theirs
    )
    show("all", "ttft", runs, theirs)
    show("judged", "ttft", [row for row in runs if row["verdict"] == "judged"], theirs)
    for name in sorted({row["deployment"] for row in runs}):
        show(name, "tpot", [row for row in possible if row["deployment"] == name], theirs)


if __name__ == "__main__":
    main()
