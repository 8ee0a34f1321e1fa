"""Arrival processes of requests: Poisson, gamma (burstier or more even), or constant."""

from __future__ import annotations

from typing import Literal

import numpy as np

from asymsim.core.arrays import Array
from asymsim.util.errors import InputError, MissingExtraError
from asymsim.util.sampling import uniform_samples
from asymsim.util.seeds import seed_of
from asymsim.util.strict import strict_dataclass

LARGEST_SEED = 2**62


@strict_dataclass
class Arrivals:
    """Arrivals as a renewal process: independent gaps between requests, of mean ``1 / rate``.

    The gap before a request depends on the seed and the request's number alone. A longer run therefore starts with the
    same arrivals, and another rate scales the same gaps: runs at two rates share their random numbers (common random
    numbers).

    Attributes
    ----------
    rate : float
        Requests a second, above 0; infinity sends all at once.
    process : {"poisson", "gamma", "constant"}
        Gaps: exponential; gamma of shape ``burstiness``; all equal.
    burstiness : float
        Shape of the gamma gaps, above 0, as ``--burstiness`` of ``vllm bench serve``: 1 is Poisson, below 1 is
        burstier, above 1 more even. The squared coefficient of variation of a gap is ``1 / burstiness``.
    seed : int
        From 0.
    """

    rate: float
    process: Literal["poisson", "gamma", "constant"] = "poisson"
    burstiness: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.rate > 0.0:
            raise InputError("rate", self.rate, "give requests a second, above 0")
        if not 1e-3 <= self.burstiness <= 1e6:
            raise InputError("burstiness", self.burstiness, "give a number from 0.001 to 1000000; 1 is Poisson")
        if self.process != "gamma" and self.burstiness != 1.0:
            raise InputError("burstiness", self.burstiness, f"belongs to gamma arrivals, not {self.process} ones")
        if not 0 <= self.seed <= LARGEST_SEED:
            raise InputError("seed", self.seed, f"give a whole number from 0 to {LARGEST_SEED}")

    def times(self, count: int) -> Array:
        """Arrival times of the first ``count`` requests in seconds, float64, non-decreasing; one gap before the first.

        Raises
        ------
        MissingExtraError
            If the process is gamma and scipy is not installed.
        """
        times: Array = np.cumsum(self._unit_gaps(count)) / self.rate
        return times

    def _unit_gaps(self, count: int) -> Array:
        """Gaps of mean 1, by inversion of their distribution function."""
        if self.process == "constant":
            return np.ones(count)
        uniform = uniform_samples(seed_of(self.seed, "arrivals"), 0, np.arange(count, dtype=np.uint64))
        if self.process == "poisson" or self.burstiness == 1.0:
            return -np.log1p(-uniform)
        try:
            from scipy.special import gammaincinv
        except ImportError:
            raise MissingExtraError("gamma arrivals need scipy: pip install 'asymsim[serving]'") from None
        gaps: Array = gammaincinv(self.burstiness, uniform) / self.burstiness
        return gaps
