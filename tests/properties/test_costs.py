"""How costs scale: with the batch, the layers, the text and the output; and what they add up to."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from asymsim.core.estimate import COUNT_COLUMNS, TIME_COLUMNS, evaluate_rows
from asymsim.core.operators.layout import DECODE, DECODE_SELECTION, PHASE_NAMES, PREFILL, SELECTION
from asymsim.core.workspace import FIRST_STEP_FLOPS, FIRST_STEP_TORCH_FLOPS, workspace
from asymsim.estimator.model_arrays import model_arrays
from asymsim.estimator.schedule_arrays import schedule_arrays
from asymsim.methods.schedule import IDENTITY, Schedule
from properties.schedules import BF16, GPU, schedules, table
from properties.strategies import loads, models

PHASES = range(len(PHASE_NAMES))


@given(data=st.data())
def test_no_count_exceeds_the_frameworks(data: st.DataObject) -> None:
    model = data.draw(models())
    load = data.draw(loads(model))
    result = table(model, data.draw(schedules(model)), load)
    assert (result.rows["flops"] <= result.rows["torch_flops"]).all()
    assert result.totals[FIRST_STEP_FLOPS] <= result.totals[FIRST_STEP_TORCH_FLOPS]


@given(data=st.data(), times=st.integers(2, 1000))
def test_flops_and_cache_are_proportional_to_the_batch(data: st.DataObject, times: int) -> None:
    model = data.draw(models())
    load = data.draw(loads(model))
    schedule = data.draw(schedules(model))
    one = table(model, schedule, load)
    many = table(model, schedule, load._replace(batch_size=load.batch_size * times))
    for phase in PHASES:
        assert many.flops(phase) == times * one.flops(phase)
        assert many.flops(phase, "torch_flops") == times * one.flops(phase, "torch_flops")
        assert many.phase_seconds[phase] <= times * one.phase_seconds[phase] * (1 + 1e-9)
        assert many.phase_seconds[phase] >= one.phase_seconds[phase] * (1 - 1e-12)
    assert many.totals.tolist() == (times * one.totals).tolist()


@given(data=st.data())
def test_weights_are_read_once_a_pass_whatever_the_batch(data: st.DataObject) -> None:
    # With experts, more tokens touch more of them.
    model = data.draw(models())
    load = data.draw(loads(model))
    one, many = (table(model, IDENTITY, load._replace(batch_size=batch)).rows["weight_bytes"] for batch in (1, 7))
    layers = (*model.language_model.layer_kinds, *(model.vision_tower.layer_kinds if model.vision_tower else ()))
    if any(kind.experts for kind in layers):
        assert one.sum() <= many.sum() <= 7 * one.sum()
    else:
        assert one.sum() == many.sum()


@given(data=st.data())
def test_an_appended_layer_adds_what_it_costs_alone(data: st.DataObject) -> None:
    model = data.draw(models())
    load = data.draw(loads(model))
    text = model.language_model
    pattern = text.layer_pattern
    added = data.draw(st.integers(0, len(text.layer_kinds) - 1))

    def of(chosen: tuple[int, ...]) -> np.ndarray:
        result = table(replace(model, language_model=replace(text, layer_pattern=chosen)), IDENTITY, load)
        dense = [result.flops(phase) for phase in (PREFILL, DECODE)]
        return np.array([*dense, *result.totals[:FIRST_STEP_FLOPS].tolist()])

    # The head belongs to no layer and counts in each of the three.
    heads = 2 * text.vocab_size * text.hidden_size * load.batch_size * np.array([1, load.output_tokens - 1, 0, 0, 0])
    whole, before, alone = of((*pattern, added)), of(pattern), of((added,))
    assert (whole == before + alone - heads).all()
    assert (whole >= before).all()


@given(data=st.data(), more=st.integers(1, 40))
def test_longer_text_and_output_never_cost_less(data: st.DataObject, more: int) -> None:
    model = data.draw(models())
    load = data.draw(loads(model))
    schedule = replace(data.draw(schedules(model, added=False)), text_eviction=None)
    base = table(model, schedule, load)
    longer = table(model, schedule, load._replace(text_tokens=load.text_tokens + more))
    further = table(model, schedule, load._replace(output_tokens=load.output_tokens + more))
    chunked = any(kind.chunk_tokens for kind in model.language_model.layer_kinds)
    for phase in PHASES:
        assert further.flops(phase) >= base.flops(phase)
        assert further.phase_seconds[phase] >= base.phase_seconds[phase] * (1 - 1e-12)
        if phase != DECODE or not chunked:
            assert longer.flops(phase) >= base.flops(phase)
            assert longer.phase_seconds[phase] >= base.phase_seconds[phase] * (1 - 1e-12)
    assert (further.totals >= base.totals).all()
    assert (longer.totals[:FIRST_STEP_FLOPS] >= base.totals[:FIRST_STEP_FLOPS]).all()


@given(data=st.data())
def test_rows_add_up_to_the_figures_of_a_sweep_and_fit_the_workspace(data: st.DataObject) -> None:
    model = data.draw(models())
    load = data.draw(loads(model))
    schedule: Schedule = data.draw(schedules(model))
    arrays, rules = model_arrays(model), schedule_arrays(schedule, model)
    work = workspace(arrays, rules)
    # Other rows before this one must leave no trace in it.
    other = data.draw(loads(model))
    batch = np.array([other, load, other, load], np.int64)
    counts, times = np.empty((4, len(COUNT_COLUMNS)), np.int64), np.empty((4, len(TIME_COLUMNS)))
    rows = evaluate_rows(arrays, rules, batch, BF16, GPU, work, counts, times)
    assert rows <= len(work.operators)
    alone = table(model, schedule, load)
    assert counts[1].tolist() == counts[3].tolist()
    np.testing.assert_array_equal(times[1], times[3])
    by_name = dict(zip(COUNT_COLUMNS, counts[3].tolist(), strict=True))
    assert by_name["prefill_flops"] == alone.flops(PREFILL)
    assert by_name["selection_flops"] == alone.flops(SELECTION) + alone.flops(DECODE_SELECTION)
    assert sum(
        by_name[f"{name}_flops"] for name in ("vision_tower", "projector", "selection", "prefill", "decode")
    ) == (alone.rows["flops"].sum())
    np.testing.assert_allclose(times[3, TIME_COLUMNS.index("e2e_s")], alone.phase_seconds.sum(), rtol=1e-12)
