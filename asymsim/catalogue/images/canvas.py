"""Grids of equal tiles, and checks of image sizes."""

from __future__ import annotations

from asymsim.util.errors import InputError

# Pixels a side; beyond it processors run out of memory long before a model sees the image.
LARGEST_SIDE = 2**20


def check_size(height: int, width: int) -> None:
    """Raise ``InputError`` unless both sides are whole numbers from 1 to 2**20."""
    for field, value in (("image_height", height), ("image_width", width)):
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= LARGEST_SIDE:
            raise InputError(field, value, f"give a whole number of pixels from 1 to {LARGEST_SIDE}")


def check_tokens(visual_tokens: int) -> None:
    """Raise ``InputError`` unless ``visual_tokens`` is a whole number >= 1."""
    if isinstance(visual_tokens, bool) or not isinstance(visual_tokens, int) or visual_tokens < 1:
        raise InputError("visual_tokens", visual_tokens, "give a whole number of at least 1")


def grids(most_tiles: int) -> tuple[tuple[int, int], ...]:
    """All (rows, columns) with 1 to ``most_tiles`` tiles, fewest tiles first."""
    by_tiles = [
        (rows, tiles // rows) for tiles in range(1, most_tiles + 1) for rows in range(1, tiles + 1) if tiles % rows == 0
    ]
    return tuple(by_tiles)


def smallest_grid(cells: int) -> tuple[int, int]:
    """The smallest (rows, columns) with at least ``cells`` cells whose long side is at most twice the short one.

    Among equally small grids the squarest; the bound keeps a count without divisors from becoming a strip.
    """
    best = (1, cells) if cells <= 2 else (0, 0)
    rows = 1
    while cells > 2 and rows * (rows - 1) < cells:
        columns = max(rows, -(-cells // rows))
        if columns <= 2 * rows and (best == (0, 0) or rows * columns <= best[0] * best[1]):
            best = (rows, columns)
        rows += 1
    return best
