"""Summary of times: mean, median, standard deviation and percentiles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from asymsim.core.arrays import Array
from asymsim.core.serving.layout import GAP_FIRST_S, GAP_RATIO

PERCENTILES = (50, 90, 95, 99)


@dataclass(frozen=True)
class Summary:
    """Figures in seconds, each None where there are no values.

    Attributes
    ----------
    mean, median, std : float, optional
        ``std`` is the population standard deviation of the values (NumPy's default), without Bessel's correction.
    percentiles : mapping of int to float
        Percentiles of ``PERCENTILES``, interpolated between neighbouring values as in vLLM's benchmark.
    """

    mean: float | None = None
    median: float | None = None
    std: float | None = None
    percentiles: Mapping[int, float] = field(default_factory=dict)

    def named(self, name: str) -> dict[str, float | None]:
        """Figures in ms under vLLM's names, such as ``p99_ttft_ms``."""
        seconds = {"mean": self.mean, "median": self.median, "std": self.std}
        seconds |= {f"p{percent}": self.percentiles.get(percent) for percent in PERCENTILES}
        return {f"{figure}_{name}_ms": None if value is None else value * 1e3 for figure, value in seconds.items()}


def summarise_values(values: Array) -> Summary:
    """Summary of seconds, shape (values,)."""
    if not len(values):
        return Summary()
    percentiles = np.percentile(values, PERCENTILES).tolist()
    return Summary(
        float(values.mean()), percentiles[0], float(values.std()), dict(zip(PERCENTILES, percentiles, strict=True))
    )


def summarise_histogram(counts: Array, mean: float | None = None) -> Summary:
    """Summary of inter-token gaps from their histogram, as in ``SimulationResult.gap_histogram``.

    Each gap counts as the geometric middle of its bin, at most 0.25 % off.

    Parameters
    ----------
    counts : numpy.ndarray, shape (GAP_BINS,)
    mean : float, optional
        Exact mean; by default the mean of the histogram.
    """
    total = int(counts.sum())
    if not total:
        return Summary()
    middles = GAP_FIRST_S * GAP_RATIO ** (np.arange(len(counts)) + 0.5)
    cumulative = np.cumsum(counts)
    ranks = np.array(PERCENTILES) / 100 * (total - 1)
    low, high = (
        middles[np.searchsorted(cumulative, rounding(ranks), side="right")] for rounding in (np.floor, np.ceil)
    )
    percentiles = (low + (ranks - np.floor(ranks)) * (high - low)).tolist()
    binned_mean = float(counts @ middles) / total
    std = float(np.sqrt(counts @ (middles - binned_mean) ** 2 / total))
    return Summary(
        binned_mean if mean is None else mean, percentiles[0], std, dict(zip(PERCENTILES, percentiles, strict=True))
    )
