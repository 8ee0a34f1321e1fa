"""AsymVLM's per-sample budget: from normally distributed score gaps to a few kept ratios with their shares."""

from __future__ import annotations

from statistics import NormalDist
from typing import Protocol

from asymsim.util.errors import InputError

Classes = tuple[tuple[float, float], ...]

# How far the linear budget may move from its mean where no bounds are given (our assumption).
REACH = 0.25


class GapSettings(Protocol):
    """Settings of the budget, read from a method of these fields."""

    @property
    def keep(self) -> float: ...
    @property
    def gap_mean(self) -> float: ...
    @property
    def gap_sd(self) -> float: ...
    @property
    def gap_low(self) -> float | None: ...
    @property
    def gap_high(self) -> float | None: ...
    @property
    def conservative(self) -> float | None: ...
    @property
    def moderate(self) -> float | None: ...
    @property
    def aggressive(self) -> float | None: ...
    @property
    def spread(self) -> float: ...
    @property
    def slope(self) -> float: ...
    @property
    def lowest(self) -> float | None: ...
    @property
    def highest(self) -> float | None: ...
    @property
    def classes(self) -> int: ...


def _gaps(settings: GapSettings) -> NormalDist:
    if settings.gap_sd <= 0:
        raise InputError("asymvlm: gap_sd", settings.gap_sd, "give a standard deviation above 0")
    return NormalDist(settings.gap_mean, settings.gap_sd)


def threshold_classes(settings: GapSettings) -> Classes:
    """Three ratios: conservative below ``gap_low``, moderate below ``gap_high``, aggressive from there on."""
    gaps = _gaps(settings)
    low = gaps.mean - gaps.stdev / 2 if settings.gap_low is None else settings.gap_low
    high = gaps.mean + gaps.stdev / 2 if settings.gap_high is None else settings.gap_high
    if low > high:
        raise InputError("asymvlm: gap_low", low, f"give at most gap_high = {high}")
    small, large = gaps.cdf(low), 1 - gaps.cdf(high)
    shares = (small, max(0.0, 1 - small - large), large)
    ratios_given = (settings.conservative, settings.moderate, settings.aggressive)
    if all(ratio is None for ratio in ratios_given):
        return tuple(zip(shares, _around(settings, small, large), strict=True))
    ratios = tuple(ratio for ratio in ratios_given if ratio is not None)
    if len(ratios) < 3:
        raise InputError("asymvlm: moderate", settings.moderate, "give conservative, moderate and aggressive, or none")
    if not 0 <= settings.aggressive <= settings.moderate <= settings.conservative <= 1:  # type: ignore[operator]
        raise InputError(
            "asymvlm: moderate", settings.moderate, "give 0 <= aggressive <= moderate <= conservative <= 1"
        )
    return tuple(zip(shares, ratios, strict=True))


def _around(settings: GapSettings, small: float, large: float) -> tuple[float, float, float]:
    """Ratios about ``keep`` with ``keep`` as their mean: small gaps get more, large gaps as much less."""
    keep = settings.keep
    larger = max(small, large)
    if small == 0 or large == 0:
        return keep, keep, keep
    more, less = large / larger, small / larger
    spread = min(settings.spread, (1 - keep) / more, keep / less)
    return min(1.0, keep + spread * more), keep, max(0.0, keep - spread * less)


def linear_classes(settings: GapSettings) -> Classes:
    """Equally probable gaps, each at the middle of its quantile, and the clamped line through them."""
    gaps = _gaps(settings)
    if settings.slope > 0:
        raise InputError("asymvlm: slope", settings.slope, "give 0 or less: larger gaps keep fewer tokens")
    if settings.classes < 1:
        raise InputError("asymvlm: classes", settings.classes, "give at least 1")
    keep, count = settings.keep, settings.classes
    reach = min(REACH, keep, 1 - keep)
    lowest = keep - reach if settings.lowest is None else settings.lowest
    highest = keep + reach if settings.highest is None else settings.highest
    if not 0 <= lowest <= keep <= highest <= 1:
        raise InputError("asymvlm: lowest", lowest, f"give 0 <= lowest <= keep = {keep} <= highest = {highest} <= 1")
    offsets = [settings.slope * (gaps.inv_cdf((index + 0.5) / count) - gaps.mean) for index in range(count)]

    def ratios(target: float) -> list[float]:
        return [min(highest, max(lowest, target + offset)) for offset in offsets]

    # Clamping on one side moves the mean, so the target is moved against it.
    under, over = lowest - max(offsets), highest - min(offsets)
    for _ in range(100):
        target = (under + over) / 2
        under, over = (target, over) if sum(ratios(target)) < keep * count else (under, target)
    return tuple((1 / count, ratio) for ratio in ratios(over))
