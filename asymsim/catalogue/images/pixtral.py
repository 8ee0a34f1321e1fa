"""Dynamic resolution by the longest edge, with a break token after each row of patches (Pixtral)."""

from __future__ import annotations

import math

from asymsim.catalogue.images.base import ImageRule, ImageTokens
from asymsim.catalogue.images.canvas import check_size, check_tokens
from asymsim.util.strict import strict_dataclass


@strict_dataclass
class LongestEdge(ImageRule):
    """Shrink to ``longest_edge``, then round each edge up to whole patches; one sequence an image.

    The language model sees rows x (columns + 1) tokens: ``[IMG_BREAK]`` closes each row, ``[IMG_END]`` the last.
    Both are part of the image, so ``visual_tokens`` counts them; the encoder and the projector run on the patches
    alone (transformers 5.23.0, image_processing_pil_pixtral.py and processing_pixtral.py).

    Attributes
    ----------
    longest_edge, patch_size : int
        Pixels.
    """

    longest_edge: int
    patch_size: int

    def tokens(self, height: int, width: int) -> ImageTokens:
        check_size(height, width)
        ratio = max(height / self.longest_edge, width / self.longest_edge)
        if ratio > 1:
            # The processor fails on an edge that rounds down to nothing; one row of patches is kept instead.
            height = max(1, math.floor(height / ratio))
            width = max(1, math.floor(width / ratio))
        rows, columns = -(-height // self.patch_size), -(-width // self.patch_size)
        return self._grid(1, rows, columns, rows * (columns + 1))

    def tokens_for(self, visual_tokens: int) -> ImageTokens:
        """As the base class says; the smallest image is the smallest square one, or one row short of a square.

        More tokens than the largest image has are taken as several of the largest.
        """
        check_tokens(visual_tokens)
        most = self.longest_edge // self.patch_size
        images = -(-visual_tokens // (most * (most + 1)))
        if images > 1:
            return self._grid(images, most, most, visual_tokens)
        columns = math.isqrt(visual_tokens)
        columns += columns * (columns + 1) < visual_tokens
        rows = -(-visual_tokens // (columns + 1))
        return self._grid(1, rows, columns, visual_tokens)

    def default_size(self) -> tuple[int, int]:
        """The largest image, as in the model's release."""
        return self.longest_edge, self.longest_edge

    def _grid(self, images: int, rows: int, columns: int, visual_tokens: int) -> ImageTokens:
        patches = rows * columns
        return ImageTokens(
            sequences=images,
            sequence_tokens=patches,
            patches=images * patches,
            projector_tokens=images * patches,
            visual_tokens=visual_tokens,
        )
