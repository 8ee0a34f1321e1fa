"""Requests -> the different shapes among them: token counts by each model's own image rule."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from asymsim.core.arrays import Array
from asymsim.core.serving import layout
from asymsim.core.token_counts import TokenCounts
from asymsim.estimator.countable import check_countable
from asymsim.estimator.resolve import ResolvedScenario
from asymsim.estimator.token_counts import RequestTokens, request_tokens
from asymsim.serving.config import EngineConfig
from asymsim.serving.workload.requests import BY_SIZE, TYPICAL, Requests
from asymsim.util.errors import InputError

# Numbers of requests that are timed together. Images only as long as there are fewer kinds of them than that: hardly
# two alike would meet in a step.
BATCH_SIZES = 2 ** np.arange(9)
FEW_IMAGES = 2000
VISUAL, TEXT, OUTPUT, BATCH = (
    TokenCounts._fields.index(name) for name in ("visual_tokens", "text_tokens", "output_tokens", "batch_size")
)
NO_TOKENS = TokenCounts(0, 0, 0, 0, 0, 0, 0, 1, 1, 1)


class RequestShapes(NamedTuple):
    """The different loads among the requests, shape (loads, 10), and the load of each request.

    ``image_loads`` are those of the different images, of which ``together`` are timed at once; ``images`` (loads) the
    one that each load has, ``context`` (loads) the positions that it takes. What is too long for the model stands there
    as one token of text.
    """

    image_loads: Array
    together: Array
    images: Array
    loads: Array
    context: Array
    visual_tokens: Array
    of: Array


def request_shapes(bound: ResolvedScenario, requests: Requests, context_tokens: int) -> RequestShapes:
    """The shapes of requests on a setting's model, whose longest sequence is ``max_context_tokens``.

    Raises
    ------
    InputError
        If an image is out of range, or a request's counts would leave 64 bits.
    """
    sizes, image_of = _distinct(
        requests.num_images, requests.image_height, requests.image_width, requests.visual_tokens
    )
    shapes, shape_of = _distinct(image_of, requests.text_tokens, requests.output_tokens)
    images, text, output = shapes.T
    workloads = [_workload(bound, *map(int, size)) for size in sizes]
    image_loads = np.array([each.token_counts() for each in workloads], np.int64).reshape(-1, len(TokenCounts._fields))
    loads = image_loads[images]
    visual = loads[:, VISUAL].copy()
    context = visual * bound.model_arrays.visual_in_sequence + text + output
    loads[:, TEXT], loads[:, OUTPUT] = text, output
    loads[context > context_tokens] = NO_TOKENS
    most = np.ones((2, len(workloads)), np.int64)
    for row, column in zip(most, (TEXT, OUTPUT), strict=True):
        np.maximum.at(row, images, loads[:, column])
    for each, text_tokens, output_tokens in zip(workloads, *most.tolist(), strict=True):
        check_countable(bound, replace(each, text_tokens=text_tokens, output_tokens=output_tokens))
    return RequestShapes(image_loads, _countable(bound, workloads), images, loads, context, visual, shape_of)


def request_token_counts(bound: ResolvedScenario, requests: Requests, server: EngineConfig) -> tuple[Array, Array]:
    """The different loads among the requests, shape (loads, 10), and the load of each request."""
    shapes = request_shapes(bound, requests, max_context_tokens(bound, server))
    return shapes.loads, shapes.of


def max_context_tokens(bound: ResolvedScenario, server: EngineConfig) -> int:
    """The longest sequence, prompt and output, that is served."""
    return server.max_model_len or bound.model.language_model.context_tokens or layout.NEVER


def _countable(bound: ResolvedScenario, workloads: list[RequestTokens]) -> Array:
    """The numbers of requests whose images may be timed together without leaving 64 bits."""
    if len(workloads) >= FEW_IMAGES:
        return BATCH_SIZES[:1]
    powers = BATCH_SIZES
    for each in workloads:
        while len(powers) > 1:
            try:
                check_countable(bound, replace(each, text_tokens=1, output_tokens=1, batch_size=int(powers[-1])))
                break
            except InputError:
                powers = powers[:-1]
    return powers


def _workload(bound: ResolvedScenario, num_images: int, height: int, width: int, visual_tokens: int) -> RequestTokens:
    return request_tokens(
        bound.model,
        num_images=num_images if bound.model.image_rule else None,
        image_height=None if height == TYPICAL or visual_tokens != BY_SIZE else height,
        image_width=None if width == TYPICAL or visual_tokens != BY_SIZE else width,
        visual_tokens=None if visual_tokens == BY_SIZE else visual_tokens,
    )


def _distinct(*columns: Array) -> tuple[Array, Array]:
    """The different rows of some columns, and the row of each entry: far quicker than a sort of whole rows."""
    found, of = [np.zeros(1, np.int64)], np.zeros(len(columns[0]), np.int64)
    for column in columns:
        values, places = np.unique(column, return_inverse=True)
        keys, of = np.unique(of * len(values) + places, return_inverse=True)
        found = [each[keys // len(values)] for each in found] + [values[keys % len(values)]]
    return np.stack(found[1:], axis=1), of
