"""Errors of one set of GEMM parameters, fitted on all other GPUs together, on a GPU without tables.

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
# Rows of each GPU, so that none outweighs another.
ROWS = 800


def pooled(target: str) -> None:
    """Print the errors on all rows of a GPU; B300, nearly the same as B200, is no donor."""
    rng = np.random.default_rng(SEED)
    space = search_space(SECTION, load_gpu(target), np.zeros(0, np.int64))
    donors = []
    for name in SYSTEMS:
        rows = load_section(load_gpu(name), SECTION)
        if name in (target, "b300_sxm") or rows is None:
            continue
        index = rng.choice(np.flatnonzero(~rows.held_out), ROWS, False)
        donors.append((rows, index, np.log(rows.seconds[index])))

    def residuals(vector: Array) -> Array:
        parameters = space.record(vector)
        return np.concatenate([np.log(rows.predict(index, parameters)) - measured for rows, index, measured in donors])

    vector = search(residuals, space, ITERATIONS)
    low, high = np.quantile(np.exp(-residuals(vector)), (0.05, 0.95))
    interval = {"band_edges_s": [0.0] * (BANDS + 1), "ratio_p05": [low] * BANDS, "ratio_p95": [high] * BANDS}
    target_rows = load_section(load_gpu(target), SECTION)
    if target_rows is None:
        raise SystemExit(f"{target} has no table of {SECTION}")
    predicted = target_rows.predict(np.arange(len(target_rows.seconds)), space.record(vector))
    error = 100 * np.abs(predicted / target_rows.seconds - 1)
    least, most = bounds(interval, predicted)
    covered = 100 * ((target_rows.seconds >= least) & (target_rows.seconds <= most)).mean()
    print(
        f"{target} from {len(donors)} others: median {np.median(error):.1f} %, p90 {np.quantile(error, 0.9):.1f} %,"
        f" bias {100 * (np.median(predicted / target_rows.seconds) - 1):+.1f} %; interval {low:.2f} to {high:.2f}"
        f" covers {covered:.1f} %",
        flush=True,
    )


if __name__ == "__main__":
    for gpu_name in sys.argv[1:] or ("h200_sxm", "rtx_pro_6000"):
        pooled(gpu_name)
