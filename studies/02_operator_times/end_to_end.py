"""End to end against the package's silicon sample: dense, aggregated, tp = 1, bf16 and fp8 weights.

    python end_to_end.py

TPOT = decode step at the mean context + (b - 1) / osl prefills of the others + a host overhead a step.
TTFT = prefill x (base + slope b / 20) + completion intervals: a run of ten requests a slot begins with a burst,
b / 2 prefills to wait for on average in its first tenth; base holds the wait for prefills under way.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import reader
from machine import Array, data_sheet
from network import SHAPES, Network
from scipy.optimize import least_squares
from table import SEED

GPU_OF = {system: gpu for gpu, system in reader.SYSTEMS.items()}
# Share of device memory that a server gives to weights and cache.
MEMORY_SHARE = 0.9
# TTFT coefficients that deployments share, and how loosely each is held to them.
USUAL, HOLD = np.array([1.2, 1.7]), 0.3


class Sample(NamedTuple):
    """A measured row and what is predicted for it, times in seconds."""

    deployment: str
    framework: str
    isl: float
    osl: float
    batch: float
    running: float
    ttft: float
    tpot: float
    decode: float
    prefill: float
    floor: float
    floor_prefill: float


def samples() -> Iterator[Sample]:
    """Rows of the sample that the models can answer for."""
    networks: dict[tuple[str, str, str, str], tuple[Network, Network]] = {}
    with (reader.data_folder() / "silicon_sample.csv").open() as file:
        for row in csv.DictReader(file):
            name = next((known for known in SHAPES if known in row["model_path"]), None)
            quantised = "NVFP4" in row["model_path"] or row["gemm_quant_mode"] == "nvfp4"
            if row["mode"] != "agg" or name is None or row["tp_size"] != "1" or quantised:
                continue
            dtype = "fp8" if row["gemm_quant_mode"].startswith("fp8") else "bf16"
            key = (name, GPU_OF[row["system"]], dtype, row["backend"])
            if key not in networks:
                networks[key] = _pair(*key)
            yield _sample(row, key, *networks[key])


def _pair(name: str, gpu: str, dtype: str, backend: str) -> tuple[Network, Network]:
    fitted, plain = (Network(gpu, SHAPES[name], dtype, flag) for flag in (False, True))
    if backend == "trtllm" and dtype == "fp8":  # quantisation is fused into the kernel before
        fitted.gemm = fitted.gemm._replace(quantise_s=0.0, quantise_row_s=0.0, quantise_share=1e9)
    return fitted, plain


def _sample(row: dict[str, str], key: tuple[str, str, str, str], fitted: Network, plain: Network) -> Sample:
    isl, osl, batch = (float(row[name]) for name in ("isl", "osl", "batch_size"))
    # InferenceMAX serves its fp8 models with an fp8 cache; the model counts 2 bytes, so half the tokens.
    cache = 0.5 if key[0].endswith("70B") else 1.0
    s = fitted.shape
    kv_token = 4.0 * s.layers * s.kv_heads * s.head_size * cache
    block = s.hidden * (2 * s.heads * s.head_size + 2 * s.kv_heads * s.head_size) + 3 * s.hidden * s.inner
    weights = s.layers * block * fitted.operand_bytes + 4.0 * s.vocabulary * s.hidden
    room = int((MEMORY_SHARE * data_sheet(key[1])["capacity_bytes"] - weights) / (kv_token * (isl + osl)))
    running = max(1.0, min(batch, room))
    context = (isl + osl / 2) * cache
    floor_prefill = plain.prefill_s(1, isl)
    return Sample(
        f"{key[0]} {row['system']} {row['backend']} {row['backend_version']}",
        row["backend"],
        isl,
        osl,
        batch,
        running,
        float(row["silicon_ttft_ms"] or "nan") * 1e-3,
        float(row["silicon_tpot_ms"]) * 1e-3,
        fitted.decode_s(running, context),
        fitted.prefill_s(1, isl),
        plain.decode_s(running, context) + (running - 1) / osl * floor_prefill,
        floor_prefill,
    )


def waiting(work: Array, measured: Array) -> Array:
    """Coefficients of prefill, burst and completion interval, by relative error, held loosely to USUAL."""
    found = []
    for slots in (0.0, 1.0):  # 1: an engine that keeps one request of each b waiting for a slot
        relative = least_squares(
            lambda c, slots=slots: np.concatenate(
                [(work[:, :2] @ c + slots * work[:, 2]) / measured - 1, HOLD * (c - USUAL)]
            ),
            USUAL,
            bounds=(0, 50),
            loss="soft_l1",
            f_scale=0.1,
        )
        found.append((relative.cost, np.append(relative.x, slots)))
    return min(found, key=lambda one: one[0])[1]


def show(label: str, predicted: Array, measured: Array, rows: Array) -> None:
    """One line of errors."""
    ratio = predicted[rows] / measured[rows]
    error = 100 * np.abs(ratio - 1)
    bias = 100 * (np.median(ratio) - 1)
    print(
        f"{label:70s} n {rows.sum():4d} mean {error.mean():5.1f} % median {np.median(error):5.1f} % bias {bias:+5.1f} %"
    )


def main() -> None:
    """Print the errors of TPOT, then of TTFT."""
    found = list(samples())
    deployment, framework = (np.array([getattr(one, name) for one in found]) for name in Sample._fields[:2])
    numbers = np.array([one[2:] for one in found])
    _, osl, batch, running, ttft, tpot, decode, prefill, floor, floor_prefill = numbers.T
    possible, full = tpot >= floor, running < batch
    half = np.random.default_rng(SEED).random(len(found)) < 0.5
    print(f"rows {len(found)}; beat the roofline without a prefix cache, dropped: {(~possible).sum()}")
    print(f"more requests than the KV cache holds (TTFT not judged): {full.sum()}")

    raw = decode + (running - 1) / osl * prefill
    show("TPOT roofline", floor, tpot, possible)
    show("TPOT fitted operators, no host overhead", raw, tpot, possible)
    show("TPOT the same, dropped rows kept", raw, tpot, np.ones(len(found), bool))
    predicted = raw.copy()
    for name in np.unique(framework):
        of = framework == name
        overhead = max(0.0, float(np.median((tpot - raw)[possible & of & half & ~full])))
        print(f"    host overhead a step, {name}: {1e3 * overhead:.2f} ms (median of half the rows)")
        predicted[of] += overhead
    show("TPOT with host overhead, other half", predicted, tpot, possible & ~half)
    show("TPOT with host overhead, all", predicted, tpot, possible)

    judged = possible & ~full & np.isfinite(ttft)
    show("TTFT prefill alone", prefill, ttft, judged)
    show("TTFT prefill alone, roofline", floor_prefill, ttft, judged)
    crossed = prefill * (1 + batch / 20)
    show("TTFT prefill (1 + b/20)", crossed, ttft, judged)
    work = np.stack([prefill, prefill * batch / 20, osl * predicted / batch], 1)
    for name in np.unique(deployment):
        of = judged & (deployment == name)
        if of.sum() < 6:
            continue
        for fold in (half, ~half):
            crossed[of & ~fold] = work[of & ~fold] @ waiting(work[of & fold], ttft[of & fold])
        base, slope, slots = waiting(work[of], ttft[of])
        show(f"    {name}: {base:.2f} + {slope:.2f} b/20, {slots:.0f} intervals", crossed, ttft, of)
    show("TTFT coefficients by deployment, crossed halves", crossed, ttft, judged)


if __name__ == "__main__":
    main()
