"""Llama 3.2 Vision: a fixed number of tiles, of which the encoder runs all, padding included."""

from __future__ import annotations

from asymsim.catalogue.images.base import ImageRule, ImageTokens
from asymsim.catalogue.images.canvas import check_size, check_tokens
from asymsim.util.strict import strict_dataclass


@strict_dataclass
class PaddedTiles(ImageRule):
    """A fixed number of tiles, padded to it, in one encoder sequence; each tile padded to a multiple of 8 tokens.

    The tile grid that the processor picks for an image (at most ``tiles`` tiles) decides which tiles the
    cross-attention mask hides. Padding tiles run through the encoder, the projector and the cross-attention cache like
    the others (transformers 5.23.0, models/mllama).

    Attributes
    ----------
    image_size, patch_size : int
        Pixels a side.
    tiles : int
        ``max_num_tiles``.
    """

    image_size: int
    patch_size: int
    tiles: int

    def tokens(self, height: int, width: int) -> ImageTokens:
        check_size(height, width)
        return self._images(1, self._visible)

    def tokens_for(self, visual_tokens: int) -> ImageTokens:
        check_tokens(visual_tokens)
        return self._images(-(-visual_tokens // self._visible), visual_tokens)

    def default_size(self) -> tuple[int, int]:
        return self.image_size, self.image_size

    @property
    def tile_patches(self) -> int:
        """Patches of one tile."""
        return (self.image_size // self.patch_size) ** 2

    @property
    def padded_tile_tokens(self) -> int:
        """Encoder tokens of one tile: patches and [CLS], padded to a multiple of 8."""
        return -(-(self.tile_patches + 1) // 8) * 8

    @property
    def _visible(self) -> int:
        return self.tiles * (self.tile_patches + 1)

    def _images(self, images: int, visual_tokens: int) -> ImageTokens:
        return ImageTokens(
            sequences=images,
            sequence_tokens=self.tiles * self.padded_tile_tokens,
            patches=images * self.tiles * self.tile_patches,
            projector_tokens=images * self._visible,
            visual_tokens=visual_tokens,
        )
