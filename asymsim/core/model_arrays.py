"""Arrays of a model: layer records, their order, its mask and its number formats."""

from __future__ import annotations

from typing import NamedTuple

from asymsim.core.arrays import Array, codes, integers

CAUSAL, PREFIX, IMAGE_BIDIRECTIONAL, BIDIRECTIONAL = codes(4)
MASK_NAMES = ("causal", "prefix", "image_bidirectional", "bidirectional")

# A kind of layer.
LAYER = integers(
    "hidden_size",
    "heads",
    "kv_heads",
    "queries_per_kv_head",
    "head_size",
    "intermediate_size",
    "ups",  # up-projections of the FFN: 2 with a gate
    "cross",  # 1: cross-attention to the visual tokens
    "window_tokens",  # sliding window, the token itself included; 0: none
    "chunk_tokens",  # length of chunked attention; 0: none
    "experts",  # 0: a dense FFN
    "experts_per_token",
    "framework_experts_per_token",  # that the framework's code executes
    "shared_intermediate_size",  # of the shared expert; 0: none
    "norms",
)


class ModelArrays(NamedTuple):
    """A ``VlmModel`` as the kernels see it.

    Attributes
    ----------
    tower_kinds, lm_kinds : records of ``LAYER``, one a kind of layer.
    tower_prefix, lm_prefix : layers of each kind before each layer, and all of them at the end, shape
        (layers + 1, kinds).
    patch_inputs, tower_hidden_size : input and output width of the patch embedding.
    tower_framework_flops : FLOPs an encoder sequence that the framework counts beside its layers and patches.
    extra_tokens : tokens of an encoder sequence that are no patches, such as CLS.
    linears : rows (1 where it runs on encoder tokens, inputs, outputs), one a linear layer of the projector.
    resampler_heads, resampler_head_size : 0 where the projector has no resampler.
    hidden_size, vocab_size : of the language model.
    mask : index of ``MASK_NAMES``.
    visual_in_sequence : 1 where visual tokens stand in the prompt, 0 where cross-attention reads them.
    """

    tower_kinds: Array
    tower_prefix: Array
    patch_inputs: int
    tower_hidden_size: int
    tower_framework_flops: int
    extra_tokens: int
    linears: Array
    resampler_heads: int
    resampler_head_size: int
    lm_kinds: Array
    lm_prefix: Array
    hidden_size: int
    vocab_size: int
    mask: int
    visual_in_sequence: int


class Precision(NamedTuple):
    """Bits per element of weights, activations and KV cache, and the tensor-parallel size."""

    weight_bits: int
    activation_bits: int
    kv_bits: int
    tp_size: int
