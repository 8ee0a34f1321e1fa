"""Estimates of one model, GPU and schedule over columns of token counts, in compiled blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from asymsim.core.arrays import Array
from asymsim.core.estimate import COUNT_COLUMNS
from asymsim.core.token_counts import TokenCounts
from asymsim.estimator.countable import check_countable
from asymsim.estimator.resolve import ResolvedScenario, resolve
from asymsim.estimator.scenario import Scenario
from asymsim.estimator.token_counts import LARGEST_BATCH, LARGEST_IMAGES, LARGEST_TOKENS, RequestTokens, scenario_tokens
from asymsim.sweep.evaluator import BLOCK_ROWS, FIGURES, MEDIANS, Evaluator
from asymsim.util.arguments import checked_arguments
from asymsim.util.errors import InputError, UnknownNameError

COLUMNS = {
    "num_images": (0, LARGEST_IMAGES),
    "text_tokens": (1, LARGEST_TOKENS),
    "output_tokens": (1, LARGEST_TOKENS),
    "batch_size": (1, LARGEST_BATCH),
}


@checked_arguments
def evaluate(scenario: Scenario, columns: Mapping[str, Any], figures: Sequence[str] = MEDIANS) -> dict[str, Array]:
    """Figures of ``scenario`` for each row of ``columns``.

    Parameters
    ----------
    scenario : Scenario
        Model, GPU, schedule and image size of all rows; its token counts are the defaults.
    columns : mapping of str to integers or integer arrays
        Any of ``num_images``, ``text_tokens``, ``output_tokens``, ``batch_size``; arrays of one
        common length, a number stands for every row.
    figures : sequence of str
        Names out of ``FIGURES``; by default all but the ends of intervals. Fewer take less memory.

    Returns
    -------
    dict of str to numpy.ndarray, shape (rows,)
        FLOPs and bytes as int64 for the whole batch (``peak_bytes`` and ``activation_bytes`` on each
        GPU), times in seconds as float64; ends of their 90 % intervals are nan where neither the GPU nor a
        relative was measured. Where the budget adapts to the sample, expectations as
        float64, but for ``max_batch_size``, which holds for the schedule that needs most. Counting is
        ``exact``.

    Raises
    ------
    InputError
        If a column is no array of whole numbers, out of range, or of another length.
    UnknownNameError
        If a column or figure has no such name.
    """
    for name in columns:
        if name not in COLUMNS:
            raise UnknownNameError("column", name, COLUMNS)
    for name in figures:
        if name not in FIGURES:
            raise UnknownNameError("figure", name, FIGURES)
    resolved = resolve(scenario)
    defaults = scenario_tokens(scenario, resolved.model)
    values = {name: _column(name, values) for name, values in columns.items()}
    rows = max((len(column) for column in values.values()), default=1)
    for name, column in values.items():
        if len(column) not in (1, rows):
            raise InputError(name, len(column), f"give 1 value or {rows}, as the longest column has")
    _check_largest(resolved, defaults, values)
    result: dict[str, Array] = {name: np.empty(rows, _type(name, resolved)) for name in figures}
    evaluator = Evaluator(resolved, rows)
    for start in range(0, rows, BLOCK_ROWS):
        stop = min(start + BLOCK_ROWS, rows)
        token_counts = np.tile(np.array(defaults.token_counts(), np.int64), (stop - start, 1))
        for name, column in values.items():
            token_counts[:, _FIELD[name]] = column if len(column) == 1 else column[start:stop]
        _set_visual(defaults, token_counts)
        block = evaluator.figures(token_counts)
        for name in figures:
            result[name][start:stop] = block[name]
    return result


_FIELD = {
    "num_images": TokenCounts._fields.index("images"),
    "text_tokens": TokenCounts._fields.index("text_tokens"),
    "output_tokens": TokenCounts._fields.index("output_tokens"),
    "batch_size": TokenCounts._fields.index("batch_size"),
}


def _column(name: str, values: Any) -> Array:
    array = np.atleast_1d(np.asarray(values))
    if array.ndim != 1 or array.dtype.kind not in "iu" or len(array) == 0:
        raise InputError(name, f"{array.dtype} array of shape {array.shape}", "give a non-empty list of whole numbers")
    lowest, highest = COLUMNS[name]
    if array.min() < lowest or array.max() > highest:
        outside = array.min() if array.min() < lowest else array.max()
        raise InputError(name, int(outside), f"give whole numbers from {lowest} to {highest}")
    return array


def _check_largest(resolved: ResolvedScenario, defaults: RequestTokens, values: Mapping[str, Array]) -> None:
    if "num_images" in values and defaults.image is None and int(values["num_images"].max()) > 0:
        raise InputError("num_images", int(values["num_images"].max()), "give the scenario an image to repeat")
    largest = {name: int(column.max()) for name, column in values.items()}
    images = largest.pop("num_images", defaults.num_images)
    per_image = -(-defaults.visual_tokens // max(1, defaults.num_images))
    check_countable(
        resolved,
        RequestTokens(
            num_images=images,
            image=defaults.image,
            visual_tokens=images * per_image,
            text_tokens=largest.get("text_tokens", defaults.text_tokens),
            output_tokens=largest.get("output_tokens", defaults.output_tokens),
            batch_size=largest.get("batch_size", defaults.batch_size),
        ),
    )


def _set_visual(defaults: RequestTokens, token_counts: Array) -> None:
    """Visual tokens in proportion to each row's images."""
    if defaults.num_images > 0:
        images = token_counts[:, _FIELD["num_images"]]
        token_counts[:, TokenCounts._fields.index("visual_tokens")] = (
            images * defaults.visual_tokens // defaults.num_images
        )


def _type(name: str, resolved: ResolvedScenario) -> type:
    whole = name in COUNT_COLUMNS or name == "peak_bytes"
    return np.int64 if name == "max_batch_size" or (whole and len(resolved.schedules) == 1) else np.float64
