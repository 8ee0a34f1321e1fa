"""What is alive at once in a layer, listed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from asymsim.core.activations import layer_peak
from asymsim.core.model_arrays import LAYER


def kind(**values: int) -> np.void:
    record = np.zeros(1, LAYER)
    shape = {"hidden_size": 100, "heads": 4, "kv_heads": 2, "head_size": 10, "intermediate_size": 7, "ups": 2}
    for name, value in {**shape, **values}.items():
        record[name] = value
    return record[0]


def test_attention_holds_queries_keys_values_and_output() -> None:
    stream = 2 * 5 * 100
    assert layer_peak(kind(), 5, 5, 25, 0, 1) == stream + 5 * (40 + 20 + 20 + 40)


def test_a_wide_ffn_holds_gate_up_and_product() -> None:
    stream = 2 * 5 * 100
    assert layer_peak(kind(intermediate_size=1000), 5, 4, 25, 0, 1) == stream + 4 * 3 * 1000
    assert layer_peak(kind(intermediate_size=1000, ups=1), 5, 4, 25, 0, 1) == stream + 4 * 2 * 1000
    experts = kind(intermediate_size=500, experts=8, experts_per_token=2, shared_intermediate_size=300)
    assert layer_peak(experts, 5, 5, 25, 0, 1) == stream + 5 * 3 * (2 * 500 + 300)


def test_stored_weights_are_there_before_and_after_the_softmax() -> None:
    fused, stored = (layer_peak(kind(), 5, 5, 25, unfused, 1) for unfused in (0, 1))
    assert stored - fused == 2 * 25 * 4


@pytest.mark.parametrize("tp_size", [1, 2, 3, 7])
def test_gpus_share_the_layer_but_not_the_stream(tp_size: int) -> None:
    shared = layer_peak(kind(), 5, 5, 25, 0, tp_size) - 1000
    assert shared * tp_size >= 600 > (shared - 1) * tp_size


def test_no_tokens_take_no_room() -> None:
    assert layer_peak(kind(), 0, 0, 0, 1, 2) == 0
