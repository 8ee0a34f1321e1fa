"""Shapes of requests: the distinct token counts among them, by the model's image rule."""

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

# Numbers of requests that are timed together. From so many distinct images on, each is timed alone, since equal images
# hardly ever meet in one engine step.
BATCH_SIZES = 2 ** np.arange(9)
MAX_BATCHED_IMAGES = 2000
VISUAL, TEXT, OUTPUT, BATCH = (
    TokenCounts._fields.index(name) for name in ("visual_tokens", "text_tokens", "output_tokens", "batch_size")
)
NO_TOKENS = TokenCounts(0, 0, 0, 0, 0, 0, 0, 1, 1, 1)


class RequestShapes(NamedTuple):
    """Distinct shapes among the requests.

    Attributes
    ----------
    image_token_counts : numpy.ndarray of int64, shape (images, 10)
        ``TokenCounts`` of the distinct sets of images, without text.
    encoder_batch_sizes : numpy.ndarray of int64
        Numbers of requests whose images are timed together.
    image_index : numpy.ndarray of int64, shape (shapes,)
        Row of ``image_token_counts`` of each shape.
    token_counts : numpy.ndarray of int64, shape (shapes, 10)
        ``TokenCounts`` of each shape; one text token where it is too long for the model.
    context_tokens : numpy.ndarray of int64, shape (shapes,)
        Positions of prompt and output.
    visual_tokens : numpy.ndarray of int64, shape (shapes,)
    shape_of : numpy.ndarray of int64, shape (requests,)
        Row of each request's shape.
    """

    image_token_counts: Array
    encoder_batch_sizes: Array
    image_index: Array
    token_counts: Array
    context_tokens: Array
    visual_tokens: Array
    shape_of: Array


def request_shapes(resolved: ResolvedScenario, requests: Requests, max_tokens: int) -> RequestShapes:
    """Shapes of requests on a scenario's model, whose longest sequence has ``max_tokens`` tokens.

    Raises
    ------
    InputError
        If an image is out of range, or a request's counts would exceed 64 bits.
    """
    sizes, image_of = _distinct(
        requests.num_images, requests.image_height, requests.image_width, requests.visual_tokens
    )
    shapes, shape_of = _distinct(image_of, requests.text_tokens, requests.output_tokens)
    image_index, text, output = shapes.T
    image_requests = [_image_request(resolved, *map(int, size)) for size in sizes]
    rows = [image_request.token_counts() for image_request in image_requests]
    image_token_counts = np.array(rows, np.int64).reshape(-1, len(TokenCounts._fields))
    token_counts = image_token_counts[image_index]
    visual_tokens = token_counts[:, VISUAL].copy()
    context_tokens = visual_tokens * resolved.model_arrays.visual_in_sequence + text + output
    token_counts[:, TEXT], token_counts[:, OUTPUT] = text, output
    token_counts[context_tokens > max_tokens] = NO_TOKENS
    longest = np.ones((2, len(image_requests)), np.int64)
    for row, column in zip(longest, (TEXT, OUTPUT), strict=True):
        np.maximum.at(row, image_index, token_counts[:, column])
    for image_request, text_tokens, output_tokens in zip(image_requests, *longest.tolist(), strict=True):
        check_countable(resolved, replace(image_request, text_tokens=text_tokens, output_tokens=output_tokens))
    return RequestShapes(
        image_token_counts=image_token_counts,
        encoder_batch_sizes=_countable_batch_sizes(resolved, image_requests),
        image_index=image_index,
        token_counts=token_counts,
        context_tokens=context_tokens,
        visual_tokens=visual_tokens,
        shape_of=shape_of,
    )


def request_token_counts(
    resolved: ResolvedScenario, requests: Requests, engine_config: EngineConfig
) -> tuple[Array, Array]:
    """Distinct token counts among the requests, shape (shapes, 10), and the row of each request."""
    shapes = request_shapes(resolved, requests, max_context_tokens(resolved, engine_config))
    return shapes.token_counts, shapes.shape_of


def max_context_tokens(resolved: ResolvedScenario, engine_config: EngineConfig) -> int:
    """Length of the longest sequence, prompt and output, that is served."""
    return engine_config.max_model_len or resolved.model.language_model.context_tokens or layout.NEVER


def _countable_batch_sizes(resolved: ResolvedScenario, image_requests: list[RequestTokens]) -> Array:
    """Numbers of requests whose images may be timed together within 64 bits."""
    if len(image_requests) >= MAX_BATCHED_IMAGES:
        return BATCH_SIZES[:1]
    batch_sizes = BATCH_SIZES
    for image_request in image_requests:
        while len(batch_sizes) > 1:
            try:
                check_countable(
                    resolved, replace(image_request, text_tokens=1, output_tokens=1, batch_size=int(batch_sizes[-1]))
                )
                break
            except InputError:
                batch_sizes = batch_sizes[:-1]
    return batch_sizes


def _image_request(
    resolved: ResolvedScenario, num_images: int, height: int, width: int, visual_tokens: int
) -> RequestTokens:
    return request_tokens(
        resolved.model,
        num_images=num_images if resolved.model.image_rule else None,
        image_height=None if height == TYPICAL or visual_tokens != BY_SIZE else height,
        image_width=None if width == TYPICAL or visual_tokens != BY_SIZE else width,
        visual_tokens=None if visual_tokens == BY_SIZE else visual_tokens,
    )


def _distinct(*columns: Array) -> tuple[Array, Array]:
    """Distinct rows of some columns, and the row of each entry; far quicker than a sort of whole rows."""
    distinct_columns, row_of = [np.zeros(1, np.int64)], np.zeros(len(columns[0]), np.int64)
    for column in columns:
        values, value_index = np.unique(column, return_inverse=True)
        keys, row_of = np.unique(row_of * len(values) + value_index, return_inverse=True)
        distinct_columns = [entries[keys // len(values)] for entries in distinct_columns] + [values[keys % len(values)]]
    return np.stack(distinct_columns[1:], axis=1), row_of
