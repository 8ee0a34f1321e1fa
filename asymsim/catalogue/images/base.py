"""What every image rule yields, and the one interface they share."""

from __future__ import annotations

from abc import ABC, abstractmethod

from asymsim.util.strict import strict_dataclass


@strict_dataclass
class ImageTokens:
    """Token counts that one image makes on its way from pixels to the language model.

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
    """How a model turns one image into tokens.

    Subclasses are frozen pydantic dataclasses that hold the rule's constants, as the model's own
    processor uses them.
    """

    @abstractmethod
    def tokens(self, height: int, width: int) -> ImageTokens:
        """Tokens of one image of ``height`` x ``width`` pixels (both >= 1)."""

    @abstractmethod
    def tokens_for(self, visual_tokens: int) -> ImageTokens:
        """Encoder work that belongs to ``visual_tokens`` (>= 1) language-model tokens given outright.

        The result's ``visual_tokens`` is exactly the number asked for; the encoder counts are those of
        the smallest image (or number of tiles) that yields at least as many.
        """

    @abstractmethod
    def default_size(self) -> tuple[int, int]:
        """(height, width) of a typical image for this model, used where the user names none."""
