"""The ``keep`` of a pruning method that meets a budget, as nearly as its integer rules allow."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from asymsim.estimator.estimate import estimate
from asymsim.estimator.result import Estimate
from asymsim.estimator.scenario import Scenario
from asymsim.methods.base import registered_methods as registry
from asymsim.util.errors import InputError, UnsupportedError

# ``keep`` is solved to four digits, so that the printed value gives the same figures again.
GRID = 10_000
# Farther from the budget than this, or than one token, is said in the note.
TOLERANCE = 0.005

Match = Literal["budget", "keep"]


def family_of(name: str) -> str:
    """The family of a method, or of the first of two joined by "+"."""
    return registry()[name.split("+")[0]].family


def with_method(scenario: Scenario, name: str, settings: Mapping[str, Any], keep: float | None) -> Scenario:
    """The scenario under a method, with the settings that are written for it."""
    parts = name.split("+")
    method_settings = {key: value for key, value in settings.items() if key.split(".")[0] in parts}
    keep = None if name == "none" else keep
    return dataclasses.replace(scenario, method=name, keep=keep, settings=method_settings, schedule=None)


@dataclasses.dataclass(frozen=True)
class SolvedKeep:
    """Estimate of a method at the ``keep`` solved for a budget, with a note; None where the method cannot run."""

    result: Estimate | None
    keep: float | None
    note: str


class Ladder:
    """Kept share of a method as a function of its ``keep``, evaluated on a grid and on demand.

    Kept shares never fall as ``keep`` grows. A method may refuse a ``keep`` that its other settings do not
    allow (PyramidDrop's early layers see everything), so the grid ends where it is accepted.
    """

    def __init__(self, scenario: Scenario, name: str, settings: Mapping[str, Any], dense: Estimate) -> None:
        self.scenario, self.name, self.settings, self.dense = scenario, name, settings, dense
        self.family = family_of(name)
        self.seen: dict[int, Estimate] = {}
        usual = round(registry()[name.split("+")[0]]().keep * GRID)
        self.low = _edge(self._allowed, 0, usual)
        self.high = _edge(self._allowed, GRID, usual)

    def _allowed(self, step: int) -> bool:
        try:
            self.at(step)
        except UnsupportedError:
            raise
        except InputError:
            return False
        return True

    def at(self, step: int) -> Estimate:
        if step not in self.seen:
            self.seen[step] = estimate(with_method(self.scenario, self.name, self.settings, step / GRID))
        return self.seen[step]

    def kept(self, step: int) -> float:
        return kept_share(self.at(step), self.dense, self.family)

    def nearest(self, budget: float) -> int:
        """The step whose kept share is nearest to the budget."""
        low, high = self.low, self.high
        while low < high:
            middle = (low + high) // 2
            if self.kept(middle) < budget:
                low = middle + 1
            else:
                high = middle
        # The budget itself comes first: where it is as near as any other it is the value to read.
        plain = min(max(round(budget * GRID), self.low), self.high)
        return min((plain, low, max(self.low, low - 1)), key=lambda step: abs(self.kept(step) - budget))

    def note(self, budget: float) -> str:
        """Note where the budget is farther from any kept share than one token; else empty."""
        tokens = self.dense.workload.visual_tokens
        resolution = max(TOLERANCE, 1 / tokens if tokens and self.family == "vision" else 0.0)
        lowest, highest = self.kept(self.low), self.kept(self.high)
        if budget < lowest - resolution:
            return f"nearest: cannot go below {100 * lowest:.3g} %"
        if budget > highest + resolution:
            return f"nearest: cannot go above {100 * highest:.3g} %"
        if abs(self.kept(self.nearest(budget)) - budget) > resolution:
            return "nearest: its whole numbers step over this budget"
        return ""


def _edge(allowed: Callable[[int], bool], end: int, inside: int) -> int:
    """The allowed step nearest to ``end``, given one that is allowed."""
    if allowed(end):
        return end
    while abs(inside - end) > 1:
        middle = (inside + end) // 2
        if allowed(middle):
            inside = middle
        else:
            end = middle
    return inside


def kept_share(result: Estimate, dense: Estimate, family: str) -> float:
    """Share of the visual tokens in the mean layer, or of the cache after prefill for the family "kv"."""
    if family == "kv":
        return result.kv_cache.prefill_bytes / max(1, dense.kv_cache.prefill_bytes)
    return result.schedule.mean_visual_tokens / max(1.0, dense.schedule.mean_visual_tokens)


def solve_keep(
    scenario: Scenario,
    name: str,
    settings: Mapping[str, Any],
    dense: Estimate,
    budgets: Sequence[float],
    match: Match,
) -> list[SolvedKeep]:
    """The method at each budget; where it cannot run, a reason in place of figures."""
    if name == "none":
        return [SolvedKeep(dense, 1.0, "") for _ in budgets]
    if family_of(name) == "vision" and dense.workload.visual_tokens == 0:
        return [SolvedKeep(None, None, "not for this load: it has no visual tokens") for _ in budgets]
    try:
        if match == "keep":
            return [
                SolvedKeep(estimate(with_method(scenario, name, settings, budget)), budget, "") for budget in budgets
            ]
        ladder = Ladder(scenario, name, settings, dense)
        about = "budget is the share of the cache after prefill" if ladder.family == "kv" else ""
        steps = [ladder.nearest(budget) for budget in budgets]
        notes = ["; ".join(filter(None, (about, ladder.note(budget)))) for budget in budgets]
        return [SolvedKeep(ladder.at(step), step / GRID, note) for step, note in zip(steps, notes, strict=True)]
    except UnsupportedError as error:
        return [SolvedKeep(None, None, f"not for this model: {error.remedy}") for _ in budgets]
    except InputError as error:
        # The scenario itself is sound, so a method that the user has not set up does not fit the model or the keep.
        if any(key.split(".")[0] in name.split("+") for key in settings):
            raise
        return [SolvedKeep(None, None, f"not here: {error}") for _ in budgets]
