"""FOLDER: many bipartite merges at once in one of the last encoder blocks."""

from __future__ import annotations

from typing import ClassVar

from asymsim.catalogue.model import VlmModel
from asymsim.methods.base import Examples, Method, Requirements, register, tower_of
from asymsim.methods.common.operations import bipartite_matching, saliency
from asymsim.methods.common.requirements import separable_encoder_tokens
from asymsim.methods.schedule import Schedule, keep_share
from asymsim.util.errors import InputError
from asymsim.util.fractions import exact
from asymsim.util.strict import strict_dataclass


@register("folder")
@strict_dataclass
class Folder(Method):
    """Between attention and MLP of one block, tokens are folded pairwise until floor(keep N) are left.

    A fold merges at most half of the tokens, so that smaller shares fold several times, each fold on half as
    many tokens as the one before, rounded up; the number of folds is that of an even count. One token is
    left at least. [CLS] attention of the block steers the matching, so the block runs unfused.

    Parameters
    ----------
    keep : float
        Kept share; the paper goes down to 0.3.
    blocks_from_end : int
        1: the last encoder block, 2: the one before it, as in the released LLaVA code.
    """

    source: ClassVar[str] = "Wang et al., FOLDER, arXiv 2501.02430, section 3; released code (patch/folder.py)"
    requires: ClassVar[Requirements] = (separable_encoder_tokens,)
    refused_settings: ClassVar[Examples] = ({"blocks_from_end": 25},)
    tokens_at_zero: ClassVar[int | None] = 1

    keep: float = 0.34
    blocks_from_end: int = 2

    def build_schedule(self, model: VlmModel) -> Schedule:
        tower = tower_of(model)
        blocks = len(tower.layer_pattern)
        if not 1 <= self.blocks_from_end <= blocks:
            raise InputError("folder: blocks_from_end", self.blocks_from_end, f"give a number from 1 to {blocks}")
        layer = blocks - self.blocks_from_end
        folds, left = 1, 0.5
        # Below a thousandth further folds are on next to nothing.
        while left > max(self.keep, 0.001):
            folds, left = folds + 1, left / 2
        matching = (operation for fold in range(folds) for operation in bipartite_matching(layer, fold))
        return Schedule(
            # A fold merges into tokens that stay: of any number one is left.
            steps=(keep_share(self.keep, "encoder_mlp", layer, at_least=exact("1/1000000")),),
            operations=(saliency(tower, layer), *matching),
            unfused=(("encoder", layer),),
        )
