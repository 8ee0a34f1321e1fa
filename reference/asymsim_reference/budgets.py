"""AsymVLM's budget of one sample, from how far its scores spread (arXiv 2605.29535v1, method section)."""

from __future__ import annotations

from torch import Tensor


def score_gap(scores_n: Tensor) -> float:
    """g: the q-th largest score less the q-th smallest, q = floor(N/4).

    Below four tokens, where q would be 0, the largest less the smallest (our assumption).

    Raises
    ------
    ValueError
        If there are no scores.
    """
    if not len(scores_n):
        raise ValueError("scores: give at least one, a gap of none is undefined")
    ordered = scores_n.sort().values
    q = max(1, len(scores_n) // 4)
    return float(ordered[-q] - ordered[q - 1])


def threshold_ratio(
    gap: float, low: float, high: float, conservative: float, moderate: float, aggressive: float
) -> float:
    """The threshold sweep: a wide gap says that few tokens matter, so that few are kept."""
    if gap < low:
        return conservative
    return moderate if gap < high else aggressive


def linear_ratio(gap: float, target: float, slope: float, mean_gap: float, lowest: float, highest: float) -> float:
    """clamp(target + slope (gap - mean gap), lowest, highest), slope at most 0."""
    return min(max(target + slope * (gap - mean_gap), lowest), highest)
