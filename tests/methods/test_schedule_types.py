"""The types people write schedules in, and how they meet a model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest

from asymsim.catalogue.load import load_model
from asymsim.estimator.schedule_arrays import schedule_arrays
from asymsim.methods.schedule import (
    IDENTITY,
    KvPolicy,
    Operation,
    Recycle,
    Schedule,
    Step,
    TextEviction,
    compose,
    drop_count,
    keep_count,
    keep_share,
)
from asymsim.util.errors import InputError
from asymsim.util.fractions import exact, share_of_all

LLAVA, LLAMA = load_model("llava-1.5-7b"), load_model("llama-3.1-8b")


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (0.1, Fraction(1, 10)),
        ("1/3", Fraction(1, 3)),
        (0.222, Fraction(111, 500)),
        (1, Fraction(1)),
        (1 / 9, Fraction(1, 9)),
        (Fraction(2, 7), Fraction(2, 7)),
    ],
)
def test_a_decimal_means_the_fraction_that_a_person_wrote(given: object, meant: Fraction) -> None:
    assert exact(given) == meant  # type: ignore[arg-type]


@pytest.mark.parametrize("given", [float("nan"), float("inf"), "many", "1/0", ""])
def test_no_number_is_no_share(given: object) -> None:
    with pytest.raises(InputError) as caught:
        exact(given, "keep")  # type: ignore[arg-type]
    assert caught.value.field == "keep"


@pytest.mark.parametrize("given", [-0.1, 1.0001, "3/2", -1])
def test_a_share_lies_between_0_and_1(given: object) -> None:
    with pytest.raises(InputError, match="between 0 and 1"):
        share_of_all(given)  # type: ignore[arg-type]


@pytest.mark.parametrize("make", [keep_count, drop_count])
def test_counts_are_not_negative(make: object) -> None:
    with pytest.raises(InputError, match="count"):
        make(-1)  # type: ignore[operator]


def test_types_are_frozen_and_know_their_fields() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        keep_share(0.5).share = Fraction(1)  # type: ignore[misc]
    with pytest.raises(InputError, match="stage = 'middle'"):
        Step(stage="middle")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="did you mean steps"):
        Schedule(stpes=())  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("schedule", "field"),
    [
        (Schedule(steps=(keep_share(0.5, layer=32),)), "layer"),
        (Schedule(steps=(keep_share(0.5, stage="encoder", layer=24),)), "layer"),
        (Schedule(steps=(keep_share(0.5, layer=99),), masking=True), "layer"),
        (Schedule(operations=(Operation(kind="gemm", stage="lm", layer=40),)), "layer"),
        (Schedule(operations=(Operation(kind="gemm", stage="lm"),)), "layer"),
        (Schedule(unfused=(("lm", 32),)), "layer"),
        (Schedule(unfused=(("encoder", -1),)), "layer"),
        (Schedule(kv=KvPolicy(share=(Fraction(1), Fraction(1)))), "kv share"),
        (Schedule(kv=KvPolicy(plus=(0,) * 33)), "kv plus"),
        (Schedule(kv=KvPolicy(share=())), "kv share"),
        (Schedule(operations=(Operation(kind="gemm", stage="kv", rows="tokns"),)), "rows"),
        (Schedule(operations=(Operation(kind="gemm", stage="kv", inner="2*2*2*2*2"),)), "inner"),
        (Schedule(operations=(Operation(kind="gemm", stage="kv", times="-1"),)), "times"),
    ],
)
def test_what_the_model_does_not_have_is_refused(schedule: Schedule, field: str) -> None:
    with pytest.raises(InputError) as caught:
        schedule_arrays(schedule, LLAVA)
    assert caught.value.field == field


def test_a_text_model_has_no_encoder_to_prune() -> None:
    with pytest.raises(InputError, match="encoder"):
        schedule_arrays(Schedule(steps=(keep_share(0.5, stage="encoder"),)), LLAMA)


def test_equal_layers_fold_into_segments() -> None:
    assert schedule_arrays(IDENTITY, LLAVA).lm_starts.tolist() == [0, 32]
    assert schedule_arrays(IDENTITY, LLAMA).tower_starts.tolist() == [0]
    pruned = Schedule(
        steps=(keep_share(0.5, layer=2), keep_count(9, layer=16), keep_share(0.5, stage="encoder_mlp", layer=3)),
        unfused=(("lm", 1), ("encoder", 22)),
        kv=KvPolicy(share=(Fraction(1),) * 30 + (Fraction(1, 2),) * 2),
    )
    arrays = schedule_arrays(pruned, LLAVA)
    assert arrays.lm_starts.tolist() == [0, 1, 2, 16, 30, 32]
    assert arrays.lm_unfused.tolist() == [0, 1, 0, 0, 0]
    assert arrays.tower_starts.tolist() == [0, 3, 4, 22, 23, 24]
    assert arrays.tower_unfused.tolist() == [0, 0, 0, 1, 0]
    assert arrays.pruning_steps["segment"].tolist() == [2, 3, 1]
    assert arrays.kv_rule["den"].tolist() == [1, 1, 1, 1, 2]
    assert len(schedule_arrays(dataclasses.replace(pruned, masking=True), LLAVA).pruning_steps) == 0


def test_composition_keeps_both_sides_and_refuses_two_of_a_kind() -> None:
    vision = Schedule(steps=(keep_share(0.5),), unfused=(("lm", 1),), masking=True)
    cache = Schedule(kv=KvPolicy(plus=(5,)), unfused=(("lm", 1), ("lm", 2)))
    text = Schedule(text_eviction=TextEviction(threshold_tokens=1, retain=Fraction(1, 2)))
    both = compose(compose(vision, cache), text)
    assert (both.steps, both.kv, both.text_eviction) == (vision.steps, cache.kv, text.text_eviction)
    assert both.unfused == (("lm", 1), ("lm", 2))
    assert both.masking
    assert compose(IDENTITY, IDENTITY) == IDENTITY
    for twice in (cache, text):
        with pytest.raises(InputError, match="method"):
            compose(twice, twice)


def test_literals_of_operations_are_shared_and_exact() -> None:
    operation = Operation(kind="gemm", stage="kv", rows="7*kv", columns="7", inner="head_size*heads*2", times="1")
    arrays = schedule_arrays(Schedule(operations=(operation,)), LLAVA)
    assert sorted(arrays.literals.tolist()) == [1, 2, 7]
    # Of "7*kv" two factors are named; the other two are the same literal 1.
    assert np.unique(arrays.operations["rows"][..., 0]).size == 3


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: keep_share(0.5, layer=-1), "layer"),
        (lambda: Step(stage="lm", share=Fraction(3, 2)), "share"),
        (lambda: Step(stage="lm", at_least=Fraction(-1, 2)), "at_least"),
        (lambda: Step(stage="encoder", target="text"), "target"),
        (lambda: Recycle(divisor=0), "divisor"),
        (lambda: Recycle(share=Fraction(2)), "share"),
        (lambda: Recycle(extra=-1), "extra"),
        (lambda: KvPolicy(share=(Fraction(2),)), "kv share"),
        (lambda: KvPolicy(full_heads=Fraction(-1)), "full_heads"),
        (lambda: TextEviction(threshold_tokens=-1, retain=Fraction(1)), "threshold_tokens"),
        (lambda: TextEviction(threshold_tokens=1, retain=Fraction(2)), "retain"),
    ],
)
def test_a_rule_out_of_range_cannot_be_made(make: Callable[[], object], field: str) -> None:
    with pytest.raises(InputError, match=field):
        make()
