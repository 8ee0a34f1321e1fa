"""Arrays of a model: layer records, their order, its mask and its number formats."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from asymsim.core.arrays import Array, codes

CAUSAL, PREFIX, IMAGE_BIDIRECTIONAL, BIDIRECTIONAL = codes(4)


MASK_NAMES = ("causal", "prefix", "image_bidirectional", "bidirectional")


LAYER = np.dtype(
    [
        (name, np.int64)
        for name in (
            "hidden_size",
            "heads",
            "kv_heads",
            "queries_per_kv_head",
            "head_size",
            "intermediate_size",
            "ups",
            "cross",
            "window_tokens",
            "chunk_tokens",
            "experts",
            "experts_per_token",
            "framework_experts_per_token",
            "shared_intermediate_size",
            "norms",
        )
    ],
    align=True,
)


class ModelArrays(NamedTuple):
    """A ``VlmModel`` as the kernels see it; prefix sums count the layers of each kind before a layer."""

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
