"""Wrong types and names in every public dataclass: one refusal of ours each, with the field and the value."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import pkgutil
from collections.abc import Callable, Mapping
from fractions import Fraction
from inspect import isabstract
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import asymsim
from asymsim import AsymsimError, InputError, Scenario, UnknownNameError
from asymsim.catalogue.gpu import Gpu, load_gpu
from asymsim.util.errors import FieldError
from asymsim.util.strict import strict_dataclass


def strict_classes() -> list[type]:
    """Every dataclass of the package that validates its fields."""
    classes = set()
    for module in pkgutil.walk_packages(asymsim.__path__, "asymsim."):
        if module.name != "asymsim.__main__":
            classes |= {
                value
                for value in vars(importlib.import_module(module.name)).values()
                if isinstance(value, type) and hasattr(value, "__pydantic_validator__") and not isabstract(value)
            }
    return sorted(classes, key=lambda cls: f"{cls.__module__}.{cls.__qualname__}")


CLASSES = strict_classes()
# Of each type, values that Python or pydantic would take for one of it.
WRONG: dict[type, tuple[Any, ...]] = {
    int: (True, False, "5", b"5", 5.0, 5.5, Fraction(5), None, [5]),
    float: (True, "0.5", b"0.5", None, [0.5], 1j),
    bool: (1, 0, "true", b"true", None, np.True_),
    str: (5, True, b"text", None, ["text"]),
}


def alternatives(hint: Any) -> tuple[Any, ...]:
    """The types that a field may have."""
    origin = get_origin(hint)
    if origin is Annotated:
        return alternatives(get_args(hint)[0])
    if origin in (Union, UnionType):
        return tuple(each for part in get_args(hint) for each in alternatives(part))
    return (origin or hint,) if origin is not Literal else (str,)


FIELDS = [
    pytest.param(cls, name, hint, id=f"{cls.__module__.removeprefix('asymsim.')}.{cls.__qualname__}.{name}")
    for cls in CLASSES
    for name, hint in get_type_hints(cls, include_extras=True).items()
    if name in {field.name for field in dataclasses.fields(cls)}
]


def test_the_public_dataclasses_are_among_those_tested() -> None:
    public = {value for name in asymsim.__all__ if dataclasses.is_dataclass(value := getattr(asymsim, name))}
    assert len(public) >= 8
    assert public <= set(CLASSES)
    assert len(CLASSES) > 70
    assert len(FIELDS) > 300


def fitting(hint: Any) -> Any:
    """Any value of a type; ``__post_init__``, which might refuse it, runs only where all types are right."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated or origin in (Union, UnionType):
        return fitting(arguments[0])
    if origin is Literal:
        return arguments[0]
    if (origin or hint) in (int, float, str, bool, dict, list):
        return (origin or hint)()
    if origin is tuple:
        return () if arguments[-1] is Ellipsis else tuple(map(fitting, arguments))
    if origin in (Mapping, Callable):
        return {} if origin is Mapping else print
    abstract = dict.fromkeys(getattr(hint, "__abstractmethods__", ()))
    return object.__new__(type("Fitting", (hint,), abstract) if abstract else hint)


def required_values(cls: type) -> dict[str, Any]:
    if cls is Gpu:
        # Its validators look at values as they come.
        return {field.name: getattr(load_gpu("h100_sxm"), field.name) for field in dataclasses.fields(cls)}
    hints = get_type_hints(cls, include_extras=True)
    return {
        field.name: fitting(hints[field.name])
        for field in dataclasses.fields(cls)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }


