"""Tiles of the best-fitting resolution beside the whole image, padding cut away (LLaVA-NeXT, LLaVA-OneVision)."""

from __future__ import annotations

import math

from asymsim.catalogue.images.base import ImageRule, ImageTokens
from asymsim.catalogue.images.canvas import check_size, check_tokens
from asymsim.util.strict import strict_dataclass


@strict_dataclass
class AnyRes(ImageRule):
    """The whole image as one tile, then the grid of tiles of the best of ``pinpoints``.

    The encoder and the projector see every tile in full. Of the grid the language model gets the rows and
    columns that are not padding, and a newline token after each row (transformers 5.23.0,
    processing_llava_next.py). With ``max_tiles`` the grid is shrunk by interpolation, after the projector,
    to about as many tokens as that number of tiles has (processing_llava_onevision.py).

    LLaVA-OneVision drops the grids of a prompt of several images; the rule is for one image.

    Attributes
    ----------
    tile_size : int
        Pixels along an edge.
    patches_per_side : int
        Patches along an edge of a tile.
    extra_tokens : int
        Tokens the encoder adds to a tile, such as [CLS]; they do not reach the projector.
    pinpoints : tuple of (height, width)
        Resolutions to choose from, in pixels, multiples of ``tile_size``.
    max_tiles : int
        0: the grid is never shrunk.
    """

    tile_size: int
    patches_per_side: int
    extra_tokens: int = 0
    pinpoints: tuple[tuple[int, int], ...]
    max_tiles: int = 0

    def tokens(self, height: int, width: int) -> ImageTokens:
        check_size(height, width)
        best_height, best_width = self.resolution(height, width)
        rows, columns = best_height // self.tile_size, best_width // self.tile_size
        grid_height, grid_width = self._unpadded(height, width, rows, columns)
        if self.max_tiles:
            ratio = math.sqrt(grid_height * grid_width / (self.max_tiles * self.patches_per_side**2))
            if ratio > 1.1:
                grid_height, grid_width = int(grid_height // ratio), int(grid_width // ratio)
        return self._tiles(1 + rows * columns, self.patches_per_side**2 + grid_height * (grid_width + 1))

    def tokens_for(self, visual_tokens: int) -> ImageTokens:
        """As the base class says, among images of exactly a pinpoint's size.

        More tokens than the largest image has are taken as several of the largest.
        """
        check_tokens(visual_tokens)
        sizes = sorted((self.tokens(*size) for size in self.pinpoints), key=lambda size: size.sequences)
        for size in sizes:
            if size.visual_tokens >= visual_tokens:
                return self._tiles(size.sequences, visual_tokens)
        largest = max(sizes, key=lambda size: size.visual_tokens)
        images = -(-visual_tokens // largest.visual_tokens)
        return self._tiles(images * largest.sequences, visual_tokens)

    def default_size(self) -> tuple[int, int]:
        """Two by two tiles: the 672 x 672 for which LLaVA-NeXT's 2,880 patch tokens are quoted."""
        return 2 * self.tile_size, 2 * self.tile_size

    def resolution(self, height: int, width: int) -> tuple[int, int]:
        """The pinpoint that keeps most of the image's pixels and, among equals, has the least padding."""
        best, most_kept, least_wasted = self.pinpoints[0], 0, math.inf
        for candidate in self.pinpoints:
            scale = min(candidate[1] / width, candidate[0] / height)
            kept = min(int(width * scale) * int(height * scale), width * height)
            wasted = candidate[0] * candidate[1] - kept
            if kept > most_kept or (kept == most_kept and wasted < least_wasted):
                best, most_kept, least_wasted = candidate, kept, wasted
        return best

    def _unpadded(self, height: int, width: int, rows: int, columns: int) -> tuple[int, int]:
        """Rows and columns of the grid's patches without the padding."""
        grid_height, grid_width = rows * self.patches_per_side, columns * self.patches_per_side
        if width / height > grid_width / grid_height:
            filled = int(round(height * (grid_width / width), 7))
            return grid_height - (grid_height - filled) // 2 * 2, grid_width
        filled = int(round(width * (grid_height / height), 7))
        return grid_height, grid_width - (grid_width - filled) // 2 * 2

    def _tiles(self, tiles: int, visual_tokens: int) -> ImageTokens:
        patches = self.patches_per_side**2
        return ImageTokens(
            sequences=tiles,
            sequence_tokens=patches + self.extra_tokens,
            patches=tiles * patches,
            projector_tokens=tiles * patches,
            visual_tokens=visual_tokens,
        )
