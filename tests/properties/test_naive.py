"""The closed forms against counting by definition, to the integer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asymsim.core.model_arrays import Precision
from asymsim.core.operators.layout import DECODE, HEAD, PREFILL, PROJECTOR, VISION
from asymsim.core.workspace import (
    FIRST_STEP_FLOPS,
    FIRST_STEP_TORCH_FLOPS,
    KV_FINAL_BYTES,
    KV_PAGED_BYTES,
    KV_PREFILL_BYTES,
)
from asymsim.methods.schedule import IDENTITY
from oracles.naive import count
from properties.schedules import schedules, table
from properties.strategies import loads, models


@pytest.mark.parametrize("framework", [False, True], ids=["exact", "torch"])
@given(data=st.data())
def test_flops_of_every_phase_are_those_counted_one_by_one(framework: bool, data: st.DataObject) -> None:
    model = data.draw(models())
    load = data.draw(loads(model))
    schedule = data.draw(schedules(model, encoder=True, added=False))
    column = "torch_flops" if framework else "flops"
    result, expected = table(model, schedule, load), count(model, schedule, load, framework)
    assert result.flops(VISION, column) == expected.tower
    assert result.flops(PROJECTOR, column) == expected.projector
    assert result.flops(PREFILL, column) == sum(expected.prefill_layers) + expected.head
    assert result.flops(DECODE, column) == sum(expected.decode_steps)
    if expected.decode_steps:
        first = FIRST_STEP_TORCH_FLOPS if framework else FIRST_STEP_FLOPS
        assert result.totals[first] == expected.decode_steps[0]


@given(data=st.data())
def test_tokens_of_every_layer_are_those_of_the_rules_in_fractions(data: st.DataObject) -> None:
    model = data.draw(models())
    load = data.draw(loads(model))
    schedule = data.draw(schedules(model))
    result, expected = table(model, schedule, load), count(model, schedule, load).tokens
    assert result.visual.tolist() == [place.after for place in expected.lm]
    assert result.text.tolist() == [place.text for place in expected.lm]


@given(data=st.data(), bits=st.sampled_from([4, 8, 16, 32]))
def test_cache_bytes_are_those_of_the_simulated_heads(data: st.DataObject, bits: int) -> None:
    model = data.draw(models())
    load = data.draw(loads(model))
    schedule = data.draw(schedules(model))
    result = table(model, schedule, load, Precision(16, 16, bits, 1))
    expected = count(model, schedule, load, kv_bits=bits)
    assert result.totals[KV_PREFILL_BYTES] == expected.kv_prefill_bytes
    assert result.totals[KV_FINAL_BYTES] == expected.kv_final_bytes
    assert result.totals[KV_PAGED_BYTES] >= expected.kv_final_bytes


@given(data=st.data())
def test_dense_layers_alone_add_up_to_the_model(data: st.DataObject) -> None:
    model = data.draw(models())
    load = data.draw(loads(model))
    result, expected = table(model, IDENTITY, load), count(model, IDENTITY, load)
    rows = result.rows[(result.rows["phase"] == PREFILL) & (result.rows["name"] != HEAD)]
    assert rows["flops"].sum() == sum(expected.prefill_layers)
