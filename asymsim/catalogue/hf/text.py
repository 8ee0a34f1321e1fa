"""Text-only decoders, which are also the language models inside the VLMs."""

from __future__ import annotations

from typing import Any

from asymsim.catalogue.hf.base import Fields, adapter
from asymsim.catalogue.hf.decoder import decoder, decoder_layer, layer_count, sliding_layers, sliding_stack
from asymsim.catalogue.hf.gemma_text import GEMMA_DEFAULTS, gemma, gemma2, gemma3
from asymsim.catalogue.model import LanguageModel, Layer, VlmModel

__all__ = ["DECODERS", "DEFAULTS", "decoder", "decoder_layer", "language_model", "layer_count"]


def _defaults(
    vocab: int, hidden: int, intermediate: int, layers: int, heads: int, context: int, **others: Any
) -> dict[str, Any]:
    return {
        "vocab_size": vocab,
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "max_position_embeddings": context,
        **others,
    }


# Class defaults of transformers 5.23.0, models/*/configuration_*.py; a key that is absent follows from another.
DEFAULTS: dict[str, dict[str, Any]] = {
    "llama": _defaults(32000, 4096, 11008, 32, 32, 2048),
    "mistral": _defaults(32000, 4096, 14336, 32, 32, 131072, num_key_value_heads=8, sliding_window=4096),
    "qwen2": _defaults(
        151936, 4096, 22016, 32, 32, 32768, num_key_value_heads=32, sliding_window=4096, max_window_layers=28
    ),
    "qwen3": _defaults(
        151936,
        4096,
        22016,
        32,
        32,
        32768,
        num_key_value_heads=32,
        head_dim=128,
        sliding_window=4096,
        max_window_layers=28,
    ),
    "phi3": _defaults(32064, 3072, 8192, 32, 32, 4096),
    **GEMMA_DEFAULTS,
}


def llama(fields: Fields, **changes: Any) -> LanguageModel:
    """Llama and Vicuna; biases only where the file sets them."""
    bias = fields.flag("attention_bias")
    layer = decoder_layer(fields, qkv_bias=bias, output_bias=bias, ffn_bias=fields.flag("mlp_bias"))
    return decoder(fields, (layer,), (0,) * layer_count(fields), **changes)


def mistral(fields: Fields, **changes: Any) -> LanguageModel:
    """Mistral and Phi-3: no biases; a ``sliding_window`` applies to every layer, null removes it."""
    window = fields.integer("sliding_window", 0, minimum=0)
    stack = sliding_stack(decoder_layer(fields), window, (True,) * layer_count(fields))
    return decoder(fields, *stack, **changes)


def qwen2(fields: Fields, **changes: Any) -> LanguageModel:
    """Qwen2 and Qwen2.5: biased query, key and value projections."""
    return _qwen(fields, decoder_layer(fields, qkv_bias=True), changes)


def qwen3(fields: Fields, **changes: Any) -> LanguageModel:
    """Qwen3: a norm on every query and key head, biases only where the file sets them."""
    bias = fields.flag("attention_bias")
    return _qwen(fields, decoder_layer(fields, qkv_bias=bias, output_bias=bias, head_norm=True), changes)


def _qwen(fields: Fields, layer: Layer, changes: dict[str, Any]) -> LanguageModel:
    """Sliding windows from layer ``max_window_layers`` on, where ``use_sliding_window`` is true."""
    window = fields.integer("sliding_window", 0, minimum=0) if fields.flag("use_sliding_window") else 0
    first = fields.integer("max_window_layers", 0, minimum=0)
    rule = tuple(index >= first for index in range(layer_count(fields)))
    return decoder(fields, *sliding_stack(layer, window, sliding_layers(fields, rule)), **changes)


DECODERS = {
    "llama": llama,
    "mistral": mistral,
    "qwen2": qwen2,
    "qwen3": qwen3,
    "phi3": mistral,
    "gemma": gemma,
    "gemma2": gemma2,
    "gemma3_text": gemma3,
}


def language_model(fields: Fields, default_type: str = "llama", **changes: Any) -> LanguageModel:
    """The decoder that a VLM's ``text_config`` describes.

    Parameters
    ----------
    fields : Fields
        The ``text_config`` part.
    default_type : str
        ``model_type`` where the part has none.
    **changes
        Fields of ``LanguageModel`` to replace, such as ``tied``, which VLMs have at the top.
    """
    text_type = fields.choice("model_type", tuple(DECODERS), default_type)
    return DECODERS[text_type](fields.with_defaults(DEFAULTS[text_type]), **changes)


@adapter(*DECODERS)
def text_only(name: str, fields: Fields) -> VlmModel:
    """A model without a vision tower."""
    return VlmModel(name=name, model_type=str(fields.get("model_type")), language_model=language_model(fields))
