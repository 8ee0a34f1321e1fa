"""Gemma decoders: a head size independent of the width, tied embeddings, and from Gemma 2 on windows in most layers."""

from __future__ import annotations

from typing import Any

from asymsim.catalogue.hf.base import Fields
from asymsim.catalogue.hf.decoder import (
    context_tokens,
    decoder,
    decoder_layer,
    layer_count,
    sliding_layers,
    sliding_stack,
)
from asymsim.catalogue.model import LanguageModel
from asymsim.util.errors import UnsupportedError

# Class defaults of transformers 5.23.0, models/gemma*/configuration_gemma*.py.
_GEMMA2: dict[str, Any] = {
    "vocab_size": 256000,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "tie_word_embeddings": True,
    "sliding_window": 4096,
    "max_position_embeddings": 8192,
}
GEMMA_DEFAULTS: dict[str, dict[str, Any]] = {
    "gemma": {
        "vocab_size": 256000,
        "hidden_size": 3072,
        "intermediate_size": 24576,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
        "head_dim": 256,
        "tie_word_embeddings": True,
        "max_position_embeddings": 8192,
    },
    "gemma2": _GEMMA2,
    "gemma3_text": {**_GEMMA2, "vocab_size": 262208, "max_position_embeddings": 131072},
}


def gemma(fields: Fields, **changes: Any) -> LanguageModel:
    """Gemma: two norms, full attention."""
    _check_causal(fields, changes)
    bias = fields.flag("attention_bias")
    layer = decoder_layer(fields, qkv_bias=bias, output_bias=bias)
    return decoder(fields, (layer,), (0,) * layer_count(fields), **changes)


def gemma2(fields: Fields, **changes: Any) -> LanguageModel:
    """Gemma 2: four norms, a sliding window in every other layer from the first."""
    return _sliding(fields, 2, False, changes)


def gemma3(fields: Fields, **changes: Any) -> LanguageModel:
    """Gemma 3: four norms and two head norms, a sliding window in five of six layers."""
    return _sliding(fields, fields.integer("sliding_window_pattern", 6), True, changes)


def _sliding(fields: Fields, every: int, head_norm: bool, changes: dict[str, Any]) -> LanguageModel:
    """A sliding window in all layers but every ``every``-th."""
    _check_causal(fields, changes)
    bias = fields.flag("attention_bias")
    layer = decoder_layer(fields, qkv_bias=bias, output_bias=bias, head_norm=head_norm, norms=4)
    rule = tuple((index + 1) % every != 0 for index in range(layer_count(fields)))
    window = fields.integer("sliding_window", 0, minimum=0)
    length = context_tokens(fields, scaled=head_norm)
    stack = sliding_stack(layer, window, sliding_layers(fields, rule))
    return decoder(fields, *stack, **{"context_tokens": length, **changes})


def _check_causal(fields: Fields, changes: dict[str, Any]) -> None:
    """Refuse the flag that turns the model into a text encoder; PaliGemma's adapter sets its mask itself."""
    if changes.get("mask") != "prefix" and fields.flag("use_bidirectional_attention"):
        raise UnsupportedError("config.json: use_bidirectional_attention", True, "only causal decoders are covered")
