"""Arguments of the public functions: wrong types are refused by name before any work."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pytest

import asymsim
from asymsim import ClusterConfig, InputError, Scenario, WorkloadSpec
from asymsim.util.arguments import checked_arguments

DENSE = Scenario(model="llava-1.5-7b")
FEW = WorkloadSpec(num_requests=1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: asymsim.estimate("x"), "scenario = 'x': give a Scenario"),
        (lambda: asymsim.estimate(DENSE, operators=1), "operators = 1: give true or false"),
        (lambda: asymsim.compare(None), "scenario = None: give a Scenario"),
        (lambda: asymsim.compare(DENSE, "fastv"), "methods = 'fastv': give a list"),
        (lambda: asymsim.compare(DENSE, [1]), "methods = [1]: give a list, each item a text"),
        (lambda: asymsim.compare(DENSE, ["fastv"], budget="0.5"), "budget = '0.5': give a number"),
        (lambda: asymsim.compare(DENSE, ["fastv"], budget=True), "budget = True: give a number"),
        (lambda: asymsim.compare(DENSE, ["fastv"], settings=3), "settings = 3: give names with their values"),
        (lambda: asymsim.savings_curves("llava-1.5-7b"), "models = 'llava-1.5-7b': give a list"),
        (
            lambda: asymsim.savings_curves(["llava-1.5-7b"], budgets=0.5),
            "budgets = 0.5: give a list",
        ),
        (lambda: asymsim.evaluate(DENSE, 5), "columns = 5: give names with their values"),
        (lambda: asymsim.evaluate(DENSE, {}, "ttft_s"), "figures = 'ttft_s': give a list"),
        (lambda: asymsim.simulate(DENSE, 5), "requests = 5: give a Requests or a WorkloadSpec"),
        (lambda: asymsim.simulate(DENSE, FEW, ClusterConfig()), "give an EngineConfig"),
        (lambda: asymsim.simulate(DENSE, FEW, events="x"), "events = 'x': give a whole number"),
        (lambda: asymsim.plan(DENSE), "give a PlanQuery"),
        (lambda: asymsim.load_model(5), "name_or_path = 5: give a text"),
        (lambda: asymsim.load_gpu(None), "name = None: give a text"),
        (lambda: asymsim.serving_metrics(5), "result = 5: give a SimulationResult"),
    ],
)
def test_a_wrong_argument_is_refused_in_one_line(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        call()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@checked_arguments
def sample(
    numbers: Sequence[float] = (),
    pairs: Mapping[str, Any] | None = None,
    word: Literal["a", "b"] = "a",
    notify: Callable[[str], None] | None = None,
    **others: Any,
) -> float:
    """A function with a parameter of each kind."""
    return float(sum(numbers))


def test_right_arguments_pass_unchanged() -> None:
    assert sample() == 0.0
    assert sample([1, 2.5, np.float32(0.5)]) == 4.0
    assert sample(np.array([1.5, 2.0])) == 3.5
    assert sample(number for number in (1.0, 2.0)) == 3.0
    assert sample([], {"x": 1}, "b", print, other=[object()]) == 0.0


@pytest.mark.parametrize(
    "arguments",
    [{"numbers": [True]}, {"numbers": ["1"]}, {"numbers": b"12"}, {"pairs": [1]}, {"word": 1}, {"notify": "print"}],
)
def test_wrong_arguments_do_not(arguments: dict[str, Any]) -> None:
    (name,) = arguments
    with pytest.raises(InputError) as caught:
        sample(**arguments)
    assert caught.value.field == name


def test_calls_of_the_wrong_shape_are_pythons_own_error() -> None:
    with pytest.raises(TypeError, match="too many positional arguments"):
        sample([], None, "a", None, 5)
