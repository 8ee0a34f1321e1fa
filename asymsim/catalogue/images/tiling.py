"""Tiles in the grid whose aspect ratio is closest to the image's, and a thumbnail (InternVL)."""

from __future__ import annotations

from asymsim.catalogue.images.base import ImageRule, ImageTokens
from asymsim.catalogue.images.canvas import check_size, check_tokens
from asymsim.util.strict import strict_dataclass


@strict_dataclass
class AspectTiles(ImageRule):
    """Resize to a grid of ``min_tiles`` to ``max_tiles`` tiles; where there are several, add the whole image as one.

    ``<img>`` and ``</img>`` around the image are text tokens and not counted (transformers 5.23.0,
    image_processing_got_ocr2.py, which InternVL uses, and processing_internvl.py).

    Attributes
    ----------
    tile_size : int
        Pixels along an edge.
    patches_per_tile, extra_tokens : int
        Encoder tokens of a tile, and [CLS].
    tile_tokens : int
        Language-model tokens of a tile.
    min_tiles, max_tiles : int
        Bounds of rows x columns.
    thumbnail : bool
        Whether a grid of two tiles or more is followed by the whole image as one.
    """

    tile_size: int
    patches_per_tile: int
    extra_tokens: int = 1
    tile_tokens: int
    min_tiles: int = 1
    max_tiles: int = 12
    thumbnail: bool = True

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """(rows, columns) for an image of ``height`` x ``width`` pixels."""
        best, best_difference = (1, 1), float("inf")
        for columns, rows in self._grids():
            difference = abs(width / height - columns / rows)
            # Of equal ratios the finer grid wins as long as the image has half its pixels.
            enough = height * width > 0.5 * self.tile_size * self.tile_size * columns * rows
            if difference < best_difference or (difference == best_difference and enough):
                best, best_difference = (rows, columns), difference
        return best

    def tokens(self, height: int, width: int) -> ImageTokens:
        check_size(height, width)
        rows, columns = self.grid(height, width)
        tiles = self._with_thumbnail(rows * columns)
        return self._tiles(tiles, tiles * self.tile_tokens)

    def tokens_for(self, visual_tokens: int) -> ImageTokens:
        """As the base class says; more tiles than one image has are taken as several images."""
        check_tokens(visual_tokens)
        needed = -(-visual_tokens // self.tile_tokens)
        counts = sorted({self._with_thumbnail(columns * rows) for columns, rows in self._grids()})
        full, rest = divmod(needed, counts[-1])
        tiles = full * counts[-1] + (min(count for count in counts if count >= rest) if rest else 0)
        return self._tiles(tiles, visual_tokens)

    def default_size(self) -> tuple[int, int]:
        """One tile, the model's base resolution."""
        return self.tile_size, self.tile_size

    def _grids(self) -> list[tuple[int, int]]:
        """(columns, rows) by number of tiles; within one number, narrow grids first, in the processor's order."""
        edge = range(1, self.max_tiles + 1)
        grids = [(columns, rows) for columns in edge for rows in edge if self._allowed(columns * rows)]
        return sorted(grids, key=lambda grid: grid[0] * grid[1])

    def _allowed(self, tiles: int) -> bool:
        return self.min_tiles <= tiles <= self.max_tiles

    def _with_thumbnail(self, tiles: int) -> int:
        return tiles + 1 if self.thumbnail and tiles > 1 else tiles

    def _tiles(self, tiles: int, visual_tokens: int) -> ImageTokens:
        return ImageTokens(
            sequences=tiles,
            sequence_tokens=self.patches_per_tile + self.extra_tokens,
            patches=tiles * self.patches_per_tile,
            projector_tokens=tiles * self.tile_tokens,
            visual_tokens=visual_tokens,
        )
