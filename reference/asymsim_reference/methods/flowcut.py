"""FlowCut: tokens leave the encoder after every other block, as many as the spread of [CLS] attention allows.

Tong et al., FlowCut, arXiv 2505.19536, section 4; released package flowcut 1.0.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from asymsim_reference.layers import attention_weights
from asymsim_reference.methods.base import ReferenceMethod, register
from asymsim_reference.proof import ProofCase, ProofCases, with_and_without_cls
from asymsim_reference.scores import saliency
from asymsim_reference.selection import floor_share, top_k
from asymsim_reference.tokens import AttentionTrace, EncoderTokens, Prompt, PromptTokens
from asymsim_reference.vlm import SmallVlm


def entropy_ratio(scores_sn: Tensor) -> float:
    """Entropy of [CLS] attention over its largest possible, log N; of the sequence where it is smallest."""
    shares = scores_sn / scores_sn.sum(1, keepdim=True)
    return float((torch.special.entr(shares).sum(1) / torch.tensor(float(shares.shape[1])).log()).min())


@register("flowcut")
@dataclass
class FlowCut(ReferenceMethod):
    """round((N - target) / sqrt(remaining) (1 - e^2)) tokens leave, and at the last place all but the target.

    A block's score of a token is ([CLS] attention + [CLS]-value similarity) x the L1 norm of its value,
    and half of it is added to half of what the blocks before gave.

    Parameters
    ----------
    keep : float
        Target over all visual tokens.
    entropy : float, optional
        Takes the place of the measured entropy ratio e.
    crop_factor : float
        With several crops: encoder target over the final one, reached before layer 2 of the language model by the
        last token's attention.
    """

    # e is set, since the schedule has one mean value; it rounds once where the method rounds at each pruning, with the
    # same result for these (test_bounds has others).
    proof_cases: ClassVar[ProofCases] = (
        *with_and_without_cls(
            ProofCase(cost={"keep": 0.25, "entropy_ratio": 0.8}, reference={"keep": 0.25, "entropy": 0.8})
        ),
        ProofCase(
            cost={"keep": 0.25, "entropy_ratio": 0.7},
            reference={"keep": 0.25, "entropy": 0.7},
            shape="crops",
        ),
    )

    keep: float = 1 / 3
    entropy: float | None = None
    crop_factor: float = 2.5

    def start(self, vlm: SmallVlm, prompt: Prompt) -> None:
        super().start(vlm, prompt)
        self._scores = torch.zeros(len(prompt.patches), vlm.shape.patches, dtype=torch.float64)

    def _last(self) -> int:
        return self.vlm.shape.tower_layers - 3

    def encoder_reads(self) -> frozenset[int]:
        return frozenset(range(self._last() + 1))

    def lm_reads(self) -> frozenset[int]:
        return frozenset({1}) if self.vlm.shape.crops else frozenset()

    def after_block(self, block: int, tokens: EncoderTokens, trace: AttentionTrace) -> None:
        if block > self._last():
            return
        assert trace.weights is not None
        extra = tokens.extra
        self._attention = saliency(trace.weights, extra)
        values = trace.values[:, :, extra:]
        asking = trace.values[:, :, :1] if extra else values
        similarity = attention_weights(asking, values).mean(1).mean(1)
        norms = values.transpose(1, 2).flatten(2).abs().sum(2)
        relation = self._attention / self._attention.sum(1, keepdim=True)
        scores = (relation + similarity) * norms
        self._scores = scores if block == 0 else (self._scores + scores) / 2

    def before_block(self, block: int, tokens: EncoderTokens) -> EncoderTokens:
        remaining = self._last() - (block - 1)
        if block == 0 or remaining < 0 or remaining % 2:
            return tokens
        present = tokens.index.shape[1]
        factor = self.crop_factor if self.vlm.shape.crops else 1.0
        target = floor_share(min(1.0, self.keep * factor), self.vlm.shape.patches)
        count = target
        if remaining:
            spread = entropy_ratio(self._attention) if self.entropy is None else self.entropy
            count = max(target, present - round((present - target) / remaining**0.5 * (1 - spread**2)))
        chosen = torch.stack([top_k(row, count) for row in self._scores])
        self._scores = self._scores.gather(1, chosen)
        return tokens.keep(chosen)

    def after_layer(self, layer: int, tokens: PromptTokens, trace: AttentionTrace) -> None:
        if layer == 1 and trace.weights is not None:
            self._received = trace.weights[:, -1].mean(0)

    def before_layer(self, layer: int, tokens: PromptTokens) -> PromptTokens:
        if layer != 2 or not self.vlm.shape.crops:
            return tokens
        original = len(self.prompt.patches) * self.vlm.shape.patches
        return tokens.keep_visual(top_k(self._received[tokens.visual_index], floor_share(self.keep, original)))
