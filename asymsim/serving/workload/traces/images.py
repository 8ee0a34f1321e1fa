"""Image columns of a trace: counts, sizes, visual tokens and identities, in each way a format may state them."""

from __future__ import annotations

from typing import Any

import numpy as np

from asymsim.core.arrays import Array
from asymsim.estimator.token_counts import LARGEST_IMAGE_PIXELS, LARGEST_IMAGES, LARGEST_TOKENS
from asymsim.serving.workload.requests import BY_SIZE, TYPICAL
from asymsim.serving.workload.traces.rows import Rows
from asymsim.serving.workload.traces.values import absent, whole_numbers

# Number of images of a row without any image column.
UNSTATED = -1
_DEFAULTS = {
    "num_images": (UNSTATED, 0, LARGEST_IMAGES),
    "image_height": (TYPICAL, 0, LARGEST_IMAGE_PIXELS),
    "image_width": (TYPICAL, 0, LARGEST_IMAGE_PIXELS),
    "visual_tokens": (BY_SIZE, BY_SIZE, LARGEST_TOKENS),
}


def image_columns(
    rows: Rows, lines: Array, names: dict[str, str], raw: dict[str, list[Any]], image_numbers: dict[Any, int]
) -> tuple[dict[str, Array], Array]:
    """Image columns of ``Requests``, and a mask of the rows with images of several sizes.

    A request has images of one size: where ``images`` lists several sizes, all images count as the largest by area, so
    that the cost is never underestimated.

    Parameters
    ----------
    rows, lines
        Rows of the file and their line numbers, for errors.
    names : dict
        The file's name of each column.
    raw : dict
        Raw values by column.
    image_numbers : dict
        Numbers of the images so far, by their names in the file; new images are added.
    """
    columns = {
        key: whole_numbers(rows, lines, names[key], raw[key], lowest, highest, default)
        for key, (default, lowest, highest) in _DEFAULTS.items()
    }
    has_several_sizes = np.zeros(len(lines), bool)
    for index, sizes in enumerate(() if absent(raw["images"]) else raw["images"]):
        if sizes is not None and sizes != "":
            largest, several_sizes = _largest(rows, lines[index], names["images"], sizes)
            columns["num_images"][index] = len(sizes)
            columns["image_height"][index], columns["image_width"][index] = largest
            has_several_sizes[index] = several_sizes
    has_size = (
        (columns["image_height"] != TYPICAL) | (columns["image_width"] != TYPICAL) | (columns["visual_tokens"] > 0)
    )
    columns["num_images"][(columns["num_images"] == UNSTATED) & has_size] = 1
    for index in np.flatnonzero((columns["num_images"] == 0) & (columns["visual_tokens"] > 0))[:1]:
        value = raw["visual_tokens"][index]
        raise rows.error(lines[index], names["visual_tokens"], value, "visual tokens need an image; num_images is 0")
    for index in np.flatnonzero(columns["image_height"] * columns["image_width"] > LARGEST_IMAGE_PIXELS)[:1]:
        size = f"{columns['image_height'][index]} x {columns['image_width'][index]}"
        raise rows.error(lines[index], "image size", size, f"give at most {LARGEST_IMAGE_PIXELS} pixels")
    columns["image_of"] = np.full(len(lines), -1, np.int64)
    if not absent(raw["image_of"]):
        columns["image_of"][:] = [_image_number(image_numbers, value) for value in raw["image_of"]]
    return columns, has_several_sizes


def _largest(rows: Rows, line: int, name: str, sizes: object) -> tuple[tuple[int, int], bool]:
    """Largest size by area, and whether there are other sizes."""
    remedy = "give a list of [height, width], in pixels"
    if not isinstance(sizes, list) or len(sizes) > LARGEST_IMAGES:
        raise rows.error(line, name, sizes, remedy)
    distinct_sizes = set()
    for size in sizes:
        if not isinstance(size, list) or len(size) != 2:
            raise rows.error(line, name, size, remedy)
        if any(type(edge) is not int or not 1 <= edge <= LARGEST_IMAGE_PIXELS for edge in size):
            raise rows.error(line, name, size, remedy)
        distinct_sizes.add((size[0], size[1]))
    return max(distinct_sizes, key=lambda size: size[0] * size[1], default=(TYPICAL, TYPICAL)), len(distinct_sizes) > 1


def _image_number(image_numbers: dict[Any, int], value: object) -> int:
    """Number of an image name; -1 where a row has none, or has the -1 of ``Requests``."""
    text = str(value).strip()
    return -1 if value is None or text in ("", "-1") else image_numbers.setdefault(text, len(image_numbers))
