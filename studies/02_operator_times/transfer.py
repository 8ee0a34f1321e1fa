"""Leave one GPU out: what the fitted numbers of other GPUs are worth on one that has no tables.

python transfer.py matrix [--kind KIND]                    every GPU's numbers on every other GPU, held-out sites
python transfer.py pairs                                   seven likely pairs over all rows, with their intervals
python transfer.py pooled --gpu GPU --kind KIND --seconds 60   one set fitted on all others, judged on GPU
"""

from __future__ import annotations

import argparse

import numpy as np
import operators
from machine import GPUS, Array
from score import score, show
from search import BANDS, bands, search
from store import stored
from table import SEED

PAIRS = (
    ("h200_sxm", "h100_sxm"),
    ("rtx_pro_6000", "l40s"),
    ("rtx_pro_6000", "h100_sxm"),
    ("gb200", "b200_sxm"),
    ("b300_sxm", "b200_sxm"),
    ("l40s", "rtx_pro_6000"),
    ("a100_80gb_sxm", "h100_sxm"),
)


def matrix(kind: str) -> None:
    """Median error of the row's GPU predicted with the column's numbers."""
    print(f"{kind}: GPU predicted (rows) by the numbers of (columns), median error %")
    print(" " * 16 + " ".join(f"{gpu[:11]:>11s}" for gpu in GPUS))
    for target in GPUS:
        table = operators.load(target, kind)
        if table is None:
            continue
        index = np.flatnonzero(table.held_out)
        cells = []
        for source in GPUS:
            record = stored(source, kind)
            if record is None:
                cells.append(" " * 11)
                continue
            fitted = operators.build(kind, target, operators.vector_of(kind, record))
            error = np.abs(table.predict(index, fitted) / table.seconds[index] - 1)
            cells.append(f"{100 * np.median(error):11.1f}")
        print(f"{target:16s}" + " ".join(cells), flush=True)


def pair(target: str, source: str, kind: str) -> None:
    """Errors and the quantiles of measured / predicted of one GPU by another's numbers."""
    table, record = operators.load(target, kind), stored(source, kind)
    if table is None or record is None:
        return
    fitted = operators.build(kind, target, operators.vector_of(kind, record))
    ratio = table.seconds / table.predict(np.arange(len(table.seconds)), fitted)
    error = np.abs(1 / ratio - 1)
    p05, p50, p95 = np.quantile(ratio, (0.05, 0.5, 0.95))
    print(
        f"{kind:22s} {target} from {source}: median {100 * np.median(error):.1f}"
        f" p90 {100 * np.quantile(error, 0.9):.1f}; measured/predicted p05 {p05:.2f} p50 {p50:.2f} p95 {p95:.2f}",
        flush=True,
    )


def pooled(target: str, kind: str, seconds: float, rows: int = 800) -> None:
    """One vector for all GPUs but ``target`` (and B300, a near twin of B200); its error there over all rows."""
    rng = np.random.default_rng(SEED)
    parts = []
    for gpu in GPUS:
        table = operators.load(gpu, kind)
        if gpu in (target, "b300_sxm") or table is None:
            continue
        pool = np.flatnonzero(~table.held_out)
        index = rng.choice(pool, min(len(pool), rows), False)
        parts.append((gpu, table, index, np.log(table.seconds[index])))

    def residuals(point: Array) -> Array:
        vector = np.exp(point)
        return np.concatenate(
            [
                np.log(table.predict(index, operators.build(kind, gpu, vector))) - seen
                for gpu, table, index, seen in parts
            ]
        )

    vector = search(residuals, *operators.start_of(kind), seconds, 0.2)
    record = bands(parts[0][1], operators.build(kind, parts[0][0], vector))
    ratio = np.exp(-residuals(np.log(vector)))
    for key, quantile in (("ratio_p05", 0.05), ("ratio_p95", 0.95)):
        record[key] = [float(np.quantile(ratio, quantile))] * BANDS
    table = operators.load(target, kind)
    if table is None:
        raise SystemExit(f"{target} has no table of {kind} to judge by")
    result = score(table, operators.build(kind, target, vector), record, np.arange(len(table.seconds)))
    show(f"{kind} {target} from {len(parts)} others pooled", result)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("matrix", "pairs", "pooled"))
    parser.add_argument("--kind", default=",".join(operators.CLASSES))
    parser.add_argument("--gpu", default="h200_sxm,rtx_pro_6000", help="GPUs left out by `pooled`")
    parser.add_argument("--seconds", type=float, default=60.0)
    given = parser.parse_args()
    kinds = given.kind.split(",")
    if given.command == "matrix":
        for kind in kinds:
            matrix(kind)
    elif given.command == "pairs":
        for target, source in PAIRS:
            for kind in kinds:
                pair(target, source, kind)
    else:
        for gpu in given.gpu.split(","):
            for kind in kinds:
                pooled(gpu, kind, given.seconds)


if __name__ == "__main__":
    main()
