"""Interface of the image rules, and the token counts that a rule returns."""

from __future__ import annotations

from abc import ABC, abstractmethod

from asymsim.util.strict import strict_dataclass


@strict_dataclass
class ImageTokens:
    """Token counts of one image, from the patch embedding to the language model.

    Attributes
    ----------
    sequences : int
        Independent attention sequences in the encoder (tiles or crops); 1 for dynamic resolution.
    sequence_tokens : int
        Tokens per encoder sequence, extra tokens such as [CLS] and padding included.
    patches : int
        Rows of the patch embedding, over all sequences.
    window_pairs : int
        Query-key pairs over all windows of the image, for encoder layers with windowed attention;
        0 where the encoder has no such layer.
    projector_tokens : int
        Rows at the output of the projector, over all sequences.
    visual_tokens : int
        Tokens the language model receives (newline and separator tokens included), or, with
        cross-attention, the rows its cross-attention layers attend to.
    """

    sequences: int
    sequence_tokens: int
    patches: int
    window_pairs: int = 0
    projector_tokens: int
    visual_tokens: int


class ImageRule(ABC):
    """Rule by which a model turns one image into tokens.

    Subclasses are frozen pydantic dataclasses with the constants of the model's processor.
    """

    @abstractmethod
    def tokens(self, height: int, width: int) -> ImageTokens:
        """Tokens of one image of ``height`` x ``width`` pixels (both >= 1)."""

    @abstractmethod
    def tokens_for(self, visual_tokens: int) -> ImageTokens:
        """Tokens of an image with a given number of ``visual_tokens`` (>= 1) in the language model.

        The result's ``visual_tokens`` is the given number. The encoder counts belong to the smallest image, or number
        of tiles, that has at least as many visual tokens.
        """

    @abstractmethod
    def default_size(self) -> tuple[int, int]:
        """(height, width) of a typical image for this model, where the user gives none."""
