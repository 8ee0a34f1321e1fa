"""Token counts of one scenario as the kernels take them."""

from __future__ import annotations

from typing import NamedTuple


class TokenCounts(NamedTuple):
    """One scenario's token counts; encoder counts are per image, ``visual`` over all images."""

    images: int
    sequences: int
    sequence_tokens: int
    patches: int
    window_pairs: int
    projector_tokens: int
    visual_tokens: int
    text_tokens: int
    output_tokens: int
    batch_size: int
