"""Models on which a method has no meaning, and settings out of range: one line each, for every registered method."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest

from asymsim.methods.base import make_method, registered_methods
from asymsim.methods.common import requirements
from asymsim.util.errors import InputError, UnknownNameError, UnsupportedError
from oracles.run_schedule import run
from oracles.small_models import CASES

METHODS = registered_methods()
NO_TOWER = {"text_only": "no vision tower"}
BEHIND_CROSS_ATTENTION = {"cross": "cross-attention alone"}
# Cases that lack what a requirement asks for, by how they are built, and words of the message.
LACKING = {
    requirements.vision_tower: NO_TOWER,
    requirements.separable_encoder_tokens: {**NO_TOWER, "merged": "merges 4 neighbours"},
    requirements.visual_tokens_in_sequence: {**NO_TOWER, **BEHIND_CROSS_ATTENTION},
    requirements.scored_cache: BEHIND_CROSS_ATTENTION,
    requirements.several_crops: {case: "as one crop" for case in CASES if case != "crops"},
}
REFUSED_SETTINGS = [(name, settings) for name, method in METHODS.items() for settings in method.refused_settings]


def lacking(name: str, case: str) -> str | None:
    """Words of the message by which a method refuses a case; None where the case has all that it requires."""
    words = (LACKING[requirement].get(case) for requirement in METHODS[name].requires)
    return next((word for word in words if word is not None), None)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", METHODS)
def test_models_without_what_a_method_requires(name: str, case: str) -> None:
    words = lacking(name, case)
    if words is None:
        assert METHODS[name]().mixture(CASES[case].model)
        return
    for make in (METHODS[name]().schedule, METHODS[name]().mixture):
        with pytest.raises(UnsupportedError, match=words) as caught:
            make(CASES[case].model)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", METHODS)
def test_schedules_stay_within_what_the_model_has(name: str) -> None:
    """By construction of the cases: nothing leaves between blocks of an encoder that merges four neighbours, no
    operator spans visual and text tokens where cross-attention keeps them apart, and no image means no visual token."""
    if lacking(name, "merged") is None:
        schedule = METHODS[name]().schedule(CASES["merged"].model)
        assert not [step for step in schedule.steps if step.stage in ("encoder", "encoder_mlp")]
    if lacking(name, "cross") is None:
        schedule = METHODS[name]().schedule(CASES["cross"].model)
        sizes = [(each.rows, each.columns, each.inner) for each in schedule.operations if each.stage in ("lm", "kv")]
        assert not [size for size in sizes if "tokens" in "*".join(size).split("*")]
    if lacking(name, "text_only") is None:
        assert set(run(METHODS[name]().schedule(CASES["text_only"].model), CASES["text_only"]).visual) == {0}


@pytest.mark.parametrize(("name", "settings"), REFUSED_SETTINGS)
def test_settings_out_of_range(name: str, settings: Mapping[str, Any]) -> None:
    accepted = next(case for case in ("cls", "crops") if lacking(name, case) is None)
    with pytest.raises(InputError) as caught:
        make_method(name, None, settings).schedule(CASES[accepted].model)
    assert name in caught.value.field
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_with_settings_has_examples_out_of_range(name: str) -> None:
    settings = {field.name for field in dataclasses.fields(METHODS[name]) if field.type not in (bool, "bool")}
    assert METHODS[name].refused_settings or settings == {"keep"}


def test_misspelt_setting() -> None:
    with pytest.raises(UnknownNameError, match="did you mean ratio"):
        make_method("pyramiddrop", None, {"rato": 0.5})
