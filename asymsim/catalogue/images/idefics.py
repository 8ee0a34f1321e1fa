"""The image brought to a fixed longest edge and cut into tiles, then added whole (Idefics 3, SmolVLM)."""

from __future__ import annotations

import math

from asymsim.catalogue.images.base import ImageRule, ImageTokens
from asymsim.catalogue.images.canvas import check_size, check_tokens
from asymsim.util.strict import strict_dataclass

# transformers 5.23.0, image_processing_idefics3.py: no edge grows beyond this before the cut.
LARGEST_EDGE = 4096


@strict_dataclass
class SplitTiles(ImageRule):
    """Resize to ``longest_edge`` (up as well as down), round each edge up to whole tiles, cut, add the whole image.

    The ``<row_r_col_c>`` and newline markers between tiles are text tokens of the prompt and not counted
    (transformers 5.23.0, image_processing_pil_idefics3.py and processing_idefics3.py).

    Attributes
    ----------
    tile_size, longest_edge : int
        Pixels.
    patches_per_tile : int
        Encoder tokens of a tile.
    tile_tokens : int
        Language-model tokens of a tile, after pixel shuffle.
    """

    tile_size: int
    longest_edge: int
    patches_per_tile: int
    tile_tokens: int

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """(rows, columns) of the cut."""
        height, width = _within(*_to_longest(height, width, self.longest_edge))
        ratio = width / height
        if width >= height:
            columns = math.ceil(width / self.tile_size)
            rows = math.ceil(int(columns * self.tile_size / ratio) / self.tile_size)
        else:
            rows = math.ceil(height / self.tile_size)
            columns = math.ceil(int(rows * self.tile_size * ratio) / self.tile_size)
        return max(1, rows), max(1, columns)

    def tokens(self, height: int, width: int) -> ImageTokens:
        check_size(height, width)
        rows, columns = self.grid(height, width)
        tiles = self._with_whole(rows * columns)
        return self._tiles(tiles, tiles * self.tile_tokens)

    def tokens_for(self, visual_tokens: int) -> ImageTokens:
        """As the base class says; more tiles than one image has are taken as several images."""
        check_tokens(visual_tokens)
        needed = -(-visual_tokens // self.tile_tokens)
        edge = math.ceil(self.longest_edge / self.tile_size)
        counts = [self._with_whole(edge * short) for short in range(1, edge + 1)]
        full, rest = divmod(needed, counts[-1])
        tiles = full * counts[-1] + (min(count for count in counts if count >= rest) if rest else 0)
        return self._tiles(tiles, visual_tokens)

    def default_size(self) -> tuple[int, int]:
        """A square image; all square images have the same tiles."""
        return self.longest_edge, self.longest_edge

    def _with_whole(self, tiles: int) -> int:
        return tiles + 1 if tiles > 1 else tiles

    def _tiles(self, tiles: int, visual_tokens: int) -> ImageTokens:
        return ImageTokens(
            sequences=tiles,
            sequence_tokens=self.patches_per_tile,
            patches=tiles * self.patches_per_tile,
            projector_tokens=tiles * self.tile_tokens,
            visual_tokens=visual_tokens,
        )


def _to_longest(height: int, width: int, longest: int) -> tuple[int, int]:
    """The longer edge becomes ``longest``, the other follows and is made even."""
    if width >= height:
        short = int(longest / (width / height))
        return max(1, short + short % 2), longest
    short = int(longest * (width / height))
    return longest, max(1, short + short % 2)


def _within(height: int, width: int) -> tuple[int, int]:
    """Both edges at most ``LARGEST_EDGE``, the ratio kept."""
    ratio = width / height
    if width >= height and width > LARGEST_EDGE:
        return max(1, int(LARGEST_EDGE / ratio)), LARGEST_EDGE
    if height > width and height > LARGEST_EDGE:
        return LARGEST_EDGE, max(1, int(LARGEST_EDGE * ratio))
    return height, width
