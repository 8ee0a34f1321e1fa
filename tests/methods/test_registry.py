"""Invariants of every registered method on every shape of model; the registry is the list."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import pytest

from asymsim.methods.base import Method, make_method, registered_methods
from asymsim.methods.schedule import IDENTITY
from asymsim.util.errors import InputError, UnsupportedError
from oracles.run_schedule import Run, resized, run
from oracles.small_models import CASES, Case

NAMES = list(registered_methods())
KEEPS = (0.0, 0.05, 1 / 9, 0.25, 1 / 3, 0.5, 0.7, 0.9, 0.99, 1.0)


def attempts(name: str, case: Case) -> list[tuple[float, Run]]:
    """Runs at the kept shares that the method can have; none where it is refused outright."""
    runs = []
    for keep in KEEPS:
        try:
            schedule = make_method(name, keep).schedule(case.model)
        except UnsupportedError:
            return []
        except InputError as error:
            # Layers before the first pruning keep everything, so small means may be out of reach.
            if error.field == "keep" and keep < 0.3 and registered_methods()[name].tokens_at_zero is None:
                continue
            raise
        runs.append((keep, run(schedule, case)))
    return runs


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("name", NAMES)
def test_invariants(name: str, case: Case) -> None:
    results = attempts(name, case)
    dense = run(IDENTITY, case)
    for keep, result in results:
        assert all(0 <= here <= case.visual_tokens for here in result.visual)
        for counts in (result.tower, result.tower_mlp, result.visual, result.text):
            assert all(after <= before for before, after in pairwise(counts))
        assert all(0 <= here <= all_of_it for here, all_of_it in zip(result.kv, dense.kv, strict=True))
        assert all(min(row["flops"], row["read_bytes"], row["write_bytes"]) >= 0 for row in result.operators)
        method = registered_methods()[name]
        if keep == 0 and method.family == "vision" and method.tokens_at_zero is not None:
            assert result.visual[-1] <= method.tokens_at_zero * case.load.images * case.load.sequences
    means = [sum(result.visual) for _, result in results]
    assert means == sorted(means)
    caches = [sum(result.kv) for _, result in results]
    assert caches == sorted(caches)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("name", NAMES)
def test_keeping_everything_is_dense(name: str, case: Case) -> None:
    try:
        mixture = make_method(name, 1.0).mixture(case.model)
    except UnsupportedError:
        pytest.skip("refused on this model")
    dense = run(IDENTITY, case)
    for _, schedule in mixture:
        result = run(schedule, case)
        assert result.visual == dense.visual
        assert result.text == dense.text
        assert result.tower == dense.tower
        assert result.tower_mlp == dense.tower_mlp
        assert result.kv == dense.kv
        assert result.final_kv == dense.final_kv


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("name", NAMES)
def test_defaults_run_and_classes_add_up(name: str, case: Case) -> None:
    try:
        mixture = registered_methods()[name]().mixture(case.model)
    except UnsupportedError as error:
        refusal = str(error)
        mixture = ()
    if not mixture:
        assert case.model.name in refusal
        assert "\n" not in refusal
        return
    assert sum(share for share, _ in mixture) == pytest.approx(1, abs=1e-12)
    for share, schedule in mixture:
        assert share > 0
        run(schedule, case)


@pytest.mark.parametrize("name", NAMES)
def test_odd_token_counts(name: str) -> None:
    for visual in (2, 4, 14, 998):
        case = resized(CASES["cls"], visual)
        for _, result in attempts(name, case):
            assert all(0 <= here <= visual for here in result.visual)


@pytest.mark.parametrize("name", NAMES)
def test_documented(name: str) -> None:
    method: type[Method] = registered_methods()[name]
    assert method.source
    for field in dataclasses.fields(method):
        assert field.name in (method.__doc__ or "") or name == "none"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("keep", [-0.1, 1.1, float("nan")])
def test_share_out_of_range(name: str, keep: float) -> None:
    with pytest.raises(InputError):
        make_method(name, keep)
