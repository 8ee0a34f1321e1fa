"""Seconds of work on a GPU, by its own events, with a cold L2."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

FLUSH_BYTES = 2**30
"""Written before every call: more than any L2, and long enough that the host has launched the call by its end."""


class Quantiles(NamedTuple):
    """Of repeated measurements, in their unit."""

    p20: float
    p50: float
    p80: float


Timer = Callable[[Callable[[], object]], Quantiles]


def quantiles(samples: list[float]) -> Quantiles:
    """The 20th, 50th and 80th percentile, between neighbours by their distance."""
    p20, p50, p80 = (float(x) for x in np.quantile(samples, (0.2, 0.5, 0.8)))
    return Quantiles(p20, p50, p80)


def rate(work: float, seconds: Quantiles) -> Quantiles:
    """Work a second: the slow times are the low rates."""
    return Quantiles(work / seconds.p80, work / seconds.p50, work / seconds.p20)


class GpuTimer:
    """Times calls on a CUDA (or ROCm) device.

    Parameters
    ----------
    device : torch.device
    budget_s : float
        Device time to spend on a call's repetitions; at least 5 and at most 200 are made.
    """

    def __init__(self, device: torch.device, budget_s: float = 0.3) -> None:
        self.device = device
        self.budget_s = budget_s
        self._flush = torch.empty(FLUSH_BYTES, dtype=torch.int8, device=device)

    def __call__(self, call: Callable[[], object]) -> Quantiles:
        """Seconds of one call, after three to warm up."""
        for _ in range(3):
            call()
        first = float(np.median(self._samples(call, 3)))
        return quantiles(self._samples(call, int(min(200, max(5, self.budget_s / first)))))

    def _samples(self, call: Callable[[], object], times: int) -> list[float]:
        events = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(times)]
        for start, end in events:
            self._flush.zero_()
            start.record()
            call()
            end.record()
        torch.cuda.synchronize(self.device)
        return [start.elapsed_time(end) * 1e-3 for start, end in events]
