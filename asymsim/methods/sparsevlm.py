"""SparseVLM: text-guided pruning after layers 2, 6 and 15, with some of the dropped tokens recycled."""

from __future__ import annotations

from typing import ClassVar

from asymsim.catalogue.model import VlmModel
from asymsim.methods.base import Examples, Method, Requirements, lm_layers, register
from asymsim.methods.common.operations import average_into, gather, reduce, similarity, top_k
from asymsim.methods.common.requirements import visual_tokens_in_sequence
from asymsim.methods.schedule import Operation, Recycle, Schedule, Step
from asymsim.util.errors import InputError
from asymsim.util.fractions import exact
from asymsim.util.strict import strict_dataclass

# Kept of 576 after layers 2, 6 and 15 by the nominal number retained (released code, score.py).
TABLES = {
    0: (0, 0, 0),
    64: (66, 30, 17),
    96: (238, 48, 26),
    128: (303, 110, 36),
    192: (300, 200, 110),
    576: (576, 576, 576),
}
TABLE_TOKENS = 576

# Of D dropped, floor(0.3 D) + 1 are clustered into floor(that / 10) + 1 tokens, which join the kept ones.
RECYCLED = Recycle(share=exact("0.3"), plus=1, divisor=10, extra=1)


@register("sparsevlm")
@strict_dataclass
class SparseVLM(Method):
    """Three prunings by the attention that chosen text tokens pay, each with a few merged tokens added.

    The text raters are chosen once before layer 0: visual x text products, softmax, mean over the visual
    tokens. A pruned layer's weights are read, so layers 2, 6 and 15 run unfused. The scores are read over
    all text tokens, an upper bound: how many of them are raters depends on the sample.

    Parameters
    ----------
    keep : float
        "Retain N" over the original count: the mean over the layers by the paper's own account. 192, 128,
        96 and 64 of 576 take the released tables as shares of the original count; between these, and
        towards nothing and everything, counts are interpolated linearly (our assumption).
    counts : tuple of int, optional
        Tokens kept at the three places outright, instead of ``keep``.
    layers : tuple of int
        Layers after which tokens leave, counted from 0.
    """

    source: ClassVar[str] = "Zhang et al., SparseVLM, arXiv 2410.04417, section 3; released code (score.py, utils.py)"
    requires: ClassVar[Requirements] = (visual_tokens_in_sequence,)
    refused_settings: ClassVar[Examples] = ({"layers": (2, 6, 40)}, {"layers": (6, 2, 15)}, {"counts": (-1, 0, 0)})
    tokens_at_zero: ClassVar[int | None] = None

    keep: float = 1 / 3
    counts: tuple[int, int, int] | None = None
    layers: tuple[int, int, int] = (2, 6, 15)

    def build_schedule(self, model: VlmModel) -> Schedule:
        rising = list(self.layers) == sorted(set(self.layers))
        if not rising or self.layers[0] < 0 or self.layers[-1] + 1 >= lm_layers(model):
            raise InputError("sparsevlm: layers", self.layers, f"give rising layers from 0 to {lm_layers(model) - 2}")
        operations = [
            similarity("lm", 0, rows="visual", columns="text"),
            reduce("lm", 0, rows="visual", columns="text", flops=5),
        ]
        for layer in self.layers:
            operations += self._selection(layer + 1)
        return Schedule(
            steps=self._steps(),
            operations=tuple(operations),
            unfused=tuple(("lm", layer) for layer in self.layers),
        )

    def _steps(self) -> tuple[Step, ...]:
        if self.counts is not None:
            if min(self.counts) < 0:
                raise InputError("sparsevlm: counts", self.counts, "give numbers of tokens, 0 or more")
            return tuple(
                Step(stage="lm", layer=layer + 1, plus=count, recycled=RECYCLED)
                for layer, count in zip(self.layers, self.counts, strict=True)
            )
        # The share itself is interpolated, so that the tables hold for any number of visual tokens.
        retained = exact(self.keep) * TABLE_TOKENS
        below = max(nominal for nominal in TABLES if nominal <= retained)
        above = min(nominal for nominal in TABLES if nominal >= retained)
        way = (retained - below) / (above - below) if above > below else exact(0)
        shares = (
            (low + way * (high - low)) / TABLE_TOKENS for low, high in zip(TABLES[below], TABLES[above], strict=True)
        )
        return tuple(
            Step(
                stage="lm", layer=layer + 1, share=share.limit_denominator(10**9), rounding="nearest", recycled=RECYCLED
            )
            for layer, share in zip(self.layers, shares, strict=True)
        )

    @staticmethod
    def _selection(layer: int) -> list[Operation]:
        return [
            reduce("lm", layer, rows="heads*text", columns="visual"),
            top_k("lm", layer),
            # Distances within the pool; the nearest of each token, then the closest denser one, then its centre.
            similarity("lm", layer, rows="pool", columns="pool"),
            top_k("lm", layer, columns="pool", times="pool"),
            reduce("lm", layer, rows="pool", columns="pool"),
            reduce("lm", layer, rows="pool", columns="merged"),
            average_into("lm", layer, rows="pool", width="hidden"),
            gather("lm", layer),
        ]
