"""VL-Cache: per-layer budgets from the sparsity of the attention that the text after the image pays."""

from __future__ import annotations

from typing import ClassVar

from asymsim.catalogue.model import VlmModel
from asymsim.methods.base import Examples, Family, Method, Requirements, lm_layers, register
from asymsim.methods.common.operations import cache_gather, cache_scores, reduce, top_k
from asymsim.methods.common.requirements import visual_tokens_in_sequence
from asymsim.methods.schedule import KvPolicy, Schedule
from asymsim.util.errors import InputError
from asymsim.util.fractions import share_of_all
from asymsim.util.strict import strict_dataclass


@register("vl_cache")
@strict_dataclass
class VLCache(Method):
    """After prefill a share of the entries stays, chosen by post-vision attention, more in denser layers.

    The scores are those of the prompt's text queries against all keys (all text is taken to follow the
    images, our assumption); their count below a threshold gives each layer's sparsity, their sum over
    the queries the choice.

    Parameters
    ----------
    keep : float
        Mean share of the entries; 0.1 in the paper.
    layer_shares : tuple of float, optional
        Share of each layer, instead of ``keep``. They depend on the sample and are not published: the same
        for all layers by default (our assumption).
    """

    family: ClassVar[Family] = "kv"
    source: ClassVar[str] = "Tu et al., VL-Cache, arXiv 2410.23317, section 4"
    requires: ClassVar[Requirements] = (visual_tokens_in_sequence,)
    refused_settings: ClassVar[Examples] = ({"layer_shares": (0.1, 0.2)}, {"layer_shares": (1.1,) * 32})

    keep: float = 0.1
    layer_shares: tuple[float, ...] | None = None

    def build_schedule(self, model: VlmModel) -> Schedule:
        shares = (self.keep,) if self.layer_shares is None else self.layer_shares
        if self.layer_shares is not None and len(shares) != lm_layers(model):
            raise InputError(
                "vl_cache: layer_shares", len(shares), f"give one share for each of {lm_layers(model)} layers"
            )
        return Schedule(
            kv=KvPolicy(share=tuple(share_of_all(share, "vl_cache: layer_shares") for share in shares)),
            operations=(
                *cache_scores(model, "text"),
                # Sparsity: the largest weight of each row, and how many lie below a share of it.
                reduce("kv", rows="heads*text", columns="tokens", flops=2),
                top_k("kv", columns="tokens", times="kv_heads"),
                cache_gather(),
            ),
        )