@pytest.mark.parametrize(("cls", "name", "hint"), FIELDS)
def test_a_value_of_another_type_is_refused_with_field_and_value(cls: type, name: str, hint: Any) -> None:
    types = alternatives(hint)
    scalars = [each for each in types if each in WRONG]
    # A text is no list, a number no object, and a list no mapping.
    values = WRONG[scalars[0]] if scalars else ("text", 5, True)
    for value in values:
        if (value is None and NoneType in types) or type(value) in types or Any in types:
            continue
        with pytest.raises(FieldError) as caught:
            cls(**{**required_values(cls), name: value})
        assert caught.value.field.split(".")[0] == name
        assert caught.value.value is value
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__qualname__)
def test_an_unknown_field_is_refused_by_name(cls: type) -> None:
    with pytest.raises(UnknownNameError, match="no_such_field"):
        cls(**required_values(cls), no_such_field=1)


COUNTS = ("text_tokens", "output_tokens", "batch_size", "num_images", "image_height", "visual_tokens", "tp_size")


@pytest.mark.parametrize("field", COUNTS)
@pytest.mark.parametrize("value", [True, "5", b"5", 5.0, np.float64(5), np.True_, [5], {}, object(), 5 + 0j])
def test_no_count_of_a_scenario_is_made_from_another_type(field: str, value: Any) -> None:
    with pytest.raises(InputError, match="give a whole number") as caught:
        Scenario(**{"model": "llava-1.5-7b", field: value})
    assert caught.value.field == field
    assert caught.value.value is value


@pytest.mark.parametrize("make", [int, np.int64, np.int32, np.uint8])
def test_a_count_may_be_a_number_of_numpy(make: Callable[[int], Any]) -> None:
    scenario = Scenario(model="llava-1.5-7b", text_tokens=make(7), method="fastv", keep=make(1))
    assert type(scenario.text_tokens) is int
    assert scenario.text_tokens == 7
    assert type(scenario.keep) is float


@pytest.mark.parametrize("value", [10**400, 10**5000, -(10**5000)], ids=["large", "huge", "negative"])
def test_a_number_beyond_all_bounds_is_refused_in_one_line(value: int) -> None:
    for field in ("tp_size", "keep"):
        with pytest.raises(InputError) as caught:
            asymsim.estimate(Scenario(**{"model": "llava-1.5-7b", "method": "fastv", field: value}))
        assert len(str(caught.value)) < 200


def test_a_missing_field_is_named() -> None:
    with pytest.raises(InputError, match="model = None: is missing"):
        Scenario()


def test_a_misspelt_field_is_told_its_neighbour() -> None:
    with pytest.raises(UnknownNameError, match=r"batch_sise.*did you mean batch_size\?"):
        Scenario(model="llava-1.5-7b", batch_sise=3)


@strict_dataclass
class Sample:
    """One field of each kind."""

    pairs: tuple[tuple[int, int], ...] = ()
    names: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    choice: Literal["left", "right"] = "left"


def test_lists_are_tuples_where_the_field_is_one_and_nowhere_else() -> None:
    sample = Sample(pairs=[[1, np.int64(2)], (3, 4)], names={"x": [1, 2]})
    assert sample.pairs == ((1, 2), (3, 4))
    assert sample.names == {"x": [1, 2]}
    for wrong in ([[1, True]], [[1, 2, 3]], "ab", {1: 2}):
        with pytest.raises(InputError) as caught:
            Sample(pairs=wrong)
        assert caught.value.field.split(".")[0] == "pairs"


def test_a_choice_is_told_the_words() -> None:
    with pytest.raises(InputError, match="choice = 'up': give 'left' or 'right'"):
        Sample(choice="up")


ANYTHING = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.lists(st.integers()),
    st.complex_numbers(), st.dictionaries(st.text(), st.integers()), st.builds(object),
)  # fmt: skip


@given(st.dictionaries(st.sampled_from([field.name for field in dataclasses.fields(Scenario)]), ANYTHING))
def test_a_scenario_of_anything_is_made_or_refused(values: dict[str, Any]) -> None:
    scenario = Scenario(model="llava-1.5-7b")
    # Anything but an error of ours fails the test.
    with contextlib.suppress(AsymsimError):
        scenario = Scenario(**values)
    for name in COUNTS:
        assert type(getattr(scenario, name)) in (int, NoneType)
