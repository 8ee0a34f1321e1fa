"""The HD transforms of Phi-3.5-vision and Phi-4-multimodal: crops, a global view, separator tokens."""

from __future__ import annotations

import math
from functools import lru_cache

from asymsim.catalogue.images.base import ImageRule, ImageTokens
from asymsim.catalogue.images.canvas import check_size, check_tokens, grids
from asymsim.util.errors import InputError
from asymsim.util.strict import strict_dataclass


@strict_dataclass
class Phi3Hd(ImageRule):
    """Phi-3.5-vision: the widest grid of crops that fits the aspect ratio, enlarging small images.

    Order "sub_glb": the crops with a newline token a token row, one separator, the global view with its
    newlines. All of them pass the projector. The processor pads every image to ``num_crops`` + 1 crops, and
    the encoder runs the padding too (processing_phi3_v.py, pad_to_max_num_crops_tensor; modeling_phi3_v.py,
    get_img_features on ``pixel_values.flatten(0, 1)``).

    Attributes
    ----------
    image_size, patch_size : int
        Pixels a side of a crop and of a patch.
    extra_tokens : int
        Tokens the encoder adds to each crop ([CLS]).
    num_crops : int
        Most crops besides the global view.
    """

    image_size: int = 336
    patch_size: int = 14
    extra_tokens: int = 1
    num_crops: int

    def tokens(self, height: int, width: int) -> ImageTokens:
        rows, columns = self.grid(height, width)
        count = self.grid_tokens(rows, columns)
        return self._crops(self.num_crops + 1, count, count)

    def tokens_for(self, visual_tokens: int) -> ImageTokens:
        check_tokens(visual_tokens)
        enough = [
            count for count in (self.grid_tokens(*grid) for grid in grids(self.num_crops)) if count >= visual_tokens
        ]
        if enough:
            return self._crops(self.num_crops + 1, min(enough), visual_tokens)
        return self._crops(-(-visual_tokens // self._side**2), visual_tokens, visual_tokens)

    def default_size(self) -> tuple[int, int]:
        return 2 * self.image_size, 2 * self.image_size

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """(rows, columns) of crops; processing_phi3_v.py, calc_hd_transform_size."""
        check_size(height, width)
        long, short = max(height, width), min(height, width)
        ratio = long / short
        columns = 1
        while (columns + 1) * math.ceil((columns + 1) / ratio) <= self.num_crops:
            columns += 1
        resized = int(columns * self.image_size / ratio)
        if resized < 1:
            field = "image_height" if height > width else "image_width"
            raise InputError(
                field, long, f"too elongated: beside a side of {short} at most {columns * self.image_size * short}"
            )
        rows = math.ceil(resized / self.image_size)
        return (rows, columns) if width >= height else (columns, rows)

    def grid_tokens(self, rows: int, columns: int) -> int:
        """Tokens of an image of so many crops; processing_phi3_v.py, num_img_tokens (144 a crop, 12 a row)."""
        return (rows * columns + 1) * self._side**2 + 1 + (rows + 1) * self._side

    @property
    def _side(self) -> int:
        """Tokens a side of a crop, after merging 2 x 2."""
        return self.image_size // self.patch_size // 2

    def _crops(self, crops: int, projected: int, visual_tokens: int) -> ImageTokens:
        patches = (self.image_size // self.patch_size) ** 2
        return ImageTokens(
            sequences=crops,
            sequence_tokens=patches + self.extra_tokens,
            patches=crops * patches,
            projector_tokens=projected,
            visual_tokens=visual_tokens,
        )


@strict_dataclass
class Phi4Hd(ImageRule):
    """Phi-4-multimodal: as many crops as cover the image, up to ``dynamic_hd``, without tokens of padding.

    transformers 5.23.0, models/phi4_multimodal/image_processing_phi4_multimodal.py.

    Attributes
    ----------
    image_size, patch_size : int
        Pixels a side of a crop and of a patch.
    dynamic_hd : int
        Most crops besides the global view.
    """

    image_size: int = 448
    patch_size: int = 14
    dynamic_hd: int = 36

    def tokens(self, height: int, width: int) -> ImageTokens:
        rows, columns, useful_rows, useful_columns = self.layout(height, width)
        count = self._count(useful_rows, useful_columns)
        return self._crops(rows * columns + 1, count, count)

    def tokens_for(self, visual_tokens: int) -> ImageTokens:
        check_tokens(visual_tokens)
        for rows, columns in grids(self.dynamic_hd):
            count = self._count(rows * self._side, columns * self._side)
            if count >= visual_tokens:
                return self._crops(rows * columns + 1, count, visual_tokens)
        return self._crops(-(-visual_tokens // self._side**2), visual_tokens, visual_tokens)

    def default_size(self) -> tuple[int, int]:
        return 2 * self.image_size, 2 * self.image_size

    def layout(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Crop rows and columns, and the token rows and columns that are not padding (dynamic_preprocess)."""
        check_size(height, width)
        columns, rows = math.ceil(width / self.image_size), math.ceil(height / self.image_size)
        if columns * rows > self.dynamic_hd:
            columns, rows = _closest_grid(height, width, self.dynamic_hd, self.image_size)
        target_width, target_height = columns * self.image_size, rows * self.image_size
        scale_width, scale_height = target_width / width, target_height / height
        if scale_width < scale_height:
            new_width, new_height = target_width, int(height * scale_width)
        else:
            new_width, new_height = int(width * scale_height), target_height
        if min(new_width, new_height) < 10:
            field, value = ("image_height", height) if height > width else ("image_width", width)
            raise InputError(
                field, value, f"too elongated: the image would shrink to {new_height} x {new_width} pixels"
            )
        return rows, columns, self._useful(target_height, new_height), self._useful(target_width, new_width)

    @property
    def _side(self) -> int:
        """Tokens a side of a crop, after pooling 2 x 2."""
        return -(-(self.image_size // self.patch_size) // 2)

    def _useful(self, target: int, resized: int) -> int:
        """Token rows that remain without the patch rows of the padding."""
        patches = target // self.patch_size - (target - resized) // self.patch_size
        return -(-patches // 2)

    def _count(self, rows: int, columns: int) -> int:
        """Crops with a newline a row, one separator, the global view with its newlines."""
        return rows * (columns + 1) + 1 + self._side * (self._side + 1)

    def _crops(self, crops: int, projected: int, visual_tokens: int) -> ImageTokens:
        patches = (self.image_size // self.patch_size) ** 2
        return ImageTokens(
            sequences=crops,
            sequence_tokens=patches,
            patches=crops * patches,
            projector_tokens=projected,
            visual_tokens=visual_tokens,
        )


@lru_cache(maxsize=4096)
def _closest_grid(height: int, width: int, most: int, size: int) -> tuple[int, int]:
    """(columns, rows) whose aspect ratio is closest (find_closest_aspect_ratio)."""
    # The set's iteration order decides between grids of equal area, so it is built in the processor's order.
    ratios = {(i, j) for n in range(1, most + 1) for i in range(1, n + 1) for j in range(1, n + 1) if i * j <= most}
    best, least = (1, 1), math.inf
    for columns, rows in sorted(ratios, key=math.prod):
        difference = abs(width / height - columns / rows)
        if difference < least or (difference == least and width * height > 0.5 * size * size * columns * rows):
            best, least = (columns, rows), difference
    return best
