"""Qwen3-VL with a mixture of experts."""

from __future__ import annotations

from typing import Any

from asymsim.catalogue.hf.base import Fields, adapter
from asymsim.catalogue.hf.decoder import decoder, layer_count
from asymsim.catalogue.hf.qwen3_vl import qwen3_layer, qwen3_vl_model
from asymsim.catalogue.model import Layer, VlmModel

# Class defaults of transformers 5.23.0, models/qwen3_vl_moe/configuration_qwen3_vl_moe.py.
TEXT_DEFAULTS: dict[str, Any] = {
    "vocab_size": 151936,
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "moe_intermediate_size": 1408,
    "num_experts_per_tok": 4,
    "num_experts": 60,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "max_position_embeddings": 128000,
}


@adapter("qwen3_vl_moe")
def qwen3_vl_moe(name: str, fields: Fields) -> VlmModel:
    """Qwen3-VL-MoE; ``mlp_only_layers`` and ``decoder_sparse_step`` leave some layers a dense FFN."""
    text = fields.part("text_config", TEXT_DEFAULTS)
    layers = layer_count(text)
    dense, step = set(text.integers("mlp_only_layers")), text.integer("decoder_sparse_step")
    pattern = tuple(int(index in dense or (index + 1) % step != 0) for index in range(layers))
    kinds = (_sparse_layer(text), qwen3_layer(text, name="dense"))
    tied = fields.flag("tie_word_embeddings")
    return qwen3_vl_model(name, "qwen3_vl_moe", fields, decoder(text, kinds, pattern, tied=tied))


def _sparse_layer(text: Fields) -> Layer:
    # transformers calls the same number num_local_experts once it has read the file.
    experts = text.integer("num_local_experts") if "num_local_experts" in text else text.integer("num_experts")
    return qwen3_layer(
        text,
        name="experts",
        intermediate_size=text.integer("moe_intermediate_size"),
        experts=experts,
        experts_per_token=text.integer("num_experts_per_tok", maximum=experts),
    )
