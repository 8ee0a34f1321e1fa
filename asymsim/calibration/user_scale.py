"""Correction of an operator class by one factor from a user's measurements, with its interval.

A class that has fitted parameters, the GPU's or a donor's, is corrected by the median of measured over predicted. Its
interval comes from residuals that the factor did not see: each row is predicted with the median of the rows of all
other shape groups (weights, head groups).
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np

from asymsim.calibration.gpu_file import number_text
from asymsim.calibration.residual_intervals import ROWS_A_GROUP, intervals, level_of
from asymsim.calibration.shape_groups import FOLDS
from asymsim.calibration.user_rows import UserRows
from asymsim.catalogue.fitted_parameters import SECTIONS, FittedSection, transferred_interval
from asymsim.catalogue.gpu import Gpu
from asymsim.core.arrays import Array
from asymsim.core.times.parameters import BANDS, FITTED
from asymsim.estimator.gpu_arrays import gpu_arrays
from asymsim.estimator.operator_table import operator_times

Section = dict[str, Any]

# Distinct shapes that a factor needs.
SCALE_SHAPES = 8
# 95 % quantiles of Student's t, by degrees of freedom from 1.
_T95 = (6.314, 2.920, 2.353, 2.132, 2.015, 1.943)


def scaled_section(
    user_rows: UserRows, gpu: Gpu, base: FittedSection, left_out: Counter[str]
) -> tuple[Section | None, str]:
    """A section's fitted parameters with the factor of a user's measurements; None with the reason where it has none.

    The factor exp(median(log(measured / predicted))) is applied before the roofline. The residual of a row is its
    error under the factor of all other shape groups, or of all other rows where there is a single group. With at least
    40 rows of 5 shape groups, the interval is the residuals' quantiles by band of time, widened until left-out groups
    are covered. With fewer, it is the wider of two: the residuals' outermost quantiles, and t s about the median, where
    s is the residuals' root mean square and t the 95 % quantile of Student's distribution with one degree of freedom
    less than there are shape groups. A single group tells nothing of others, so its interval is nowhere narrower than
    the interval of transferred parameters.
    """
    parameters = {
        name: value for name, value in base.section.items() if name in (SECTIONS[user_rows.section].names or ())
    }
    unscaled = {**base.section, "time_scale": 1.0}
    gpu = replace(gpu, efficiency={**gpu.efficiency, user_rows.section: unscaled})
    arrays = gpu_arrays(gpu, user_rows.dtype)
    fitted = _has_fitted_parameters(user_rows, arrays)
    if not fitted.all():
        left_out["head_size"] += int((~fitted).sum())
    user_rows = user_rows.keep(fitted)
    if len(user_rows) < SCALE_SHAPES:
        return None, f"{len(user_rows)} distinct shapes that it has fitted parameters for, at least {SCALE_SHAPES}"
    simulated, roofline = user_rows.simulated_seconds(arrays), user_rows.roofline_seconds(arrays)
    log_ratio, group_index = np.log(user_rows.seconds / simulated), user_rows.shape_group_index()
    left_out_unit = group_index if len(np.unique(group_index)) > 1 else np.arange(len(user_rows))
    time_scale = float(number_text(math.exp(np.median(log_ratio))))
    unseen_scale = np.exp([np.median(log_ratio[left_out_unit != unit]) for unit in left_out_unit])
    ratio = user_rows.seconds / np.maximum(unseen_scale * simulated, roofline)
    predicted = np.maximum(time_scale * simulated, roofline)
    error = np.abs(1 / ratio - 1)
    interval = user_intervals(ratio, predicted, group_index, user_rows.section)
    section: Section = {**parameters, "time_scale": time_scale, **interval}
    section |= {
        "rows": len(user_rows),
        "fitted_rows": len(user_rows),
        "held_out_median_error": float(np.median(error)),
        "held_out_mean_error": float(error.mean()),
        "held_out_p90_error": float(np.quantile(error, 0.9)),
        "held_out_bias": float(np.median(1 / ratio) - 1),
    }
    return section, ""


def _has_fitted_parameters(user_rows: UserRows, arrays: Any) -> Array:
    """Mask of the rows whose operator class has fitted parameters for their head size."""
    sources = operator_times(user_rows.operators, arrays, 1)[1]
    # Among several operators of a row some belong to another class, whatever its source.
    several = np.diff([*user_rows.begin, len(user_rows.operators)]) > 1
    mask: Array = (np.maximum.reduceat(sources, user_rows.begin) >= FITTED) | several
    return mask


def user_intervals(ratio: Array, predicted: Array, group_index: Array, section: str) -> Section:
    """Interval of `scaled_section`, from measured / predicted of left-out rows."""
    num_groups = len(np.unique(group_index))
    if len(ratio) >= ROWS_A_GROUP and num_groups >= FOLDS:
        return intervals(ratio, predicted, level_of(ratio, predicted, group_index % FOLDS))
    samples = num_groups if num_groups > 1 else len(ratio)
    half_width = student_95(max(1, samples - 1)) * math.sqrt(np.mean(np.log(ratio) ** 2))
    low = min(math.exp(-half_width), float(np.quantile(ratio, 0.05, method="weibull")))
    high = max(math.exp(half_width), float(np.quantile(ratio, 0.95, method="weibull")))
    if num_groups == 1:
        transferred = transferred_interval(section)[0]
        low, high = min(low, transferred["ratio_p05"][0]), max(high, transferred["ratio_p95"][0])
    edges = np.linspace(predicted.min(), predicted.max(), BANDS + 1)
    return {"band_edges_s": edges, "ratio_p05": np.full(BANDS, low), "ratio_p95": np.full(BANDS, high)}


def student_95(degrees_of_freedom: int) -> float:
    """95 % quantile of Student's t: a table, then the expansion of Abramowitz and Stegun, 26.7.5, to its third term."""
    if degrees_of_freedom <= len(_T95):
        return _T95[degrees_of_freedom - 1]
    z = 1.6448536
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / degrees_of_freedom + second / degrees_of_freedom**2 + third / degrees_of_freedom**3
