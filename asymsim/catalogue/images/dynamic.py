"""Dynamic resolution: the image keeps its aspect ratio and becomes as many tokens as it has patches (Qwen-VL)."""

from __future__ import annotations

import math
from dataclasses import replace

from asymsim.catalogue.images.base import ImageRule, ImageTokens
from asymsim.catalogue.images.canvas import check_size, check_tokens, smallest_grid
from asymsim.util.errors import InputError
from asymsim.util.strict import strict_dataclass

# transformers 5.23.0, models/qwen2_vl/image_processing_qwen2_vl.py, smart_resize.
MOST_ELONGATED = 200


@strict_dataclass
class DynamicResolution(ImageRule):
    """Both sides rounded to whole merged patches, the area kept between two bounds.

    One image is one encoder sequence; ``merge_size`` x ``merge_size`` patches become one visual token.
    The <|vision_start|> and <|vision_end|> tokens belong to the text.

    Attributes
    ----------
    patch_size, merge_size : int
        Pixels a patch side, patches a token side.
    min_pixels, max_pixels : int
        Bounds on the area after resizing, from the model's ``preprocessor_config.json``.
    window_size : int
        Side of the encoder's attention windows in pixels; 0: no windows.
    """

    patch_size: int
    merge_size: int
    min_pixels: int
    max_pixels: int
    window_size: int = 0

    def tokens(self, height: int, width: int) -> ImageTokens:
        """Tokens of one image; raises ``InputError`` beyond an aspect ratio of 200, as the processor does."""
        resized = self.resize(height, width)
        return self._grid(resized[0] // self.factor, resized[1] // self.factor)

    def tokens_for(self, visual_tokens: int) -> ImageTokens:
        """The smallest grid of merged patches, at most twice as long as wide, with at least so many.

        ``max_pixels`` does not bound it: a larger number of tokens is taken as given.
        """
        check_tokens(visual_tokens)
        fewest = -(-self.min_pixels // self.factor**2)
        grid = self._grid(*smallest_grid(max(visual_tokens, fewest)))
        return replace(grid, visual_tokens=visual_tokens)

    def default_size(self) -> tuple[int, int]:
        # A photograph scaled to one megapixel; Qwen-VL has no native resolution.
        return 1024, 1024

    @property
    def factor(self) -> int:
        """Pixels a side that become one visual token."""
        return self.patch_size * self.merge_size

    def resize(self, height: int, width: int) -> tuple[int, int]:
        """Size in pixels that the processor gives an image, both sides multiples of ``factor``.

        Follows ``smart_resize`` in its rounding (Python's, half to even) and its order of operations.
        """
        check_size(height, width)
        if max(height, width) / min(height, width) > MOST_ELONGATED:
            field, value = ("image_height", height) if height > width else ("image_width", width)
            remedy = (
                f"the longer side may be at most {MOST_ELONGATED} times the shorter one, which is {min(height, width)}"
            )
            raise InputError(field, value, remedy)
        factor = self.factor
        rows, columns = round(height / factor), round(width / factor)
        if rows * columns * factor**2 > self.max_pixels:
            shrink = math.sqrt(height * width / self.max_pixels)
            rows = max(1, math.floor(height / shrink / factor))
            columns = max(1, math.floor(width / shrink / factor))
        elif rows * columns * factor**2 < self.min_pixels:
            grow = math.sqrt(self.min_pixels / (height * width))
            rows, columns = math.ceil(height * grow / factor), math.ceil(width * grow / factor)
        return rows * factor, columns * factor

    def _grid(self, rows: int, columns: int) -> ImageTokens:
        merged = rows * columns
        patches = merged * self.merge_size**2
        return ImageTokens(
            sequences=1,
            sequence_tokens=patches,
            patches=patches,
            window_pairs=self._window_pairs(rows, columns),
            projector_tokens=merged,
            visual_tokens=merged,
        )

    def _window_pairs(self, rows: int, columns: int) -> int:
        """Sum over windows of tokens squared, a product of two sums because windows are products of intervals."""
        side = self.window_size // self.factor
        if not side:
            return 0
        return _squares(rows, side) * _squares(columns, side) * self.merge_size**4


def _squares(length: int, side: int) -> int:
    """Sum of squared interval lengths when ``length`` is cut into pieces of ``side`` and a ragged rest."""
    return length // side * side**2 + (length % side) ** 2
