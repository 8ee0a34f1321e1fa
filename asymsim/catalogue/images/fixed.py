"""Fixed resolution: every image is resized to one tile (LLaVA-1.5, PaliGemma, Gemma 3 without pan-and-scan)."""

from __future__ import annotations

from asymsim.catalogue.images.base import ImageRule, ImageTokens
from asymsim.util.strict import strict_dataclass


@strict_dataclass
class FixedTile(ImageRule):
    """One square tile of ``image_size`` pixels, whatever the image.

    Attributes
    ----------
    image_size, patch_size : int
        Pixels.
    extra_tokens : int
        Tokens the encoder adds to the patches, such as [CLS].
    visual_tokens : int
        Tokens the language model receives for the tile.
    """

    image_size: int
    patch_size: int
    extra_tokens: int = 0
    visual_tokens: int

    def tokens(self, height: int, width: int) -> ImageTokens:
        return self._tiles(1, self.visual_tokens)

    def tokens_for(self, visual_tokens: int) -> ImageTokens:
        return self._tiles(-(-visual_tokens // self.visual_tokens), visual_tokens)

    def default_size(self) -> tuple[int, int]:
        return self.image_size, self.image_size

    def _tiles(self, tiles: int, visual_tokens: int) -> ImageTokens:
        patches = (self.image_size // self.patch_size) ** 2
        return ImageTokens(
            sequences=tiles,
            sequence_tokens=patches + self.extra_tokens,
            patches=tiles * patches,
            projector_tokens=tiles * self.visual_tokens,
            visual_tokens=visual_tokens,
        )
