"""Arrays of a model as the kernels read them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from asymsim.catalogue.model import Layer, VlmModel
from asymsim.core.arrays import Array
from asymsim.core.model_arrays import LAYER, MASK_NAMES, ModelArrays


def _layer_records(kinds: Sequence[Layer], pattern: Sequence[int]) -> tuple[Array, Array]:
    """Records of the layer kinds, and for each layer boundary the number of layers of each kind before it."""
    records = np.zeros(len(kinds), LAYER)
    for index, kind in enumerate(kinds):
        for name in LAYER.names or ():
            if hasattr(kind, name):
                records[index][name] = getattr(kind, name)
        records[index]["ups"] = 2 if kind.gated else 1
        records[index]["queries_per_kv_head"] = kind.heads // kind.kv_heads
        records[index]["cross"] = kind.attention == "cross"
        records[index]["framework_experts_per_token"] = kind.framework_experts_per_token or kind.experts_per_token
    prefix = np.zeros((len(pattern) + 1, len(kinds)), np.int64)
    for layer, index in enumerate(pattern):
        prefix[layer + 1] = prefix[layer]
        prefix[layer + 1, index] += 1
    return records, prefix


def model_arrays(model: VlmModel) -> ModelArrays:
    """Arrays of a model's shape; a text-only model has an empty tower."""
    tower, text = model.vision_tower, model.language_model
    tower_kinds, tower_prefix = (
        _layer_records(tower.layer_kinds, tower.layer_pattern) if tower else _layer_records((), ())
    )
    lm_kinds, lm_prefix = _layer_records(text.layer_kinds, text.layer_pattern)
    projector = model.projector
    linears = projector.linears if projector else ()
    linear_rows = [(linear.rows == "encoder", linear.inputs, linear.outputs) for linear in linears]
    resampler = projector.resampler if projector else None
    return ModelArrays(
        tower_kinds=tower_kinds,
        tower_prefix=tower_prefix,
        patch_inputs=tower.patch.inputs if tower else 0,
        tower_hidden_size=tower.patch.outputs if tower else 0,
        tower_framework_flops=tower.framework_flops if tower else 0,
        extra_tokens=tower.extra_tokens if tower else 0,
        linears=np.array(linear_rows, np.int64).reshape(-1, 3),
        resampler_heads=resampler.heads if resampler else 0,
        resampler_head_size=resampler.head_size if resampler else 0,
        lm_kinds=lm_kinds,
        lm_prefix=lm_prefix,
        hidden_size=text.hidden_size,
        vocab_size=text.vocab_size,
        mask=MASK_NAMES.index(text.mask),
        visual_in_sequence=int(text.visual_in_sequence),
    )
