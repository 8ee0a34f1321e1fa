"""AsymVLM: visual tokens once, by similarity with the question, before the language model; text while decoding."""

from __future__ import annotations

from typing import ClassVar, Literal

from asymsim.catalogue.model import VlmModel
from asymsim.methods.base import Examples, Method, Requirements, lm_layers, register
from asymsim.methods.common.gap_budget import linear_classes, threshold_classes
from asymsim.methods.common.operations import decode_scores, gather, normalise, reduce, similarity, top_k
from asymsim.methods.common.requirements import vision_tower
from asymsim.methods.schedule import Mixture, Operation, Schedule, Step, TextEviction, keep_share
from asymsim.util.errors import InputError
from asymsim.util.fractions import exact, share_of_all
from asymsim.util.strict import strict_dataclass


@register("asymvlm")
@strict_dataclass
class AsymVLM(Method):
    """The top floor(r N) visual tokens by s_i = max_j (w * v_i / |v_i|) . (t_j / |t_j|), the same in all layers.

    v_i are projected visual tokens, t_j the text embeddings, w a learnt vector: the projector sees all tokens,
    the language model the chosen ones. r adapts to the gap g between the scores of the upper and the lower
    quartile: small gaps keep more. g is taken as normal, as measured on 500 DocVQA samples.

    Text leaves while decoding: past ``threshold_tokens`` the least attended generated tokens (attention of the
    current step at the final layer, head mean; the prompt stays), or before prefill whole previous answers.

    Parameters
    ----------
    keep : float
        Mean of r over the samples.
    budget : {"threshold", "linear", "uniform"}
        "threshold": three ratios by two limits on g, the paper's default. "linear": r = clamp(target +
        slope (g - mean)), the target chosen so that the mean is ``keep``. "uniform": r = keep.
    gap_mean, gap_sd : float
        0.218 and 0.047 in the paper.
    gap_low, gap_high : float, optional
        Limits of the threshold sweep. Not published: mean -/+ half a standard deviation (our assumption).
    conservative, moderate, aggressive : float, optional
        Ratios below, between and above the limits; all three or none. Not published: ``keep`` in the
        middle, ``spread`` more and less beside it, scaled so that the mean stays (our assumption).
    spread : float
        In [0, 1]; 0.1 is our assumption. Less where ``keep`` is near 0 or 1.
    slope : float
        a of the linear budget, at most 0. Not published: -2 (our assumption).
    lowest, highest : float, optional
        Bounds of the linear budget. Not published: ``keep`` -/+ 0.25 within [0, 1] (our assumption).
    classes : int
        Equally probable gaps that stand for the distribution under the linear budget.
    threshold_tokens : int
        Text tokens, prompt included, below which none is evicted: 90 (LLaVA-Bench) or 512 (MMDU).
    retain : float
        Share of the tokens generated past the threshold that stay; 1 evicts none. How the paper's
        retention of 90, 75 and 50 % meets the threshold is not published: past it (our assumption).
    history_tokens : int
        Text tokens of the prompt that are previous answers, of a prompt past the threshold.
    history_retain : float
        Share of these that stays, chosen by similarity with the images.
    """

    source: ClassVar[str] = "AsymVLM, arXiv 2605.29535v1, method section"
    requires: ClassVar[Requirements] = (vision_tower,)
    refused_settings: ClassVar[Examples] = ({"retain": 1.5}, {"threshold_tokens": -1})

    budget: Literal["uniform", "threshold", "linear"] = "threshold"
    gap_mean: float = 0.218
    gap_sd: float = 0.047
    gap_low: float | None = None
    gap_high: float | None = None
    conservative: float | None = None
    moderate: float | None = None
    aggressive: float | None = None
    spread: float = 0.1
    slope: float = -2.0
    lowest: float | None = None
    highest: float | None = None
    classes: int = 16
    threshold_tokens: int = 90
    retain: float = 1.0
    history_tokens: int = 0
    history_retain: float = 1.0

    def __post_init__(self) -> None:
        Method.__post_init__(self)
        for field in ("spread", "retain", "history_retain"):
            if not 0 <= getattr(self, field) <= 1:
                raise InputError(f"asymvlm: {field}", getattr(self, field), "give a share between 0 and 1")
        for field in ("threshold_tokens", "history_tokens"):
            if getattr(self, field) < 0:
                raise InputError(f"asymvlm: {field}", getattr(self, field), "give a number of tokens, 0 or more")

    def build_schedule(self, model: VlmModel) -> Schedule:
        return self._schedule_at(model, self.keep)

    def build_mixture(self, model: VlmModel) -> Mixture:
        """One schedule for each ratio that the budget gives, with the share of the samples that get it."""
        return tuple((share, self._schedule_at(model, ratio)) for share, ratio in self.ratios())

    def ratios(self) -> tuple[tuple[float, float], ...]:
        """(share of the samples, kept ratio), the shares adding up to 1."""
        if self.budget == "threshold":
            return threshold_classes(self)
        if self.budget == "linear":
            return linear_classes(self)
        return ((1.0, self.keep),)

    def _schedule_at(self, model: VlmModel, ratio: float) -> Schedule:
        history = self.history_tokens if self.history_retain < 1 else 0
        left = int(share_of_all(self.history_retain) * history)
        steps: tuple[Step, ...] = (keep_share(exact(f"{ratio:.12f}")),)
        operations: tuple[Operation, ...] = (
            normalise("lm", 0),
            normalise("lm", 0, "text"),
            Operation(kind="elementwise", stage="lm", layer=0, rows="visual", columns="hidden", writes=1),
            similarity("lm", 0, rows="visual", columns="text"),
            reduce("lm", 0, rows="visual", columns="text"),
            top_k("lm", 0),
            gather("lm", 0, rows="kept"),
        )
        if history > left:
            steps += (Step(stage="lm", target="text", share=exact("1"), of="present", plus=left - history),)
            operations += (
                similarity("lm", 0, rows="visual", columns=str(history)),
                reduce("lm", 0, rows="visual", columns=str(history)),
            )
        eviction = None
        if self.retain < 1:
            last = lm_layers(model) - 1
            eviction = TextEviction(threshold_tokens=self.threshold_tokens, retain=share_of_all(self.retain))
            operations += (*decode_scores(model, last), top_k("decode", last, columns="kv"))
        return Schedule(steps=steps, operations=operations, text_eviction=eviction)
