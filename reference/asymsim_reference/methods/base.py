"""Reference methods: the class that each derives from, and the registry, discovered from the files of this package."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, ClassVar, TypeVar

from torch import Tensor

from asymsim_reference.cache import LayerCache
from asymsim_reference.proof import ProofCases
from asymsim_reference.tokens import AttentionTrace, EncoderTokens, Prompt, PromptTokens, VisualTokens
from asymsim_reference.vlm import SmallVlm

_METHODS: dict[str, type[ReferenceMethod]] = {}
M = TypeVar("M", bound="type[ReferenceMethod]")


class ReferenceMethod:
    """A method as hooks into one run; every hook does nothing unless a method overrides it.

    Matrix products in a hook are charged to selection. A method gets the attention weights of the
    layers it names, and of no others, since storing them forbids fused kernels there. ``proof_cases`` are the settings
    under which a run must leave the tokens and FLOPs that the cost file of the same name declares.
    """

    name: ClassVar[str]
    proof_cases: ClassVar[ProofCases] = ()
    vlm: SmallVlm
    prompt: Prompt

    def start(self, vlm: SmallVlm, prompt: Prompt) -> None:
        """Forget the last run."""
        self.vlm, self.prompt = vlm, prompt

    def encoder_reads(self) -> frozenset[int]:
        """Encoder blocks whose attention weights are stored for the method."""
        return frozenset()

    def lm_reads(self) -> frozenset[int]:
        """Language-model layers whose prefill attention weights are stored for the method."""
        return frozenset()

    def before_block(self, block: int, tokens: EncoderTokens) -> EncoderTokens:
        """Before an encoder block."""
        return tokens

    def between(self, block: int, tokens: EncoderTokens, trace: AttentionTrace) -> EncoderTokens:
        """Between attention and MLP of an encoder block."""
        return tokens

    def after_block(self, block: int, tokens: EncoderTokens, trace: AttentionTrace) -> None:
        """After an encoder block; to remember, not to change."""

    def encoder_end(self, tokens: EncoderTokens) -> VisualTokens:
        """Between encoder and projector."""
        return self.vlm.all_visual(tokens)

    def before_layer(self, layer: int, tokens: PromptTokens) -> PromptTokens:
        """Before a layer of the language model, in prefill; before layer 0 is before the language model."""
        return tokens

    def after_layer(self, layer: int, tokens: PromptTokens, trace: AttentionTrace) -> None:
        """After the attention of a layer, ``tokens`` being its input; to remember, not to change."""

    def after_prefill(self, traces: Sequence[AttentionTrace], caches: Sequence[LayerCache]) -> None:
        """Compress the caches in place."""

    def after_step(self, generated: int, queries: Sequence[Tensor], caches: Sequence[LayerCache]) -> None:
        """Evict in place after a decode step.

        ``generated`` tokens are in the caches so far, evicted ones counted too; ``queries`` are the
        newest token's in each layer, (heads, size), rotated.
        """


def register(name: str) -> Callable[[M], M]:
    """Give a reference method the name of its cost file."""

    def enter(method: M) -> M:
        method.name = name
        _METHODS[name] = method
        return method

    return enter


@cache
def reference_methods() -> Mapping[str, type[ReferenceMethod]]:
    """All reference methods by name; importing a file of this package registers it."""
    package = importlib.import_module("asymsim_reference.methods")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    return dict(sorted(_METHODS.items()))


def reference_method(name: str, **settings: Any) -> ReferenceMethod:
    """Make a reference method.

    Raises
    ------
    KeyError
        If no file registers the name.
    """
    return reference_methods()[name](**settings)
