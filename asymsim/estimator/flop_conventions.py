"""Conventions of counting FLOPs: exactly, as the framework does, or by the formulas that papers print.

The literature's conventions exist to reproduce and compare published figures. Each counts, per
layer with n tokens, hidden size d and FFN size m,

    mac_flops * (4 n d^2 + attention_terms * n^2 d + ffn_terms * n d m)

over the language model's prefill alone, and differs from the others in the switches below. Each
switch can be changed by name: ``sparsevlm:mac_flops=2,vision_tower=true``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from asymsim.catalogue.model import LanguageModel, VlmModel
from asymsim.core.arrays import Array
from asymsim.core.operators.layout import PROJECTOR, VISION
from asymsim.estimator.result import Flops
from asymsim.util.errors import InputError, UnknownNameError
from asymsim.util.strict import strict_dataclass

if TYPE_CHECKING:
    from asymsim.estimator.operator_table import WeightedTables


@strict_dataclass
class Convention:
    """One convention of counting FLOPs.

    Attributes
    ----------
    source : str
        Publication with section and formula, or how the convention was inferred.
    formula : bool
        False for ``exact`` and ``torch``, which sum the operator table.
    ffn_terms : int
        2 or 3 matrices in the FFN term.
    attention_terms : int
        Coefficient of n^2 d: 2, or 4 where both products are counted at 2 FLOPs a multiply-add.
    mac_flops : int
        FLOPs a multiply-add, 1 or 2.
    text : bool
        Whether the prompt's text tokens count beside the visual ones.
    vision_tower : bool
        Whether the encoder and projector count, exactly.
    layer_mean : bool
        Mean over the layers instead of their sum.
    """

    source: str
    formula: bool = True
    ffn_terms: int = 3
    attention_terms: int = 2
    mac_flops: int = 1
    text: bool = True
    vision_tower: bool = False
    layer_mean: bool = False


CONVENTIONS: dict[str, Convention] = {
    "exact": Convention(
        source="every matrix product of the whole model, 2 FLOPs a multiply-add, attention over the mask's pairs",
        formula=False,
    ),
    "torch": Convention(
        source="torch.utils.flop_counter.FlopCounterMode on the transformers model (square attention)", formula=False
    ),
    "fastv": Convention(
        source="FastV, arXiv 2403.06764, section 4.3: 4nd^2 + 2n^2d + 2ndm, mean per layer",
        ffn_terms=2,
        layer_mean=True,
    ),
    "sparsevlm": Convention(source="SparseVLM, arXiv 2410.04417: the FFN has three matrices, text tokens included"),
    "pyramiddrop": Convention(
        source="PyramidDrop, arXiv 2410.17247: visual tokens alone, three FFN matrices", text=False
    ),
    "desap": Convention(source="DeSAP, arXiv 2604.11240: visual tokens alone, three FFN matrices", text=False),
    "asymvlm": Convention(source="AsymVLM, arXiv 2605.29535: 4nd^2 + 2n^2d + 3ndm, as printed"),
    "asymvlm_tables": Convention(
        source="inferred, not printed: AsymVLM's table fits an attention term of 4n^2d", attention_terms=4
    ),
}


_SWITCHES: dict[str, dict[str, int | bool]] = {
    "ffn_terms": {"2": 2, "3": 3},
    "attention_terms": {"2": 2, "4": 4},
    "mac_flops": {"1": 1, "2": 2},
    "text": {"true": True, "false": False},
    "vision_tower": {"true": True, "false": False},
    "layer_mean": {"true": True, "false": False},
}


@lru_cache(maxsize=256)
def convention(name: str) -> Convention:
    """A convention by name, with switches changed where the name says so.

    Parameters
    ----------
    name : str
        Such as ``exact``, ``sparsevlm``, or ``sparsevlm:mac_flops=2,vision_tower=true``.

    Raises
    ------
    InputError
        If a switch has no such value, or the convention is no formula.
    UnknownNameError
        If there is no such convention or switch.
    """
    base, _, changes = name.partition(":")
    if base not in CONVENTIONS:
        raise UnknownNameError("convention", base, CONVENTIONS)
    chosen = CONVENTIONS[base]
    if changes and not chosen.formula:
        raise InputError("convention", name, f"{base} counts operators and has no switches")
    values: dict[str, int | bool] = {}
    for change in changes.split(",") if changes else []:
        switch, _, value = change.partition("=")
        if switch not in _SWITCHES:
            raise UnknownNameError("convention switch", switch, _SWITCHES)
        if value.lower() not in _SWITCHES[switch]:
            raise InputError(f"convention switch {switch}", value, f"give {' or '.join(_SWITCHES[switch])}")
        values[switch] = _SWITCHES[switch][value.lower()]
    return dataclasses.replace(chosen, **values)  # type: ignore[arg-type]


def layer_flops(convention: Convention, tokens: Array, hidden_size: int, intermediate_size: int) -> Array:
    """FLOPs of layers with ``tokens`` (layers,) tokens each under a formula convention; float64, exact below 2**53."""
    n = np.asarray(tokens, np.float64)
    terms = 4.0 * n * hidden_size**2
    terms += convention.attention_terms * n * n * hidden_size
    terms += convention.ffn_terms * n * hidden_size * intermediate_size
    return convention.mac_flops * terms


def prefill_flops(
    convention: Convention,
    text: LanguageModel,
    visual_tokens: Array | Sequence[float],
    text_tokens: Array | Sequence[float],
) -> float:
    """Prefill FLOPs of one request from the tokens that enter each layer (both shaped (layers,))."""
    tokens = np.asarray(visual_tokens, np.float64)
    if convention.text:
        tokens = tokens + np.asarray(text_tokens, np.float64)
    width = text.layer_kinds[text.layer_pattern[0]].intermediate_size
    per_layer = layer_flops(convention, tokens, text.hidden_size, width)
    return float(per_layer.mean() if convention.layer_mean else per_layer.sum())


def literature_flops(name: str, model: VlmModel, batch_size: int, tables: WeightedTables) -> Flops | None:
    """FLOPs under a formula convention, or None where the operator table itself is the count.

    The literature counts neither selection nor decoding, so both are 0.
    """
    chosen = convention(name)
    if not chosen.formula:
        return None
    prefill, tower, projector = Fraction(0), 0, 0
    for share, table in tables:
        request_flops = prefill_flops(chosen, model.language_model, table.visual, table.text)
        prefill += Fraction(share) * Fraction(request_flops)
        if chosen.vision_tower:
            tower += round(share * table.flops(VISION))
            projector += round(share * table.flops(PROJECTOR))
    total_prefill = round(prefill * batch_size)
    return Flops(
        vision_tower=tower,
        projector=projector,
        selection=0,
        prefill=total_prefill,
        decode=0,
        decode_step_first=0,
        total=total_prefill + tower + projector,
    )


def retained_tokens(visual_tokens_by_layer: Sequence[float]) -> float:
    """Mean over the layers of the visual tokens that leave each one.

    The literature's "retain N" (SparseVLM's released code, "equal tokens"): a layer after which tokens
    go counts with the tokens left, while its FLOPs are of the tokens that entered.
    """
    leaving = [*visual_tokens_by_layer[1:], visual_tokens_by_layer[-1]]
    return sum(leaving) / len(leaving)
