"""What a fleet is asked, over time: one column a quantity."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from asymsim.core.layout import Array

# In place of a count: let the image's size decide, or the model's typical image.
BY_SIZE = -1
TYPICAL = 0


@dataclass(frozen=True)
class Requests:
    """Requests in order of their arrival, each column of shape (requests,).

    Attributes
    ----------
    arrival_s : numpy.ndarray of float64
        Seconds from the start, never falling.
    num_images : numpy.ndarray of int64
    image_height, image_width : numpy.ndarray of int64
        Pixels of each of a request's images; ``TYPICAL`` for those of the model's typical image.
    visual_tokens : numpy.ndarray of int64
        Visual tokens of all the request's images outright, or ``BY_SIZE``.
    text_tokens, output_tokens : numpy.ndarray of int64
        Prompt text, and the tokens that are generated.
    image_of : numpy.ndarray of int64
        Equal numbers mean the same images, which an encoder cache may still hold; -1: like no other's.
    """

    arrival_s: Array
    num_images: Array
    image_height: Array
    image_width: Array
    visual_tokens: Array
    text_tokens: Array
    output_tokens: Array
    image_of: Array

    def __len__(self) -> int:
        return len(self.arrival_s)

    def take(self, rows: Array | slice) -> Requests:
        """Some of the requests."""
        return Requests(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


def requests(
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
    """Requests from columns, each an array or one value for all."""

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
