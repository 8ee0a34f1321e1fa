"""ToMe: in every encoder block the most similar tokens are merged in pairs."""

from __future__ import annotations

from typing import ClassVar

from asymsim.catalogue.model import VlmModel
from asymsim.methods.base import Examples, Method, Requirements, register, tower_of
from asymsim.methods.common.operations import bipartite_matching
from asymsim.methods.common.requirements import separable_encoder_tokens
from asymsim.methods.schedule import Schedule, Step, drop_count
from asymsim.util.errors import InputError
from asymsim.util.fractions import exact
from asymsim.util.strict import strict_dataclass


@register("tome")
@strict_dataclass
class ToMe(Method):
    """r bipartite merges a block, between attention and MLP, of n tokens at most floor(n/2).

    Parameters
    ----------
    keep : float
        Share left after the last block: block l of n keeps floor((1 - (1 - keep)(l + 1)/n) N) of the
        original tokens, a constant r up to rounding.
    r : int, optional
        Merges a block in each encoder sequence, instead of ``keep``. The paper has 2 to 23 on ViT-L.
    """

    source: ClassVar[str] = "Bolya et al., Token Merging, arXiv 2210.09461, section 3"
    requires: ClassVar[Requirements] = (separable_encoder_tokens,)
    refused_settings: ClassVar[Examples] = ({"r": -1},)
    tokens_at_zero: ClassVar[int | None] = None

    r: int | None = None

    def build_schedule(self, model: VlmModel) -> Schedule:
        tower = tower_of(model)
        if self.r is not None and self.r < 0:
            raise InputError("tome: r", self.r, "give a number of merges, 0 or more")
        blocks = range(len(tower.layer_pattern))
        operations = (operation for layer in blocks for operation in bipartite_matching(layer))
        return Schedule(steps=tuple(self._step(layer, len(blocks)) for layer in blocks), operations=tuple(operations))

    def _step(self, layer: int, blocks: int) -> Step:
        half = exact("1/2")
        if self.r is not None:
            return drop_count(self.r, "encoder_mlp", layer, at_least=half)
        left = 1 - (1 - exact(self.keep)) * (layer + 1) / blocks
        return Step(stage="encoder_mlp", layer=layer, share=exact(left), at_least=half)
