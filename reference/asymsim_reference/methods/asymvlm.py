"""AsymVLM: visual tokens once, by similarity with the question; text while decoding, or whole answers before.

arXiv 2605.29535v1, method section.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from asymsim_reference.budgets import linear_ratio, score_gap, threshold_ratio
from asymsim_reference.cache import LayerCache
from asymsim_reference.layers import unit
from asymsim_reference.methods.base import ReferenceMethod, register
from asymsim_reference.proof import TEXT_TOKENS, ProofCase, ProofCases, same_settings, with_and_without_cls
from asymsim_reference.run import Result
from asymsim_reference.scores import question_similarity, step_weights
from asymsim_reference.selection import as_fraction, floor_share, top_k
from asymsim_reference.tokens import PromptTokens

_UNIFORM = {"keep": 0.4, "budget": "uniform"}


def _ratio_of_sample(reference: Any, _result: Result) -> dict[str, Any]:
    return {"budget": "uniform", "keep": reference.ratio}


@register("asymvlm")
@dataclass
class AsymVLM(ReferenceMethod):
    """The top floor(r N) projected tokens before layer 0; r from the gap of this sample's own scores.

    Parameters
    ----------
    keep : float
        r where the budget is uniform, its target where it is linear.
    budget : {"threshold", "linear", "uniform"}
    gap_mean, gap_low, gap_high, conservative, moderate, aggressive, slope, lowest, highest : float
        The two adaptive budgets' numbers; published is the mean gap alone.
    weight : Tensor, optional
        The learnt w, one for each feature; 1 without it.
    threshold_tokens, retain : int, float
        Past so many text tokens, prompt included, this share of the generated ones stays.
    history_retain : float
        Share of the tokens of previous answers that may stay; whole answers leave, the least similar first.
    """

    proof_cases: ClassVar[ProofCases] = (
        *with_and_without_cls(*same_settings(_UNIFORM, {**_UNIFORM, "keep": 0.0})),
        # The gap of the sample decides r, which the cost file then gets.
        ProofCase(cost=_ratio_of_sample),
        ProofCase(cost=_ratio_of_sample, reference={"budget": "linear", "slope": -0.5}),
        # Nothing generated stays; a share of all of it, of what follows the third step, and of what would follow
        # the last. Of 5, 7 or 12 steps the cache is not as long as its mean on most.
        *same_settings({**_UNIFORM, "threshold_tokens": 0, "retain": 0.0}),
        *same_settings(
            *({**_UNIFORM, "threshold_tokens": TEXT_TOKENS, "retain": retain} for retain in (0.3, 0.5, 0.99)),
            output_tokens=8,
        ),
        *with_and_without_cls(
            *same_settings(
                *({**_UNIFORM, "threshold_tokens": TEXT_TOKENS + 3, "retain": retain} for retain in (0.0, 0.4, 0.75)),
                output_tokens=13,
            )
        ),
        *same_settings({**_UNIFORM, "threshold_tokens": TEXT_TOKENS + 5, "retain": 0.5}),
        # With a single token nothing is decoded.
        *same_settings({**_UNIFORM, "threshold_tokens": 0, "retain": 0.5}, output_tokens=1),
        # Of four answers of two tokens two stay.
        ProofCase(
            cost={**_UNIFORM, "history_tokens": 8, "history_retain": 0.5},
            reference={**_UNIFORM, "history_retain": 0.5},
            answers=((4, 6), (6, 8), (9, 11), (11, 13)),
        ),
        # Eviction sets in later where answers have left: 10 tokens of text, so after the fourth step.
        ProofCase(
            cost={**_UNIFORM, "history_tokens": 8, "history_retain": 0.5, "threshold_tokens": 14, "retain": 0.4},
            reference={**_UNIFORM, "history_retain": 0.5, "threshold_tokens": 14, "retain": 0.4},
            answers=((4, 6), (6, 8), (9, 11), (11, 13)),
            output_tokens=12,
        ),
    )

    keep: float = 0.5
    budget: Literal["threshold", "linear", "uniform"] = "threshold"
    gap_mean: float = 0.218
    gap_low: float = 0.1945
    gap_high: float = 0.2415
    conservative: float = 0.6
    moderate: float = 0.5
    aggressive: float = 0.4
    slope: float = -2.0
    lowest: float = 0.25
    highest: float = 0.75
    weight: Tensor | None = None
    threshold_tokens: int = 90
    retain: float = 1.0
    history_retain: float = 1.0

    gap = math.nan
    ratio = math.nan

    def before_layer(self, layer: int, tokens: PromptTokens) -> PromptTokens:
        if layer != 0:
            return tokens
        if self.history_retain < 1:
            tokens = self._drop_answers(tokens)
        visual, text = tokens.hidden[tokens.visual], tokens.hidden[~tokens.visual]
        scores = question_similarity(visual, text, self.weight)
        self.ratio = self._ratio(scores)
        return tokens.keep_visual(top_k(scores, floor_share(self.ratio, len(visual))))

    def _ratio(self, scores_n: Tensor) -> float:
        if self.budget == "uniform" or not len(scores_n):
            return self.keep
        self.gap = score_gap(scores_n)
        if self.budget == "linear":
            return linear_ratio(self.gap, self.keep, self.slope, self.gap_mean, self.lowest, self.highest)
        ratios = (self.conservative, self.moderate, self.aggressive)
        return threshold_ratio(self.gap, self.gap_low, self.gap_high, *ratios)

    def _drop_answers(self, tokens: PromptTokens) -> PromptTokens:
        """Evict whole answers until at most ``history_retain`` of their tokens are left.

        An answer's score is the mean over its tokens of the largest cosine with any image token (the
        paper says cross-modal similarity; mean and maximum are our assumption).
        """
        spans = self.prompt.answers
        rows = torch.cat([torch.arange(start, stop) for start, stop in spans]) if spans else torch.arange(0)
        text = tokens.hidden[tokens.text_index[rows]]
        best = (unit(tokens.hidden[tokens.visual]) @ unit(text).T).max(0).values
        lengths = [stop - start for start, stop in spans]
        scores = torch.stack([part.mean() for part in torch.split(best, lengths)]) if spans else torch.zeros(0)
        left, allowed = sum(lengths), floor_share(self.history_retain, sum(lengths))
        dropped = torch.zeros(len(tokens.hidden), dtype=torch.bool)
        for answer in torch.sort(scores, stable=True).indices.tolist():
            if left <= allowed:
                break
            start, stop = spans[answer]
            dropped[tokens.text_index[start:stop]] = True
            left -= stop - start
        return tokens.keep((~dropped).nonzero()[:, 0])

    def after_step(self, generated: int, queries: Sequence[Tensor], caches: Sequence[LayerCache]) -> None:
        """Evict the generated tokens that the final layer attended to least in this step, from all layers."""
        if self.retain == 1:
            return
        last = caches[-1]
        weights_n = torch.cat(step_weights(queries[-1], last)).mean(0)
        positions = last.positions[0]
        first = self.prompt.patches.shape[0] * self.vlm.shape.patches + len(self.prompt.text)
        held = (positions >= first).nonzero()[:, 0]
        text = int((positions < first).sum()) - self._visual_held(positions)
        free = max(0, self.threshold_tokens - text)
        allowed = generated if generated <= free else free + math.floor(self._retained * (generated - free))
        if len(held) <= allowed:
            return
        kept = positions[held[top_k(weights_n[held], allowed)]]
        for cache in caches:
            cache.keep_positions(torch.cat([positions[positions < first], kept]))

    @property
    def _retained(self) -> Fraction:
        return as_fraction(self.retain)

    def _visual_held(self, positions: Tensor) -> int:
        start = self.prompt.image_at
        stop = start + self.prompt.patches.shape[0] * self.vlm.shape.patches
        return int(((positions >= start) & (positions < stop)).sum())
