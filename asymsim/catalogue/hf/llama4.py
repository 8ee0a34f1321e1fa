"""Llama 4: mixture of experts with a shared expert, attention in chunks, tiles shuffled into fewer tokens."""

from __future__ import annotations

from typing import Any

from asymsim.catalogue.hf.base import Fields, adapter
from asymsim.catalogue.hf.decoder import MOST_LAYERS, decoder, decoder_layer, layer_count
from asymsim.catalogue.hf.towers import vit_layer
from asymsim.catalogue.images.llama4 import GlobalAndTiles
from asymsim.catalogue.model import LanguageModel, Layer, Linear, Projector, VisionTower, VlmModel

# Class defaults of transformers 5.23.0, models/llama4/configuration_llama4.py.
TEXT_DEFAULTS: dict[str, Any] = {
    "vocab_size": 202048,
    "hidden_size": 5120,
    "intermediate_size": 8192,
    "intermediate_size_mlp": 16384,
    "num_hidden_layers": 48,
    "num_attention_heads": 40,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "num_experts_per_tok": 1,
    "num_local_experts": 16,
    "interleave_moe_layer_step": 1,
    "no_rope_layer_interval": 4,
    "attention_chunk_size": 8192,
    "max_position_embeddings": 131072,
}
VISION_DEFAULTS: dict[str, Any] = {
    "hidden_size": 768,
    "intermediate_size": 5632,
    "num_hidden_layers": 34,
    "num_attention_heads": 16,
    "num_channels": 3,
    "vision_output_dim": 7680,
    "image_size": 448,
    "patch_size": 14,
    "pixel_shuffle_ratio": 0.5,
    "projector_input_dim": 4096,
    "projector_output_dim": 4096,
}
# max_patches of transformers 5.23.0's image processor, and of meta-llama/Llama-4-Scout-17B-16E-Instruct.
MOST_TILES = 16
LARGEST_MERGE = 16


@adapter("llama4")
def llama4(name: str, fields: Fields) -> VlmModel:
    """Llama 4; the pixel-shuffle MLP of the vision model and the projection are one projector here."""
    text = _language_model(fields.part("text_config", TEXT_DEFAULTS))
    vision = fields.part("vision_config", VISION_DEFAULTS)
    width, heads = vision.integer("hidden_size"), vision.integer("num_attention_heads")
    if width % (4 * heads):
        raise vision.error("num_attention_heads", f"4 x num_attention_heads must divide hidden_size = {width}")
    intermediate = vision.integer("intermediate_size")
    size, patch, merge = vision.integer("image_size"), vision.integer("patch_size"), _merge(vision)
    side = size // patch
    if not side or side % merge:
        raise vision.error("image_size", f"must hold a multiple of {merge} patches a side")
    patches = side**2
    return VlmModel(
        name=name,
        model_type="llama4",
        vision_tower=VisionTower(
            layer_kinds=(vit_layer(width, intermediate, heads),),
            layer_pattern=(0,) * vision.integer("num_hidden_layers", maximum=MOST_LAYERS),
            patch=Linear(inputs=vision.integer("num_channels") * patch**2, outputs=width),
            extra_tokens=1,
            encoder_tokens_per_visual=merge**2,
            # [CLS], positions, the norms before and after the layers.
            other_parameters=width + (patches + 1) * width + 4 * width,
        ),
        projector=_projector(vision, width * merge**2, text.hidden_size),
        language_model=text,
        image_rule=GlobalAndTiles(
            image_size=size, patch_size=patch, extra_tokens=1, most_tiles=MOST_TILES, tile_tokens=patches // merge**2
        ),
    )


def _merge(vision: Fields) -> int:
    """Patches a side that the pixel shuffle concatenates."""
    ratio = vision.get("pixel_shuffle_ratio")
    if isinstance(ratio, float | int) and not isinstance(ratio, bool) and 1 / LARGEST_MERGE <= ratio <= 1:
        merge = round(1 / ratio)
        if merge * ratio == 1:
            return merge
    raise vision.error("pixel_shuffle_ratio", f"give 1 over a whole number up to {LARGEST_MERGE}, such as 0.5")


def _projector(vision: Fields, shuffled: int, hidden: int) -> Projector:
    intermediate, inner = vision.integer("intermediate_size"), vision.integer("projector_input_dim")
    outputs = vision.integer("projector_output_dim")
    for key, value, must in (
        ("intermediate_size", intermediate, shuffled),
        ("projector_output_dim", outputs, inner),
        ("vision_output_dim", vision.integer("vision_output_dim"), outputs),
    ):
        if value != must:
            raise vision.error(key, f"must be {must}, the width that enters it")
    shapes = ((intermediate, inner), (outputs, outputs), (outputs, hidden))
    return Projector(linears=tuple(Linear(inputs=inputs, outputs=width) for inputs, width in shapes))


def _language_model(text: Fields) -> LanguageModel:
    """Layer kinds: chunked or full attention, with a sparse or a dense FFN."""
    layers = layer_count(text)
    step = text.integer("interleave_moe_layer_step")
    sparse = set(text.integers("moe_layers", tuple(range(step - 1, layers, step))))
    chunked = _chunked_layers(text, layers)
    wanted = [(chunked[index], index in sparse) for index in range(layers)]
    kinds = sorted(set(wanted), reverse=True)
    pattern = tuple(kinds.index(kind) for kind in wanted)
    return decoder(text, tuple(_layer(text, *kind) for kind in kinds), pattern)


def _chunked_layers(text: Fields, layers: int) -> tuple[bool, ...]:
    """Mask of the layers that attend within chunks: the layers with rotary positions."""
    types = text.get("layer_types")
    if types is not None:
        choices = ("chunked_attention", "full_attention")
        if not isinstance(types, list | tuple) or len(types) != layers or any(kind not in choices for kind in types):
            raise text.error("layer_types", f"give {' or '.join(choices)} for each of the {layers} layers")
        return tuple(kind == "chunked_attention" for kind in types)
    rotary = text.integers("no_rope_layers")
    if rotary and len(rotary) < layers:
        raise text.error("no_rope_layers", f"give 1 (rotary) or 0 for each of the {layers} layers, or none")
    interval = text.integer("no_rope_layer_interval")
    return tuple(bool(rotary[index]) if rotary else (index + 1) % interval != 0 for index in range(layers))


def _layer(text: Fields, chunked: bool, sparse: bool) -> Layer:
    bias = text.flag("attention_bias")
    experts = text.integer("num_local_experts")
    width = text.integer("intermediate_size")
    ffn: dict[str, Any] = {"intermediate_size": text.integer("intermediate_size_mlp")}
    if sparse:
        ffn = {
            "intermediate_size": width,
            "experts": experts,
            "experts_per_token": text.integer("num_experts_per_tok", maximum=experts),
            # transformers multiplies every token with every expert, most of them scaled by zero.
            "framework_experts_per_token": experts,
            "shared_intermediate_size": width,
        }
    return decoder_layer(
        text,
        name=f"{'chunked' if chunked else 'full'}_{'experts' if sparse else 'dense'}",
        qkv_bias=bias,
        output_bias=bias,
        chunk_tokens=text.integer("attention_chunk_size", 0, minimum=0) if chunked else 0,
        **ffn,
    )
