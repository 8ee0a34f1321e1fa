"""PyramidDrop: the image tokens shrink by one factor at the end of each quarter of the language model."""

from __future__ import annotations

from typing import ClassVar

from asymsim.catalogue.model import VlmModel
from asymsim.methods.base import Examples, Method, Requirements, lm_layers, register
from asymsim.methods.common.operations import gather, recomputed_attention, top_k
from asymsim.methods.common.requirements import check_layer, visual_tokens_in_sequence
from asymsim.methods.schedule import Operation, Schedule, keep_share
from asymsim.util.errors import InputError
from asymsim.util.strict import strict_dataclass


@register("pyramiddrop")
@strict_dataclass
class PyramidDrop(Method):
    """Before layer 8, 16 and 24 of 32, floor(ratio N), floor(ratio^2 N) and floor(ratio^3 N) tokens stay.

    At each of these places the norm, q, k and v of all current tokens are computed once more for the
    attention of the last instruction token, so that the model itself stays fused.

    Parameters
    ----------
    keep : float
        Mean kept share over the language model's layers; the first stage sees everything, which bounds
        it from below. 15/32, the default, is the paper's ratio of 0.5 on 32 layers.
    ratio : float, optional
        The factor lambda itself, in [0, 1], instead of ``keep``; the paper has 0.4, 0.5 and 0.6.
    layers : tuple of int
        Layers before which tokens leave, rising. Empty: at every quarter, as the paper does.
    """

    source: ClassVar[str] = "Xing et al., PyramidDrop, arXiv 2410.17247, section 3"
    requires: ClassVar[Requirements] = (visual_tokens_in_sequence,)
    refused_settings: ClassVar[Examples] = ({"ratio": 1.5}, {"layers": (0,)}, {"layers": (8, 8)})
    tokens_at_zero: ClassVar[int | None] = None

    keep: float = 15 / 32
    ratio: float | None = None
    layers: tuple[int, ...] = ()

    def build_schedule(self, model: VlmModel) -> Schedule:
        depth = lm_layers(model)
        layers = self.layers or tuple(sorted({depth * quarter // 4 for quarter in (1, 2, 3)} - {0}))
        for layer in layers:
            check_layer(model, "pyramiddrop: layers", layer)
        if list(layers) != sorted(set(layers)):
            raise InputError("pyramiddrop: layers", layers, "give rising layers")
        ratio = self._ratio(layers, depth)
        steps, operations = [], list[Operation]()
        for power, layer in enumerate(layers, start=1):
            # ratio**3 of a millionth is too long a fraction for 64-bit products, so each power is rounded.
            steps.append(keep_share(f"{ratio**power:.12f}", layer=layer))
            operations += [*recomputed_attention(layer), top_k("lm", layer), gather("lm", layer)]
        return Schedule(steps=tuple(steps), operations=tuple(operations))

    def _ratio(self, layers: tuple[int, ...], depth: int) -> float:
        """The factor whose powers have ``keep`` as their mean over the layers."""
        if self.ratio is not None:
            if not 0 <= self.ratio <= 1:
                raise InputError("pyramiddrop: ratio", self.ratio, "give a factor between 0 and 1")
            return self.ratio
        if not layers:
            raise InputError("pyramiddrop: layers", layers, "the language model is too short for stages")
        if self.keep < layers[0] / depth:
            least = f"give at least {layers[0] / depth:.4g}, what the {layers[0]} layers before the first drop keep"
            raise InputError("keep", self.keep, f"{least}, or earlier layers")
        lengths = [stop - start for start, stop in zip((0, *layers), (*layers, depth), strict=True)]
        low, high = 0.0, 1.0
        for _ in range(60):
            middle = (low + high) / 2
            mean = sum(length * middle**power for power, length in enumerate(lengths)) / depth
            low, high = (middle, high) if mean < self.keep else (low, middle)
        return high
