"""Llama 4: the grid of tiles that distorts and shrinks an image least, and a global tile."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from asymsim.catalogue.images.base import ImageRule, ImageTokens
from asymsim.catalogue.images.canvas import check_size, check_tokens, grids
from asymsim.util.strict import strict_dataclass


@strict_dataclass
class GlobalAndTiles(ImageRule):
    """Up to ``most_tiles`` tiles; a global tile where there are more than one.

    The vocabulary's tile separators and image delimiters belong to the text.

    Attributes
    ----------
    image_size, patch_size : int
        Pixels a side of a tile and of a patch.
    extra_tokens : int
        Tokens the encoder adds to each tile ([CLS]).
    most_tiles : int
        ``max_patches`` of the processor.
    tile_tokens : int
        Visual tokens a tile, after the pixel shuffle.
    """

    image_size: int
    patch_size: int
    extra_tokens: int
    most_tiles: int
    tile_tokens: int

    def tokens(self, height: int, width: int) -> ImageTokens:
        check_size(height, width)
        rows, columns = best_grid(height, width, self.most_tiles, self.image_size)
        tiles = with_global(rows * columns)
        return self._tiles(tiles, tiles * self.tile_tokens)

    def tokens_for(self, visual_tokens: int) -> ImageTokens:
        check_tokens(visual_tokens)
        tiles = -(-visual_tokens // self.tile_tokens)
        # One tile stands alone, two come with the global one: there is no image of two.
        return self._tiles(3 if tiles == 2 else tiles, visual_tokens)

    def default_size(self) -> tuple[int, int]:
        return 2 * self.image_size, 2 * self.image_size

    def _tiles(self, tiles: int, visual_tokens: int) -> ImageTokens:
        patches = (self.image_size // self.patch_size) ** 2
        return ImageTokens(
            sequences=tiles,
            sequence_tokens=patches + self.extra_tokens,
            patches=tiles * patches,
            projector_tokens=tiles * self.tile_tokens,
            visual_tokens=visual_tokens,
        )


def with_global(tiles: int) -> int:
    """Tiles and, unless there is only one, the global tile."""
    return tiles if tiles == 1 else tiles + 1


@lru_cache(maxsize=4096)
def best_grid(height: int, width: int, most_tiles: int, tile_size: int) -> tuple[int, int]:
    """(rows, columns) of the canvas: the least enlargement that fits the image, else the least shrinking.

    Among canvases of equal scale, the smallest. Scales are float32, as in the processor
    (transformers 5.23.0, models/llama4/image_processing_llama4.py, get_best_fit): ties depend on the precision.
    """
    candidates = grids(most_tiles)
    sizes = np.array(candidates, dtype=np.float32) * np.float32(tile_size)
    scales = np.minimum(sizes[:, 0] / np.float32(height), sizes[:, 1] / np.float32(width))
    enlarging = scales[scales >= 1]
    chosen = enlarging.min() if enlarging.size else scales.max()
    # `candidates` come by area, so the first of equal scale is the smallest.
    rows, columns = candidates[int(np.flatnonzero(scales == chosen)[0])]
    return rows, columns
