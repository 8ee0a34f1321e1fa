"""Data between the stages: encoder tokens, visual tokens, prompt tokens, and the traces of attention.

Shape suffixes as in ``layers``; p patches, k kept tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Prompt:
    """One request.

    Attributes
    ----------
    patches : Tensor (sequences, patches, pixels)
        Image crops already cut into patches; the first is the whole image where there are several.
    text : Tensor (text tokens,) of int
    image_at : int
        Number of text tokens before the image; at least one must come after it.
    answers : sequence of (start, stop)
        Text tokens that are previous answers of a dialogue, as ranges of ``text``.
    """

    patches: Tensor
    text: Tensor
    image_at: int = 0
    answers: Sequence[tuple[int, int]] = ()


@dataclass(frozen=True)
class AttentionTrace:
    """Queries, keys, values, weights and output of one attention; a leading dimension of sequences in the encoder.

    ``keys`` are as attended to, ``raw_keys`` before rotation. ``weights`` is None unless asked for: a
    fused kernel does not store them.
    """

    queries: Tensor
    keys: Tensor
    raw_keys: Tensor
    values: Tensor
    weights: Tensor | None
    output: Tensor


@dataclass(frozen=True)
class EncoderTokens:
    """Tokens between encoder blocks.

    Attributes
    ----------
    hidden : Tensor (S, extra + N, D)
        [CLS] first where ``extra`` is 1.
    index : Tensor (S, N)
        Place of each patch token in its own sequence; of merged ones, that of the token merged into.
    sizes : Tensor (S, N)
        Patches that each token stands for.
    """

    hidden: Tensor
    index: Tensor
    sizes: Tensor
    extra: int

    @property
    def patches(self) -> Tensor:
        """(S, N, D), without [CLS]."""
        return self.hidden[:, self.extra :]

    def keep(self, chosen_sk: Tensor) -> EncoderTokens:
        """Only the chosen patch tokens, and [CLS]."""
        rows = torch.arange(len(chosen_sk))[:, None]
        patches = self.patches[rows, chosen_sk]
        hidden = torch.cat([self.hidden[:, : self.extra], patches], 1)
        return replace(self, hidden=hidden, index=self.index[rows, chosen_sk], sizes=self.sizes[rows, chosen_sk])

    def with_hidden(self, hidden_snd: Tensor) -> EncoderTokens:
        """The same tokens with other contents."""
        return replace(self, hidden=hidden_snd)

    def with_patches(self, patches_snd: Tensor, sizes_sn: Tensor | None = None) -> EncoderTokens:
        """The same, [CLS] as it is."""
        hidden = torch.cat([self.hidden[:, : self.extra], patches_snd], 1)
        return replace(self, hidden=hidden, sizes=self.sizes if sizes_sn is None else sizes_sn)


@dataclass(frozen=True)
class VisualTokens:
    """Tokens on their way to the projector: (K, D) features and their places among all N visual tokens, rising."""

    features: Tensor
    index: Tensor

    @classmethod
    def join(cls, parts: Sequence[VisualTokens]) -> VisualTokens:
        """The tokens of all sequences, in their order."""
        return cls(torch.cat([part.features for part in parts]), torch.cat([part.index for part in parts]))


@dataclass(frozen=True)
class PromptTokens:
    """Tokens between layers of the language model, in the order of their original positions.

    Attributes
    ----------
    hidden : Tensor (N, D)
    positions : Tensor (N,)
        In the unpruned prompt.
    visual : Tensor (N,) of bool
    masked : Tensor (N,) of bool
        Still there, but nothing else attends to them (FastV's masking variant).
    """

    hidden: Tensor
    positions: Tensor
    visual: Tensor
    masked: Tensor

    @property
    def visual_index(self) -> Tensor:
        """Rows that are visual tokens."""
        return self.visual.nonzero()[:, 0]

    @property
    def text_index(self) -> Tensor:
        """Rows that are text tokens."""
        return (~self.visual).nonzero()[:, 0]

    def keep(self, rows: Tensor) -> PromptTokens:
        """Only these rows."""
        return PromptTokens(self.hidden[rows], self.positions[rows], self.visual[rows], self.masked[rows])

    def keep_visual(self, chosen: Tensor) -> PromptTokens:
        """All text, and of the visual tokens those chosen by their place among the visual ones."""
        return self.keep(torch.cat([self.text_index, self.visual_index[chosen]]).sort().values)

    def with_hidden(self, hidden_nd: Tensor) -> PromptTokens:
        """The same tokens with other contents."""
        return replace(self, hidden=hidden_nd)

    def allowed(self) -> Tensor:
        """(N, N) pairs of the causal mask, by original position."""
        causal = self.positions[None, :] <= self.positions[:, None]
        return causal & (~self.masked[None, :] | torch.eye(len(self.positions), dtype=torch.bool))
