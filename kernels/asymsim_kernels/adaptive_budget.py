"""Sortable keys of scores, and AsymVLM's budget from their gap, for the kernel of `top_k`.

    g = s_(q) - s_(N-q+1),   q = max(1, floor(N/4)),   k = floor(r(g) N)

g is the q-th largest less the q-th smallest score (AsymVLM, arXiv 2605.29535v1, method section).
"""

from dataclasses import asdict, dataclass

import triton
import triton.language as tl

from asymsim_kernels import checks

GIVEN, THRESHOLD, LINEAR = range(3)
UNIT = 10**12
"""Ratios and gaps reach the kernel as integers of this part: Triton passes a Python float as fp32, in which 0.35 of
100 tokens would be 34."""


@dataclass(frozen=True)
class ThresholdBudget:
    """r = conservative if g < low, moderate if g < high, else aggressive. A gap that is NaN is conservative."""

    low: float
    high: float
    conservative: float
    moderate: float
    aggressive: float


@dataclass(frozen=True)
class LinearBudget:
    """r = clamp(target + slope (g - mean), lowest, highest). A gap that is NaN gives the highest."""

    target: float
    slope: float
    mean: float
    lowest: float
    highest: float


def budget_parts(budget: ThresholdBudget | LinearBudget, longest: int) -> tuple[int, ...]:
    """The budget's numbers in parts of 1e-12, for rows of up to `longest` tokens."""
    if longest * UNIT >= 2**63:
        checks.fail("max_tokens", longest, f"an adaptive budget takes rows of fewer than {2**63 // UNIT} tokens")
    threshold = isinstance(budget, ThresholdBudget)
    for name, value in asdict(budget).items():
        share = name not in ("low", "high", "slope", "mean", "target")
        if not (0 <= value <= 1 if share else abs(value) <= 1e6):
            checks.fail(name, value, "must be a share from 0 to 1" if share else "must be within +-1e6")
    low, high = (budget.low, budget.high) if threshold else (budget.lowest, budget.highest)
    if low > high:
        checks.fail("low" if threshold else "lowest", low, f"must not exceed {high}, the upper one")
    return tuple(round(value * UNIT) for value in asdict(budget).values())


@triton.jit
def sort_keys(scores):
    """Unsigned integers in the order of the scores: NaN lowest, both zeros equal."""
    x = scores.to(tl.float32)
    x = tl.where(x == 0.0, 0.0, x)
    bits = x.to(tl.int32, bitcast=True)
    # Negative numbers fall as their bits grow: invert them; lift the others above.
    ordered = tl.where(bits < 0, ~bits, bits ^ -2147483648)
    return tl.where(x != x, 0, ordered).to(tl.uint32, bitcast=True)


@triton.jit
def _score_of(key):
    """The score of a key."""
    ordered = key.to(tl.int32, bitcast=True)
    bits = tl.where(ordered < 0, ordered ^ -2147483648, ~ordered)
    return tl.where(ordered == 0, float("nan"), bits.to(tl.float32, bitcast=True))


@triton.jit
def next_digit(histogram, prefix, rank, SHIFT: tl.constexpr):
    """Extend the key of the `rank`-th largest candidate by a digit; and its rank among those that share the digit."""
    digits = tl.arange(0, 256)
    at_least = tl.cumsum(histogram, 0, reverse=True)
    digit = tl.maximum(tl.sum((at_least >= rank).to(tl.int32), 0) - 1, 0)
    above = tl.sum(tl.where(digits > digit, histogram, 0), 0)
    return prefix | (digit.to(tl.uint32) << SHIFT), rank - above


@triton.jit
def key_digit(key, SHIFT: tl.constexpr):
    return ((key >> SHIFT) & 255).to(tl.int32)


@triton.jit
def score_gap(s_at, stride, length, BLOCK: tl.constexpr):
    """The q-th largest less the q-th smallest score, exact in fp64."""
    quarter = tl.maximum(length // 4, 1)
    high_rank = quarter
    low_rank = tl.maximum(length - quarter + 1, 1)
    high = tl.full([], 0, tl.uint32)
    low = tl.full([], 0, tl.uint32)
    known = tl.full([], 0, tl.uint32)
    for i in tl.static_range(4):
        high_histogram = tl.zeros([256], dtype=tl.int32)
        low_histogram = tl.zeros([256], dtype=tl.int32)
        for n0 in range(0, length, BLOCK):
            n_N = n0 + tl.arange(0, BLOCK)
            inside_N = n_N < length
            key_N = sort_keys(tl.load(s_at + n_N * stride, mask=inside_N, other=0.0))
            digit_N = key_digit(key_N, 24 - 8 * i)
            high_histogram += tl.histogram(digit_N, 256, mask=inside_N & ((key_N & known) == high))
            low_histogram += tl.histogram(digit_N, 256, mask=inside_N & ((key_N & known) == low))
        high, high_rank = next_digit(high_histogram, high, high_rank, 24 - 8 * i)
        low, low_rank = next_digit(low_histogram, low, low_rank, 24 - 8 * i)
        known = known | (tl.full([], 255, tl.uint32) << (24 - 8 * i))
    gap = _score_of(high).to(tl.float64) - _score_of(low).to(tl.float64)
    return tl.where(length > 0, gap, 0.0)


@triton.jit
def _real(parts):
    """The fp64 number that a count of 1e-12 parts stands for."""
    return tl.cast(parts, tl.int64).to(tl.float64) / tl.full([], 1000000000000, tl.int64).to(tl.float64)


@triton.jit
def kept_count(gap, length, b0, b1, b2, b3, b4, BUDGET: tl.constexpr):
    """floor(r N) in integers, r rounded to 1e-12 so that a decimal share means itself."""
    if BUDGET == 1:
        parts = tl.where(gap < _real(b1), tl.cast(b3, tl.int64), tl.cast(b4, tl.int64))
        # "Not at or above" rather than "below": NaN is conservative.
        parts = tl.where(gap >= _real(b0), parts, tl.cast(b2, tl.int64))
    else:
        ratio = _real(b0) + _real(b1) * (gap - _real(b2))
        ratio = tl.where(gap == gap, tl.minimum(tl.maximum(ratio, _real(b3)), _real(b4)), _real(b4))
        parts = (ratio * tl.full([], 1000000000000, tl.int64).to(tl.float64) + 0.5).to(tl.int64)
    return (parts * length // 1000000000000).to(tl.int32)
