"""Fit the operator models on measured tables and judge them on sites that the fit never saw.

    python fit.py fit --gpu h100_sxm --seconds 30     fits the classes, writes parameters/<gpu>.toml
    python fit.py report --framework vllm,sglang      scores all that is fitted
    python fit.py gap                                 median error on training and on held-out sites

Several names are separated by commas; without ``--gpu`` or ``--kind``, all. A fit starts from the
numbers in the folder ``--parameters``, where it finds any: an empty folder makes it start cold.

The split is by site, an (n, k) weight or a (heads, KV heads, head size) group, drawn by a hash that is
the same for all GPUs, so that no GPU's fit sees what another is tested on.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import operators
from machine import GPUS
from score import score, show
from search import fit_class
from store import PARAMETERS, save, stored


def fit(gpu: str, kind: str, seconds: float, scale: float, folder: Path) -> None:
    """Fit, judge on the held-out sites, store."""
    before = stored(gpu, kind, folder)
    start = None if before is None else operators.vector_of(kind, before)
    record = fit_class(gpu, kind, seconds, scale=scale, start=start)
    if record is None:
        return
    table = operators.load(gpu, kind)
    fitted = operators.build(kind, gpu, operators.vector_of(kind, record))
    result = score(table, fitted, record, np.flatnonzero(table.held_out))
    record |= {f"held_out_{name}_error": getattr(result, name) for name in ("median", "p90")}
    record |= {"held_out_bias": result.bias, "held_out_coverage": result.coverage}
    save(gpu, kind, record, folder)
    show(f"{kind} {gpu}", result)


def report(gpu: str, kind: str, frameworks: list[str], folder: Path) -> None:
    """Score on vLLM's held-out sites, and on all rows of the other frameworks."""
    record = stored(gpu, kind, folder)
    if record is None:
        return
    fitted = operators.build(kind, gpu, operators.vector_of(kind, record))
    for framework in frameworks:
        table = operators.load(gpu, kind, framework)
        if table is None or not len(table.seconds):
            continue
        index = np.flatnonzero(table.held_out) if framework == "vllm" else np.arange(len(table.seconds))
        show(f"{kind} {gpu} {framework}", score(table, fitted, record, index))


def gap(gpu: str, kind: str, folder: Path) -> None:
    """Median error on the training and on the held-out sites: what the numbers overfit."""
    record = stored(gpu, kind, folder)
    if record is None:
        return
    table = operators.load(gpu, kind)
    fitted = operators.build(kind, gpu, operators.vector_of(kind, record))
    error = np.abs(table.predict(np.arange(len(table.seconds)), fitted) / table.seconds - 1)
    medians = (100 * np.median(error[mask]) for mask in (~table.held_out, table.held_out))
    print("{} {}: training {:.1f} %, held out {:.1f} %".format(kind, gpu, *medians), flush=True)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("fit", "report", "gap"))
    parser.add_argument("--gpu", default=",".join(GPUS))
    parser.add_argument("--kind", default=",".join(operators.CLASSES))
    parser.add_argument("--seconds", type=float, default=30.0, help="search time of one class of one GPU")
    parser.add_argument("--scale", type=float, default=0.1, help="residual beyond which a row counts linearly")
    parser.add_argument("--framework", default="vllm")
    parser.add_argument("--parameters", type=Path, default=PARAMETERS, help="folder of the fitted numbers")
    given = parser.parse_args()
    for kind in given.kind.split(","):
        for gpu in given.gpu.split(","):
            if given.command == "fit":
                fit(gpu, kind, given.seconds, given.scale, given.parameters)
            elif given.command == "report":
                report(gpu, kind, given.framework.split(","), given.parameters)
            else:
                gap(gpu, kind, given.parameters)


if __name__ == "__main__":
    main()
