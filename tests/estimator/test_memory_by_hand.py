"""Bytes on each GPU and the largest batch that fits, worked out by hand from made-up tables."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from asymsim.catalogue.gpu import load_gpu
from asymsim.catalogue.model import LanguageModel, Layer, VlmModel
from asymsim.core.model_arrays import Precision
from asymsim.core.operators.layout import OPERATOR, PHASE_NAMES
from asymsim.core.times.parameters import NUM_TIME_CLASSES
from asymsim.core.workspace import ACTIVATION_BYTES, KV_FINAL_BYTES, KV_PAGED_BYTES, TOTALS
from asymsim.estimator.memory import kv_share, memory, weights_bytes
from asymsim.estimator.operator_table import OperatorTable, kv_bytes_per_token

MIB = 1024 * 1024
NONE = np.zeros(0, np.int64)


def model(heads: int = 8, kv_heads: int = 8, layers: int = 2, **more: object) -> VlmModel:
    layer = Layer(hidden_size=4, heads=heads, kv_heads=kv_heads, head_size=2, intermediate_size=3)
    shape = {"layer_kinds": (layer,), "layer_pattern": (0,) * layers, **more}
    text = LanguageModel(hidden_size=4, vocab_size=50, **shape)  # type: ignore[arg-type]
    return VlmModel(name="memory", model_type="llama", language_model=text)


def table(paged: int, activations: int) -> OperatorTable:
    totals = np.zeros(TOTALS, np.int64)
    totals[KV_PAGED_BYTES], totals[ACTIVATION_BYTES], totals[KV_FINAL_BYTES] = paged, activations, 1
    return OperatorTable(
        rows=np.zeros(0, OPERATOR), totals=totals, seconds=np.zeros((len(PHASE_NAMES), NUM_TIME_CLASSES, 3)),
        sources=NONE,
        times={}, visual=NONE, text=NONE, kv=NONE, final_kv=NONE,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("bits", "tp_size", "bytes_each"),
    # Embedding and head of 50 x 4, two layers of 4 x 16 x 4 and 3 x 4 x 3: 984 parameters.
    [(16, 1, 1968), (16, 2, 984), (8, 1, 984), (4, 1, 492), (4, 5, 99), (16, 7, 282)],
)
def test_weights_are_shared_evenly(bits: int, tp_size: int, bytes_each: int) -> None:
    assert weights_bytes(model(), Precision(bits, 16, 16, tp_size)) == bytes_each


@pytest.mark.parametrize(
    ("kv_heads", "tp_size", "share"),
    [(8, 1, 1.0), (8, 2, 0.5), (8, 3, 3 / 8), (8, 8, 1 / 8), (8, 16, 1 / 8), (2, 8, 0.5), (1, 8, 1.0), (4, 3, 0.5)],
)
def test_kv_heads_are_not_divided_between_gpus(kv_heads: int, tp_size: int, share: float) -> None:
    assert kv_share(model(kv_heads=kv_heads), tp_size) == share


def test_memory_adds_weights_cache_activations_and_workspace() -> None:
    device = replace(load_gpu("l4"), capacity_bytes=100 * MIB)
    usage = memory(model(), device, Precision(16, 16, 16, 2), 3, [(1.0, table(6 * MIB, 4 * MIB))])
    assert usage.weights_bytes == 984
    # Half of the KV heads; activations are of one GPU already.
    assert (usage.kv_cache_bytes, usage.activation_bytes) == (3 * MIB, 4 * MIB)
    assert usage.peak_bytes == 984 + 3 * MIB + 4 * MIB + 32 * MIB
    assert usage.fits
    # 90 MiB less the workspace's 32 and the weights leave 57.999 of 7 / 3 a request.
    assert usage.max_batch_size == 24


@pytest.mark.parametrize(("capacity", "fits", "batch"), [(100, True, 3), (99, False, 2)])
def test_a_batch_that_takes_all_usable_memory_fits(capacity: int, fits: bool, batch: int) -> None:
    # 58 MiB of 90: the weights, 1968 bytes, and as much as is left.
    device = replace(load_gpu("l4"), capacity_bytes=capacity * MIB)
    needed = 58 * MIB - 1968
    usage = memory(model(), device, Precision(16, 16, 16, 1), 3, [(1.0, table(needed - 99, 99))])
    assert (usage.fits, usage.max_batch_size) == (fits, batch)


def test_no_batch_fits_where_the_weights_exceed_the_memory() -> None:
    device = replace(load_gpu("l4"), capacity_bytes=32 * MIB)
    usage = memory(model(), device, Precision(16, 16, 16, 1), 1, [(1.0, table(10, 10))])
    assert (usage.fits, usage.max_batch_size) == (False, 0)


def test_a_mixture_has_expected_bytes_and_must_fit_its_largest() -> None:
    device = replace(load_gpu("l4"), capacity_bytes=100 * MIB)
    parts = [(0.25, table(40 * MIB, 8 * MIB)), (0.75, table(4 * MIB, 16 * MIB))]
    usage = memory(model(), device, Precision(16, 16, 16, 1), 1, parts)
    assert (usage.kv_cache_bytes, usage.activation_bytes) == (13 * MIB, 14 * MIB)
    # The first needs 48 MiB of 57.99.
    assert (usage.fits, usage.max_batch_size) == (True, 1)


def test_one_more_token_takes_its_bytes_in_every_self_attention_layer() -> None:
    full = Layer(hidden_size=4, heads=6, kv_heads=3, head_size=2, intermediate_size=3)
    cross = replace(full, name="cross", kv_heads=6, attention="cross")
    wide = replace(full, name="wide", head_size=4)
    vlm = model(layer_kinds=(full, cross, wide), layer_pattern=(0, 1, 0, 2))
    # Key and value of three heads: 12, none, 12 and 24 elements.
    assert kv_bytes_per_token(vlm, 16) == 48 * 2
    assert kv_bytes_per_token(vlm, 8) == 48
    assert kv_bytes_per_token(vlm, 4) == 24
