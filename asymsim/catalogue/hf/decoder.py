"""Parts of decoders: gated layers with RMSNorm, stacks with sliding windows, embedding and output head."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from asymsim.catalogue.hf.base import Fields
from asymsim.catalogue.model import LanguageModel, Layer

# Deeper is a typing error; the deepest published decoders have under 200 layers.
MOST_LAYERS = 2048
# Longer than any model claims (Llama 4 Scout: 10,485,760).
LARGEST_CONTEXT = 2**31
LARGEST_ROPE_FACTOR = 2**16


def decoder_layer(
    fields: Fields,
    *,
    name: str = "full",
    qkv_bias: bool = False,
    output_bias: bool = False,
    ffn_bias: bool = False,
    head_norm: bool = False,
    norms: int = 2,
    **changes: Any,
) -> Layer:
    """A layer with RMSNorm and a gated FFN, as Llama and its descendants have it.

    Parameters
    ----------
    fields : Fields
        The text part of the file, class defaults behind it.
    name : str
        Name of the layer kind.
    qkv_bias, output_bias, ffn_bias : bool
        Biases of the query, key and value, of the output, and of the three FFN projections.
    head_norm : bool
        One norm weight of head size for the queries and one for the keys (Qwen3, Gemma 3).
    norms : int
        Norms of width ``hidden_size``.
    **changes
        Fields of the ``Layer`` to replace.
    """
    hidden = fields.integer("hidden_size")
    heads = fields.integer("num_attention_heads")
    kv_heads = fields.integer("num_key_value_heads", heads)
    intermediate = fields.integer("intermediate_size")
    if heads % kv_heads:
        raise fields.error("num_key_value_heads", f"must divide num_attention_heads = {heads}")
    if "head_dim" not in fields and hidden % heads:
        raise fields.error("num_attention_heads", f"must divide hidden_size = {hidden}, or head_dim must be given")
    head_size = fields.integer("head_dim", hidden // heads)
    vectors = norms * hidden
    vectors += (heads + 2 * kv_heads) * head_size if qkv_bias else 0
    vectors += hidden if output_bias else 0
    vectors += 2 * intermediate + hidden if ffn_bias else 0
    vectors += 2 * head_size if head_norm else 0
    shape = {
        "hidden_size": hidden,
        "heads": heads,
        "kv_heads": kv_heads,
        "head_size": head_size,
        "intermediate_size": intermediate,
        "norms": norms,
        "vector_parameters": vectors,
    }
    return Layer(name=name, **{**shape, **changes})


def layer_count(fields: Fields) -> int:
    """``num_hidden_layers``, checked."""
    return fields.integer("num_hidden_layers", maximum=MOST_LAYERS)


def sliding_layers(fields: Fields, default: tuple[bool, ...]) -> tuple[bool, ...]:
    """Mask of the layers with a sliding window: the file's ``layer_types``, else the class's rule."""
    types = fields.get("layer_types")
    if types is None:
        return default
    choices = ("full_attention", "sliding_attention")
    if not isinstance(types, list | tuple) or len(types) != len(default) or any(kind not in choices for kind in types):
        raise fields.error("layer_types", f"give one of {' or '.join(choices)} for each of the {len(default)} layers")
    return tuple(kind == "sliding_attention" for kind in types)


def sliding_stack(
    layer: Layer, window_tokens: int, sliding: tuple[bool, ...]
) -> tuple[tuple[Layer, ...], tuple[int, ...]]:
    """Layer kinds and pattern of a stack in which some layers have a sliding window; a window of 0 is none."""
    if not window_tokens or not any(sliding):
        return (layer,), (0,) * len(sliding)
    windowed = replace(layer, name="sliding", window_tokens=window_tokens)
    if all(sliding):
        return (windowed,), (0,) * len(sliding)
    return (windowed, layer), tuple(0 if slides else 1 for slides in sliding)


def context_tokens(fields: Fields, scaled: bool = False) -> int | None:
    """Longest sequence of a model: its positions, times the scaling factor of its rotary embedding.

    The rule follows vLLM (``_get_and_verify_max_len``): long and Llama 3 ropes state the scaled length, YaRN states the
    unscaled length. Windows and chunks bound the keys that a token attends to, not the length of a sequence.

    Parameters
    ----------
    fields : Fields
        The text part of the file, class defaults behind it.
    scaled : bool
        The stated length is the scaled one, whatever the rope (Gemma 3).
    """
    if "max_position_embeddings" not in fields:
        return None
    length = fields.integer("max_position_embeddings", maximum=LARGEST_CONTEXT)
    rope = fields.part("rope_parameters" if "rope_parameters" in fields else "rope_scaling")
    kind = rope.get("rope_type", rope.get("type"))
    if scaled or kind in ("su", "longrope", "llama3"):
        return length
    factor = rope.get("factor", 1.0)
    if isinstance(factor, bool) or not isinstance(factor, int | float) or not 1 <= factor <= LARGEST_ROPE_FACTOR:
        raise rope.error("factor", f"give a number from 1 to {LARGEST_ROPE_FACTOR}")
    if kind == "yarn":
        length = rope.integer("original_max_position_embeddings", length, maximum=LARGEST_CONTEXT)
    return int(length * factor)


def decoder(fields: Fields, layer_kinds: tuple[Layer, ...], pattern: tuple[int, ...], **changes: Any) -> LanguageModel:
    """A decoder with a final RMSNorm and a head without bias."""
    hidden = fields.integer("hidden_size")
    shape = {
        "hidden_size": hidden,
        "vocab_size": fields.integer("vocab_size"),
        "layer_kinds": layer_kinds,
        "layer_pattern": pattern,
        "tied": fields.flag("tie_word_embeddings"),
        "other_parameters": hidden,
        "context_tokens": context_tokens(fields),
    }
    return LanguageModel(**{**shape, **changes})
