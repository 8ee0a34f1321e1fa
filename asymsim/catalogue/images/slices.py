"""MiniCPM-V: a low-resolution view and a grid of slices, each resampled to a fixed number of tokens."""

from __future__ import annotations

import math

from asymsim.catalogue.images.base import ImageRule, ImageTokens
from asymsim.catalogue.images.canvas import check_size, check_tokens
from asymsim.util.strict import strict_dataclass


@strict_dataclass
class AdaptiveSlices(ImageRule):
    """MiniCPM-V 2.6, image_processing_minicpmv.py (slice_image).

    Slices of one image are encoded as one batch, padded to the longest (``batch_vision_input``). The
    <image> and <slice> delimiters belong to the text.

    Attributes
    ----------
    slice_size : int
        ``scale_resolution``: a slice has about this many pixels squared.
    patch_size : int
        Pixels a patch side.
    most_slices : int
        ``max_slice_nums``, besides the low-resolution view.
    queries : int
        Tokens a slice, ``query_num``.
    """

    slice_size: int = 448
    patch_size: int = 14
    most_slices: int = 9
    queries: int = 64

    def tokens(self, height: int, width: int) -> ImageTokens:
        check_size(height, width)
        rows, columns = self.grid(height, width)
        view = self._patches(height, width, enlarge=rows * columns == 0)
        if not rows:
            return self._slices(1, view, self.queries)
        # Sides are first made whole multiples of the grid, then cut.
        slice_height = max(round(height / rows), 1)
        slice_width = max(round(width / columns), 1)
        longest = max(view, self._patches(slice_height, slice_width, enlarge=True))
        slices = 1 + rows * columns
        return self._slices(slices, longest, slices * self.queries)

    def tokens_for(self, visual_tokens: int) -> ImageTokens:
        check_tokens(visual_tokens)
        slices = -(-visual_tokens // self.queries)
        # The view stands alone or with two slices and more: there is no image of two.
        return self._slices(3 if slices == 2 else slices, (self.slice_size // self.patch_size) ** 2, visual_tokens)

    def default_size(self) -> tuple[int, int]:
        return 2 * self.slice_size, 2 * self.slice_size

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """(rows, columns) of slices, (0, 0) for none: about one slice a ``slice_size`` squared, closest in aspect."""
        ideal = min(math.ceil(width * height / (self.slice_size * self.slice_size)), self.most_slices)
        if ideal <= 1:
            return 0, 0
        aspect = math.log(width / height)
        best, least = (1, 1), math.inf
        for slices in (ideal - 1, ideal, ideal + 1):
            if slices == 1 or slices > self.most_slices:
                continue
            for columns in range(1, slices + 1):
                if slices % columns:
                    continue
                rows = slices // columns
                error = abs(aspect - math.log(columns / rows))
                if error < least:
                    best, least = (rows, columns), error
        return best

    def _patches(self, height: float, width: float, *, enlarge: bool) -> int:
        """Patches after resizing to about ``slice_size`` squared; smaller images only where ``enlarge``."""
        if enlarge or height * width > self.slice_size * self.slice_size:
            aspect = width / height
            height = int(self.slice_size / math.sqrt(aspect))
            width = int(height * aspect)
        return max(round(height / self.patch_size), 1) * max(round(width / self.patch_size), 1)

    def _slices(self, slices: int, patches: int, visual_tokens: int) -> ImageTokens:
        return ImageTokens(
            sequences=slices,
            sequence_tokens=patches,
            patches=slices * patches,
            projector_tokens=slices * self.queries,
            visual_tokens=visual_tokens,
        )
