"""Requests over time, as columns."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from asymsim.core.arrays import Array
from asymsim.util.errors import InputError

# In place of a count: from the image's size; from the model's typical image.
BY_SIZE = -1
TYPICAL = 0
# Lowest value of each count.
LOWEST = {
    "num_images": 0,
    "image_height": TYPICAL,
    "image_width": TYPICAL,
    "visual_tokens": BY_SIZE,
    "text_tokens": 1,
    "output_tokens": 1,
}


@dataclass(frozen=True)
class Requests:
    """Requests in order of their arrival, each column of shape (requests,).

    Columns of different lengths, decreasing arrivals and counts out of range are refused, with the first such request.

    Attributes
    ----------
    arrival_s : numpy.ndarray of float64
        Seconds from the start, non-decreasing.
    num_images : numpy.ndarray of int64
    image_height, image_width : numpy.ndarray of int64
        Pixels of each of a request's images; ``TYPICAL`` for those of the model's typical image.
    visual_tokens : numpy.ndarray of int64
        Visual tokens of all images of the request, or ``BY_SIZE``.
    text_tokens, output_tokens : numpy.ndarray of int64
        Text tokens of the prompt, and generated tokens.
    image_of : numpy.ndarray of int64
        Equal numbers mean the same images, which an encoder cache may hold; -1 means images of no other request.
    """

    arrival_s: Array
    num_images: Array
    image_height: Array
    image_width: Array
    visual_tokens: Array
    text_tokens: Array
    output_tokens: Array
    image_of: Array

    def __post_init__(self) -> None:
        for field in fields(self):
            if len(getattr(self, field.name)) != len(self):
                raise InputError(field.name, len(getattr(self, field.name)), f"give {len(self)} values, one a request")
        gaps = np.diff(self.arrival_s, prepend=0.0)
        _check(
            "arrival_s",
            self.arrival_s,
            np.isfinite(self.arrival_s) & (gaps >= 0),
            "a time from 0, not before the one above",
        )
        for name, minimum in LOWEST.items():
            _check(name, getattr(self, name), getattr(self, name) >= minimum, f"a whole number from {minimum}")

    def __len__(self) -> int:
        return len(self.arrival_s)

    def take(self, rows: Array | slice) -> Requests:
        """The requests of some rows."""
        return Requests(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


def _check(name: str, values: Array, is_valid: Array, valid: str) -> None:
    if not is_valid.all():
        row = int(np.argmin(is_valid))
        raise InputError(f"{name} of request {row}", values[row].item(), f"give {valid}")


def make_requests(
    arrival_s: Array,
    *,
    text_tokens: Array | int,
    output_tokens: Array | int,
    num_images: Array | int = 1,
    image_height: Array | int = TYPICAL,
    image_width: Array | int = TYPICAL,
    visual_tokens: Array | int = BY_SIZE,
    image_of: Array | int = -1,
) -> Requests:
    """Requests from columns, each an array or one value for all requests."""

    def column(value: Array | int) -> Array:
        return np.broadcast_to(np.asarray(value, np.int64), len(arrival_s)).copy()

    return Requests(
        arrival_s=np.asarray(arrival_s, np.float64),
        num_images=column(num_images),
        image_height=column(image_height),
        image_width=column(image_width),
        visual_tokens=column(visual_tokens),
        text_tokens=column(text_tokens),
        output_tokens=column(output_tokens),
        image_of=column(image_of),
    )
