"""Invariants of schedules: nothing grows, doing nothing is dense, dropping everything is the text-only model."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asymsim.catalogue.model import VlmModel
from asymsim.core.operators.layout import DECODE, OPERATOR, OPERATOR_NAMES, PHASE_NAMES, PREFILL, PROJECTOR, VISION
from asymsim.core.token_counts import TokenCounts
from asymsim.core.workspace import ACTIVATION_BYTES, FIRST_STEP_FLOPS
from asymsim.estimator.operator_table import OperatorTable
from asymsim.methods.schedule import IDENTITY, KvPolicy, Recycle, Schedule, Step, TextEviction
from properties.schedules import SHARES, schedules, stages_of, steps, table
from properties.strategies import loads, models

COSTS = ("flops", "torch_flops", "elementwise_flops", "weight_bytes", "read_bytes", "write_bytes", "kv_read_bytes",
         "kv_write_bytes", "count")  # fmt: skip


def costs(result: OperatorTable, *phases: int) -> dict[tuple[int, int], tuple[int, ...]]:
    """Every cost by phase and operator, however the layers were cut into segments."""
    rows = result.rows
    return {
        (phase, name): tuple(int(rows[cost][(rows["phase"] == phase) & (rows["name"] == name)].sum()) for cost in COSTS)
        for phase in phases or range(len(PHASE_NAMES))
        for name in range(len(OPERATOR_NAMES))
    }


def assert_same(one: OperatorTable, other: OperatorTable) -> None:
    assert costs(one) == costs(other)
    assert one.totals.tolist() == other.totals.tolist()
    for name in ("visual", "text", "kv", "final_kv"):
        assert getattr(one, name).tolist() == getattr(other, name).tolist()
    # Sums of the same times in another order.
    np.testing.assert_allclose(one.phase_seconds, other.phase_seconds, rtol=1e-12)


@given(data=st.data())
def test_counts_never_grow_and_costs_are_never_negative(data: st.DataObject) -> None:
    model = data.draw(models())
    load = data.draw(loads(model))
    result = table(model, data.draw(schedules(model)), load)
    dense = table(model, IDENTITY, load)
    for counts, most in ((result.visual, load.visual_tokens), (result.text, load.text_tokens)):
        assert all(0 <= after <= before for before, after in pairwise([most, *counts.tolist()]))
    assert (result.kv >= 0).all()
    assert (result.kv <= dense.kv).all()
    assert (result.kv <= result.final_kv).all()
    assert (result.final_kv <= dense.final_kv).all()
    for name in OPERATOR.names or ():
        # A layer index may only be 0 or more too: -1 stands for all layers and must have been resolved.
        assert (result.rows[name] >= 0).all()
    assert (result.totals >= 0).all()
    assert (result.phase_seconds >= 0).all()


@st.composite
def idle_steps(draw: st.DrawFn, model: VlmModel) -> Step:
    """A step that keeps all of the tokens, with recycling that never finds any to recycle."""
    step = draw(steps(model, stages_of(model)))
    kept = draw(st.sampled_from([{"share": Fraction(1), "plus": 0}, {"plus": 10**6}, {"at_least": Fraction(1)}]))
    return replace(step, **kept, recycled=Recycle(share=Fraction(1), extra=3))


@given(data=st.data())
def test_keeping_everything_is_dense_to_the_bit(data: st.DataObject) -> None:
    model = data.draw(models())
    load = data.draw(loads(model))
    layers = len(model.language_model.layer_pattern)
    idle = Schedule(
        steps=tuple(data.draw(st.lists(idle_steps(model), max_size=5))),
        kv=data.draw(
            st.sampled_from(
                [
                    KvPolicy(share=(Fraction(1),) * layers),
                    KvPolicy(full_heads=Fraction(1), share=(Fraction(0),), hold=True),
                    KvPolicy(plus=tuple(range(layers))),
                ]
            )
        ),
        text_eviction=data.draw(
            st.sampled_from(
                [
                    None,
                    TextEviction(threshold_tokens=0, retain=Fraction(1)),
                    TextEviction(threshold_tokens=10**6, retain=Fraction(0)),
                ]
            )
        ),
    )
    assert_same(table(model, idle, load), table(model, IDENTITY, load))


@given(data=st.data())
def test_masking_saves_nothing(data: st.DataObject) -> None:
    model = data.draw(models())
    load = data.draw(loads(model))
    schedule = replace(data.draw(schedules(model)), operations=(), unfused=(), kv=KvPolicy(), text_eviction=None)
    assert_same(table(model, replace(schedule, masking=True), load), table(model, IDENTITY, load))


@pytest.mark.parametrize("stage", ["lm", "encoder_end", "encoder"])
@given(data=st.data())
def test_without_visual_tokens_the_language_model_is_that_of_text_alone(stage: str, data: st.DataObject) -> None:
    model = data.draw(models(vision=True, windows=False))
    load = data.draw(loads(model, images=st.integers(1, 3)))
    dropped = table(model, Schedule(steps=(Step(stage=stage),)), load)
    text_model = VlmModel(name="text", model_type="llama", language_model=model.language_model)
    text = TokenCounts(0, 0, 0, 0, 0, 0, 0, load.text_tokens, load.output_tokens, load.batch_size)
    alone = table(text_model, IDENTITY, text)
    phases = (PREFILL, DECODE)
    assert costs(dropped, *phases) == costs(alone, *phases)
    assert dropped.totals[:ACTIVATION_BYTES].tolist() == alone.totals[:ACTIVATION_BYTES].tolist()
    assert dropped.kv.tolist() == alone.kv.tolist()
    no_images = table(model, IDENTITY, text)
    assert costs(no_images) == costs(alone)
    assert no_images.totals.tolist() == alone.totals.tolist()


@given(data=st.data(), share=SHARES, less=SHARES)
def test_keeping_more_visual_tokens_never_costs_less(data: st.DataObject, share: Fraction, less: Fraction) -> None:
    model = data.draw(models(vision=True))
    load = data.draw(loads(model, images=st.integers(1, 3)))
    schedule = data.draw(schedules(model, added=False))
    step = replace(data.draw(steps(model, stages_of(model))), target="visual", plus=0)
    at = data.draw(st.integers(0, len(schedule.steps)))
    few, many = (
        table(
            model,
            replace(schedule, steps=(*schedule.steps[:at], replace(step, share=kept), *schedule.steps[at:])),
            load,
        )
        for kept in sorted((share, less))
    )
    assert (few.visual <= many.visual).all()
    assert (few.kv <= many.kv).all()
    # With chunks a decode step sees the prompt's length modulo the chunk, which is not monotone.
    chunked = any(kind.chunk_tokens for kind in model.language_model.layer_kinds)
    for phase in (VISION, PROJECTOR, PREFILL) if chunked else range(len(PHASE_NAMES)):
        assert few.flops(phase) <= many.flops(phase)
        assert few.flops(phase, "torch_flops") <= many.flops(phase, "torch_flops")
        assert few.phase_seconds[phase] <= many.phase_seconds[phase] * (1 + 1e-12)
    assert (few.totals[:FIRST_STEP_FLOPS] <= many.totals[:FIRST_STEP_FLOPS]).all()
    assert few.totals[ACTIVATION_BYTES] <= many.totals[ACTIVATION_BYTES]
