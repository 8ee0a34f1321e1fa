"""Mean, median, spread and percentiles of times; of none, None."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from asymsim.core.arrays import Array
from asymsim.core.serving.layout import GAP_FIRST_S, GAP_RATIO

PERCENTILES = (50, 90, 95, 99)


@dataclass(frozen=True)
class Summary:
    """Seconds, each None where there is no value to sum up.

    Attributes
    ----------
    mean, median, std : float, optional
        ``std`` is that of the values themselves (NumPy's default), not of a population they were drawn from.
    percentiles : mapping of int to float
        By ``PERCENTILES``, interpolated between neighbouring values, as vLLM's benchmark does.
    """

    mean: float | None = None
    median: float | None = None
    std: float | None = None
    percentiles: Mapping[int, float] = field(default_factory=dict)

    def named(self, name: str) -> dict[str, float | None]:
        """The figures in ms under vLLM's names, such as ``p99_ttft_ms``."""
        seconds = {"mean": self.mean, "median": self.median, "std": self.std}
        seconds |= {f"p{percent}": self.percentiles.get(percent) for percent in PERCENTILES}
        return {f"{figure}_{name}_ms": None if value is None else value * 1e3 for figure, value in seconds.items()}


def summarise_values(values: Array) -> Summary:
    """Sum up seconds, shape (values,)."""
    if not len(values):
        return Summary()
    cut = np.percentile(values, PERCENTILES).tolist()
    return Summary(float(values.mean()), cut[0], float(values.std()), dict(zip(PERCENTILES, cut, strict=True)))


def summarise_histogram(counts: Array, mean: float | None = None) -> Summary:
    """Sum up gaps between tokens that were counted by size, as ``SimulationResult.gap_histogram``.

    A gap counts as the geometric middle of its bin, at most 0.25 % off.

    Parameters
    ----------
    counts : numpy.ndarray, shape (GAP_BINS,)
    mean : float, optional
        The exact mean, where it is known.
    """
    total = int(counts.sum())
    if not total:
        return Summary()
    middles = GAP_FIRST_S * GAP_RATIO ** (np.arange(len(counts)) + 0.5)
    above = np.cumsum(counts)
    places = np.array(PERCENTILES) / 100 * (total - 1)
    low, high = (middles[np.searchsorted(above, whole(places), side="right")] for whole in (np.floor, np.ceil))
    cut = (low + (places - np.floor(places)) * (high - low)).tolist()
    middle = float(counts @ middles) / total
    std = float(np.sqrt(counts @ (middles - middle) ** 2 / total))
    return Summary(middle if mean is None else mean, cut[0], std, dict(zip(PERCENTILES, cut, strict=True)))
