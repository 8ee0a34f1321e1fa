"""FlowCut: tokens leave the encoder after every other layer, as many as the spread of attention allows."""

from __future__ import annotations

from typing import ClassVar

from asymsim.catalogue.model import VlmModel
from asymsim.methods.base import Examples, Method, Requirements, register, tower_of
from asymsim.methods.common.operations import gather, head_mean, reduce, similarity, top_k
from asymsim.methods.common.requirements import has_several_crops, separable_encoder_tokens, visual_tokens_in_sequence
from asymsim.methods.schedule import Operation, Schedule, Step, keep_share
from asymsim.util.errors import InputError
from asymsim.util.fractions import exact
from asymsim.util.strict import strict_dataclass


@register("flowcut")
@strict_dataclass
class FlowCut(Method):
    """After encoder layers 1, 3, ..., 21 of 24 round((N - target)/sqrt(remaining) (1 - e^2)) tokens leave.

    ``remaining`` counts the layers up to the last pruned one; there the target is forced. Scores combine
    [CLS] attention, [CLS]-value similarity and the values' length, and are accumulated over all layers up
    to the last pruned one, which therefore run unfused. e, the entropy of [CLS] attention over its largest
    possible, depends on the image: one mean value stands for it. Since each count is linear in N, the
    rounding of several prunings in a row is done once, so counts between can differ by one.

    With several crops the encoder keeps more, and the language model prunes to the target after layer 1.

    Parameters
    ----------
    keep : float
        The target as a share of all visual tokens.
    entropy_ratio : float
        e in [0, 1]. Data-dependent, its mean is not published: 0.9 is our assumption.
    crop_factor : float
        Where the encoder has several crops: its target over the final one. The released code leaves half
        the final number in each of LLaVA-NeXT's 5 crops, 2.5 times as many together.
    """

    source: ClassVar[str] = "Tong et al., FlowCut, arXiv 2505.19536, section 4; released package flowcut 1.0.2"
    requires: ClassVar[Requirements] = (separable_encoder_tokens,)
    refused_settings: ClassVar[Examples] = ({"entropy_ratio": 1.1}, {"crop_factor": 0.5})

    keep: float = 1 / 3
    entropy_ratio: float = 0.9
    crop_factor: float = 2.5

    def build_schedule(self, model: VlmModel) -> Schedule:
        tower = tower_of(model)
        if not 0 <= self.entropy_ratio <= 1:
            raise InputError("flowcut: entropy_ratio", self.entropy_ratio, "give a ratio between 0 and 1")
        if self.crop_factor < 1:
            raise InputError("flowcut: crop_factor", self.crop_factor, "give 1 or more")
        last = len(tower.layer_pattern) - 3
        if last < 1:
            raise InputError("method", self.name, f"the encoder of {model.name} has too few layers to prune between")
        crops = has_several_crops(model)
        target = min(1.0, self.keep * self.crop_factor) if crops else self.keep
        steps, operations, share = [], list[Operation](), 1.0
        for layer in range(last + 1):
            operations += self._scores(layer, tower.extra_tokens > 0)
            if (last - layer) % 2 == 0:
                remaining = last - layer
                leaving = (1 - self.entropy_ratio**2) / remaining**0.5 if remaining else 1.0
                share = target + (share - target) * (1 - leaving)
                kept = exact(target) if remaining == 0 else exact(f"{share:.12f}")
                steps.append(
                    Step(stage="encoder", layer=layer + 1, share=kept, rounding="nearest" if remaining else "floor")
                )
                operations += [
                    top_k("encoder", layer + 1, times="sequences"),
                    gather("encoder", layer + 1, "remaining*sequences", "tower_hidden"),
                ]
        unfused = [("encoder", layer) for layer in range(last + 1)]
        if crops:
            visual_tokens_in_sequence(model, self.name)
            steps.append(keep_share(self.keep, layer=2))
            operations += [head_mean(2), top_k("lm", 2), gather("lm", 2)]
            unfused.append(("lm", 1))
        return Schedule(steps=tuple(steps), operations=tuple(operations), unfused=tuple(unfused))  # type: ignore[arg-type]

    @staticmethod
    def _scores(layer: int, has_cls: bool) -> list[Operation]:
        """Operators by which one layer adds to the scores of the remaining tokens."""
        queries = "1" if has_cls else "remaining"
        return [
            reduce("encoder", layer, rows=f"tower_heads*{queries}", columns="remaining", times="sequences"),
            similarity(
                "encoder",
                layer,
                rows=queries,
                columns="remaining",
                inner="tower_head_size",
                times="tower_heads*sequences",
            ),
            reduce("encoder", layer, rows=f"tower_heads*{queries}", columns="remaining", times="sequences", flops=5),
            reduce("encoder", layer, rows="remaining*sequences", columns="tower_hidden", flops=2),
        ]
