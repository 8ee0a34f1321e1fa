"""The images that a trace's rows tell of, in any of the ways in which they may."""

from __future__ import annotations

from typing import Any

import numpy as np

from asymsim.core.arrays import Array
from asymsim.estimator.token_counts import LARGEST_IMAGE_PIXELS, LARGEST_IMAGES, LARGEST_TOKENS
from asymsim.serving.workload.requests import BY_SIZE, TYPICAL
from asymsim.serving.workload.traces.rows import Rows
from asymsim.serving.workload.traces.values import absent, whole_numbers

# Number of images of a row that says nothing of images.
UNSTATED = -1
_LEFT_OUT = {
    "num_images": (UNSTATED, 0, LARGEST_IMAGES),
    "image_height": (TYPICAL, 0, LARGEST_IMAGE_PIXELS),
    "image_width": (TYPICAL, 0, LARGEST_IMAGE_PIXELS),
    "visual_tokens": (BY_SIZE, BY_SIZE, LARGEST_TOKENS),
}


def image_columns(
    rows: Rows, lines: Array, names: dict[str, str], raw: dict[str, list[Any]], known: dict[Any, int]
) -> tuple[dict[str, Array], Array]:
    """The image columns of ``Requests``, and which rows had images of several sizes.

    A request has images of one size: where ``images`` lists several, all count as the one of most pixels, so that the
    cost is never below the recorded one's.

    Parameters
    ----------
    rows, lines
        For errors.
    names : dict
        The file's name of each column.
    raw : dict
        Raw values by column.
    known : dict
        Numbers of the images seen so far, by their names in the file; new ones are added.
    """
    made = {
        key: whole_numbers(rows, lines, names[key], raw[key], lowest, highest, default)
        for key, (default, lowest, highest) in _LEFT_OUT.items()
    }
    resized = np.zeros(len(lines), bool)
    for place, sizes in enumerate(() if absent(raw["images"]) else raw["images"]):
        if sizes is not None and sizes != "":
            largest, several = _largest(rows, lines[place], names["images"], sizes)
            made["num_images"][place] = len(sizes)
            made["image_height"][place], made["image_width"][place] = largest
            resized[place] = several
    told = (made["image_height"] != TYPICAL) | (made["image_width"] != TYPICAL) | (made["visual_tokens"] > 0)
    made["num_images"][(made["num_images"] == UNSTATED) & told] = 1
    for place in np.flatnonzero((made["num_images"] == 0) & (made["visual_tokens"] > 0))[:1]:
        value = raw["visual_tokens"][place]
        raise rows.error(lines[place], names["visual_tokens"], value, "visual tokens need an image; num_images is 0")
    for place in np.flatnonzero(made["image_height"] * made["image_width"] > LARGEST_IMAGE_PIXELS)[:1]:
        size = f"{made['image_height'][place]} x {made['image_width'][place]}"
        raise rows.error(lines[place], "image size", size, f"give at most {LARGEST_IMAGE_PIXELS} pixels")
    made["image_of"] = np.full(len(lines), -1, np.int64)
    if not absent(raw["image_of"]):
        made["image_of"][:] = [_number(known, value) for value in raw["image_of"]]
    return made, resized


def _largest(rows: Rows, line: int, name: str, sizes: object) -> tuple[tuple[int, int], bool]:
    """The size of most pixels, and whether there are others."""
    remedy = "give a list of [height, width], in pixels"
    if not isinstance(sizes, list) or len(sizes) > LARGEST_IMAGES:
        raise rows.error(line, name, sizes, remedy)
    found = set()
    for size in sizes:
        if not isinstance(size, list) or len(size) != 2:
            raise rows.error(line, name, size, remedy)
        if any(type(edge) is not int or not 1 <= edge <= LARGEST_IMAGE_PIXELS for edge in size):
            raise rows.error(line, name, size, remedy)
        found.add((size[0], size[1]))
    return max(found, key=lambda size: size[0] * size[1], default=(TYPICAL, TYPICAL)), len(found) > 1


def _number(known: dict[Any, int], value: object) -> int:
    """-1 where a row names no images, or says so as ``Requests`` does."""
    text = str(value).strip()
    return -1 if value is None or text in ("", "-1") else known.setdefault(text, len(known))
