"""The GPU as the models see it, and the parts that all of them share.

Each model is a schedule in closed form: tiles, waves over the SMs, bytes, a launch. Its last argument
holds the fitted numbers, a named tuple of shares, seconds and rates; `Machine` holds the data sheet's.
Every model ends in ``max(..., physical roofline)``: with the data sheet's peak and bandwidth and each
operand moved once it is never faster than the hardware, whatever the fitted numbers say.

Times are those of a kernel inside a CUDA graph or a full stream: what the host adds is not in them.
"""

from __future__ import annotations

import math
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

import numba
import numpy as np

Array = np.ndarray[Any, Any]
CATALOGUE = Path(__file__).resolve().parents[2] / "asymsim" / "catalogue" / "data" / "gpus"
GPUS = ("a100_80gb_sxm", "l40s", "h100_sxm", "h200_sxm", "b200_sxm", "b300_sxm", "gb200", "rtx_pro_6000")

# Not cached on disk: numba would not renew a kernel when only a function that it calls has changed.
kernel = numba.njit(nogil=True, error_model="numpy")


class Machine(NamedTuple):
    """The data sheet: FLOP/s at the operands' format, bytes/s of device memory, L2 bytes, SMs."""

    flops_per_s: float
    bandwidth_bytes_per_s: float
    l2_bytes: float
    sm_count: float


class Number(NamedTuple):
    """A fitted number: where the search begins and the bounds that physics gives it."""

    name: str
    start: float
    low: float
    high: float
    count: int = 1


def data_sheet(gpu: str) -> dict[str, Any]:
    """The GPU's entry in the simulator's catalogue."""
    with (CATALOGUE / f"{gpu}.toml").open("rb") as file:
        return tomllib.load(file)


def machine_of(gpu: str, peak: str = "bf16") -> Machine:
    """The numbers of the data sheet that the models take."""
    sheet = data_sheet(gpu)
    return Machine(
        sheet["peak_flops_per_s"][peak],
        sheet["bandwidth_bytes_per_s"],
        float(sheet["l2_bytes"]),
        float(sheet["sm_count"]),
    )


@kernel
def waves(tiles: float, slots: float, quantised_share: float) -> float:
    """Rounds that ``tiles`` take on ``slots``; at least one, broken or whole as the kernel is."""
    rounds = tiles / slots
    return (1.0 - quantised_share) * max(rounds, 1.0) + quantised_share * math.ceil(rounds)


@kernel
def joined(one: float, other: float, overlap: float) -> float:
    """Time of two parts that overlap in part: (a^p + b^p)^(1/p), between their maximum and their sum."""
    longer, shorter = max(one, other), min(one, other)
    return longer * (1.0 + (shorter / longer) ** overlap) ** (1.0 / overlap)
