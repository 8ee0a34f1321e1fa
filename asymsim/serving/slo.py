"""Service level objective of a request, and the share of requests that must meet it."""

from __future__ import annotations

import math

import numpy as np

from asymsim.core.arrays import Array
from asymsim.util.errors import InputError
from asymsim.util.strict import strict_dataclass
from asymsim.util.units import MILLI


@strict_dataclass
class Slo:
    """Latency limits of a request; None: no limit.

    Attributes
    ----------
    ttft_s, tpot_s, e2e_s : float, optional
        Most seconds to the first token, for each token after it, and to the last token.
    """

    ttft_s: float | None = None
    tpot_s: float | None = None
    e2e_s: float | None = None

    def __post_init__(self) -> None:
        for field in ("ttft_s", "tpot_s", "e2e_s"):
            limit = getattr(self, field)
            if limit is not None and not 0.0 < limit < math.inf:
                raise InputError(field, limit, "give a time above 0")

    @property
    def limits_s(self) -> dict[str, float]:
        """Limits that are set, by name."""
        limits = {"ttft_s": self.ttft_s, "tpot_s": self.tpot_s, "e2e_s": self.e2e_s}
        return {name: limit for name, limit in limits.items() if limit is not None}


def slo_ms(ttft: float | None = None, tpot: float | None = None, e2e: float | None = None) -> Slo:
    """Limits in milliseconds, as the command line takes them.

    Raises
    ------
    InputError
        If one is not above 0.
    """
    for field, limit in (("ttft", ttft), ("tpot", tpot), ("e2e", e2e)):
        if limit is not None and not 0.0 < limit < math.inf:
            raise InputError(field, limit, "give milliseconds above 0")
    seconds = [None if limit is None else limit * MILLI for limit in (ttft, tpot, e2e)]
    return Slo(ttft_s=seconds[0], tpot_s=seconds[1], e2e_s=seconds[2])


@strict_dataclass
class SloTarget:
    """Latency limits, and the share of requests that must meet each of them.

    Attributes
    ----------
    slo : Slo
        At least one limit.
    percentile : float
        The share of all requests, in per cent, that must meet each limit, from 1 to 99.99.
    """

    slo: Slo
    percentile: float = 99.0

    def __post_init__(self) -> None:
        if not self.slo.limits_s:
            raise InputError("ttft, tpot, e2e", None, "give one limit or more for the plan to meet")
        if not 1.0 <= self.percentile <= 99.99:
            raise InputError("percentile", self.percentile, "give per cent of the requests, from 1 to 99.99")

    def percentile_of(self, values: Array) -> float:
        """Smallest of ``values`` that ``percentile`` per cent of them or more do not exceed; nan of no values."""
        if not len(values):
            return math.nan
        # 99 % of 4000 are 3960, also in floating point.
        rank = max(1, math.ceil(len(values) * self.percentile / 100 - 1e-9)) - 1
        return float(np.partition(values, rank)[rank])
