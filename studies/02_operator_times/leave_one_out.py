"""One set of GEMM numbers fitted on all other GPUs together: what it is worth on one that has no tables.

python studies/02_operator_times/leave_one_out.py [GPU ...]     h200_sxm and rtx_pro_6000 by default
"""

from __future__ import annotations

import sys

import numpy as np

from asymsim.calibration.measured_tables import SYSTEMS
from asymsim.calibration.parameters import search_space
from asymsim.calibration.residual_intervals import bounds
from asymsim.calibration.search import search
from asymsim.calibration.sections import load_section
from asymsim.calibration.shape_groups import SEED
from asymsim.catalogue.gpu import load_gpu
from asymsim.core.arrays import Array
from asymsim.core.times.parameters import BANDS

SECTION = "gemm_bf16"
ITERATIONS = 40
# Of each GPU, so that none outweighs another.
ROWS = 800


def pooled(target: str) -> None:
    """Print the errors on all rows of a GPU; B300, a near twin of B200, lends nothing."""
    rng = np.random.default_rng(SEED)
    whole = search_space(SECTION, load_gpu(target), np.zeros(0, np.int64))
    parts = []
    for name in SYSTEMS:
        table = load_section(load_gpu(name), SECTION)
        if name in (target, "b300_sxm") or table is None:
            continue
        index = rng.choice(np.flatnonzero(~table.held_out), ROWS, False)
        parts.append((table, index, np.log(table.seconds[index])))

    def residuals(vector: Array) -> Array:
        numbers = whole.record(vector)
        return np.concatenate([np.log(table.predict(index, numbers)) - seen for table, index, seen in parts])

    vector = search(residuals, whole, ITERATIONS)
    low, high = np.quantile(np.exp(-residuals(vector)), (0.05, 0.95))
    interval = {"band_edges_s": [0.0] * (BANDS + 1), "ratio_p05": [low] * BANDS, "ratio_p95": [high] * BANDS}
    table = load_section(load_gpu(target), SECTION)
    if table is None:
        raise SystemExit(f"{target} has no table of {SECTION} to judge by")
    predicted = table.predict(np.arange(len(table.seconds)), whole.record(vector))
    error = 100 * np.abs(predicted / table.seconds - 1)
    least, most = bounds(interval, predicted)
    inside = 100 * ((table.seconds >= least) & (table.seconds <= most)).mean()
    print(
        f"{target} from {len(parts)} others: median {np.median(error):.1f} %, p90 {np.quantile(error, 0.9):.1f} %,"
        f" bias {100 * (np.median(predicted / table.seconds) - 1):+.1f} %; interval {low:.2f} to {high:.2f}"
        f" covers {inside:.1f} %",
        flush=True,
    )


if __name__ == "__main__":
    for chosen in sys.argv[1:] or ("h200_sxm", "rtx_pro_6000"):
        pooled(chosen)
