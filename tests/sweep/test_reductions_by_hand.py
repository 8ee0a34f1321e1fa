"""Reductions of a few rows worked out on paper: ranks, bins, ties and what is not defined."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from asymsim.sweep.conditions import Condition
from asymsim.sweep.ranges import read_range
from asymsim.sweep.reductions.counts import Histogram, Objectives, Quantiles, Reducer
from asymsim.sweep.reductions.file import read_reducers
from asymsim.sweep.reductions.pareto_top_k import Pareto, Top

NAN, INF = math.nan, math.inf


def result_of(reducer: Reducer, *chunks: dict[str, list[float]], first: int = 0) -> dict[str, Any]:
    """The result of chunks of rows, one after another and then in two states that are merged."""
    sequential, parts, row = reducer.start(), [], first
    for chunk in chunks:
        values = {name: np.array(column, float) for name, column in chunk.items()}
        rows = np.arange(row, row + len(next(iter(values.values()))))
        sequential = reducer.add(sequential, rows, values)
        parts.append(reducer.add(reducer.start(), rows, values))
        row += len(rows)
    merged = reducer.start()
    for part in reversed(parts):
        merged = reducer.merge(part, merged)
    assert reducer.result(merged) == reducer.result(sequential)
    return reducer.result(sequential)


def test_the_sample_of_rank_ceil_q_n_lies_within_a_thousandth() -> None:
    levels = (0.0, 0.1, 0.25, 0.5, 0.51, 0.99, 1.0)
    result = result_of(
        Quantiles("q", (), "x", levels), {"x": [70.0, 10.003, 30.0, NAN, 50.0]}, {"x": [NAN, 20.0, 60.0, 40.0, 80.0]}
    )
    assert (result["count"], result["undefined"], result["least"], result["most"]) == (8, 2, 10.003, 80.0)
    # Of eight the ranks are 1 (at least), ceil(0.8), 2, 4, ceil(4.08), 8 and 8.
    ranked = (10.003, 10.003, 20.0, 40.0, 50.0, 80.0, 80.0)
    for value, quantile in zip(ranked, result["quantiles"], strict=True):
        assert quantile["low"] <= value <= quantile["high"]
        assert quantile["high"] - quantile["low"] <= value / 1024
    assert result["quantiles"][0]["low"] == 10.003
    assert result["quantiles"][-1]["high"] == 80.0


def test_quantiles_of_both_signs_and_far_apart() -> None:
    result = result_of(Quantiles("q", (), "x", (0.2, 0.4, 0.6, 0.8, 1.0)), {"x": [1e30, -1e-30, 0.0, -1e30, 1.0]})
    for value, quantile in zip((-1e30, -1e-30, 0.0, 1.0, 1e30), result["quantiles"], strict=True):
        assert quantile["low"] <= value <= quantile["high"]
        assert quantile["high"] - quantile["low"] <= max(abs(value) / 1024, 1e-300)


def test_a_bin_holds_its_lower_edge() -> None:
    values = [0.0, 1.0, 1.5, 2.0, 3.999, 4.0, -0.1, 9.0, NAN, NAN, NAN]
    result = result_of(Histogram("h", (), "x", (0.0, 1.0, 2.0, 4.0)), {"x": values[:5]}, {"x": values[5:]})
    assert result == {"edges": [0.0, 1.0, 2.0, 4.0], "counts": [1, 2, 2], "below": 1, "above": 2, "undefined": 3}


def test_ties_of_the_best_go_to_the_lowest_row() -> None:
    smallest = Top("t", (), "x", 3, largest=False)
    assert result_of(smallest, {"x": [5.0, 2.0, NAN, 2.0, 2.0, 2.0]}) == {"rows": [1, 3, 4]}
    # The lowest rows come last: a full list still takes an equal of its worst.
    state = smallest.add(smallest.start(), np.array([7, 8, 9]), {"x": np.array([1.0, 2.0, 2.0])})
    state = smallest.add(state, np.array([0, 1, 2]), {"x": np.array([2.0, 3.0, 2.0])})
    assert smallest.result(state) == {"rows": [7, 0, 2]}
    assert result_of(Top("t", (), "x", 2, largest=True), {"x": [5.0, 9.0, NAN]}, {"x": [9.0, 9.5]}) == {"rows": [4, 1]}
    assert result_of(Top("t", (), "x", 9, largest=True), {"x": [NAN, -1.0, 0.0]}) == {"rows": [2, 1]}


def test_a_front_of_points_by_hand() -> None:
    front = Pareto("p", (), ("cost", "gain"), (False, True))
    cost = [3.0, 1.0, 2.0, 2.0, 1.0, NAN, 0.0, 2.5]
    gain = [9.0, 5.0, 7.0, 7.0, 4.0, 99.0, NAN, 7.0]
    # 1 for 5, 2 for 7 (of two equal rows the lower) and 3 for 9; 2.5 for 7 and 1 for 4 are beaten.
    assert result_of(front, {"cost": cost, "gain": gain}) == {"rows": [1, 2, 0]}
    assert result_of(front, {"cost": cost[:3], "gain": gain[:3]}, {"cost": cost[3:], "gain": gain[3:]}) == {
        "rows": [1, 2, 0]
    }


def test_an_equal_point_with_a_lower_row_replaces_that_of_the_front() -> None:
    front = Pareto("p", (), ("cost", "gain"), (False, True))
    points = {"cost": np.array([1.0, 2.0]), "gain": np.array([5.0, 7.0])}
    state = front.add(front.start(), np.array([10, 11]), points)
    state = front.add(state, np.array([4, 5]), points)
    # Neither an equal gain at more cost nor one at equal cost with less gain comes in.
    state = front.add(state, np.array([0, 1]), {"cost": np.array([3.0, 1.0]), "gain": np.array([7.0, 4.0])})
    assert front.result(state) == {"rows": [4, 5]}


def test_conditions_together_and_each() -> None:
    conditions = (Condition("x", "<", 2.0, "x < 2"), Condition("y", ">=", 1.0, "y >= 1"))
    result = result_of(Objectives("slo", (), conditions), {"x": [1.0, 1.0, 2.0, NAN], "y": [1.0, 0.0, 5.0, 5.0]})
    assert result == {"count": 4, "met": {"x < 2": 2, "y >= 1": 3}, "all": 1}


@pytest.mark.parametrize(
    ("comparison", "met"),
    [
        ("<", [True, False, False, False]),
        ("<=", [True, True, False, False]),
        (">", [False, False, True, False]),
        (">=", [False, True, True, False]),
        ("==", [False, True, False, False]),
        ("!=", [True, False, True, False]),
    ],
)
def test_comparisons_below_at_and_above_and_undefined(comparison: str, met: list[bool]) -> None:
    values = {"x": np.array([1.0, 2.0, 3.0, NAN])}
    assert Condition("x", comparison, 2.0, "").met(values, 4).tolist() == met


def test_names_are_compared_whole() -> None:
    values = {"gpu": "l4", "schedule": None}
    assert Condition("gpu", "==", "l4", "").met(values, 2).tolist() == [True, True]
    assert Condition("gpu", "!=", "l4", "").met(values, 1).tolist() == [False]
    assert Condition("gpu", "!=", "l40s", "").met(values, 1).tolist() == [True]
    assert not Condition("schedule", "!=", "a.toml", "").met(values, 1).any()


def test_ranges_include_their_end_where_a_step_meets_it() -> None:
    assert read_range({"from": 1, "to": 10, "step": 3}, "r", True) == [1, 4, 7, 10]
    assert read_range({"from": 1, "to": 9, "step": 3}, "r", True) == [1, 4, 7]
    assert [float(value) for value in read_range({"from": 0, "to": 1, "step": 0.25}, "r", False)] == [
        0,
        0.25,
        0.5,
        0.75,
        1,
    ]
    assert read_range({"from": 10, "to": 20, "points": 5}, "r", True) == [10, 12, 15, 18, 20]
    assert read_range({"from": 7, "to": 9, "points": 1}, "r", True) == [7]


def test_logarithmic_ranges_have_equal_ratios_and_exact_ends() -> None:
    result = read_range({"from": 2, "to": 162, "points": 5, "scale": "log"}, "r", True)
    assert result == [2, 6, 18, 54, 162]
    shares = [float(value) for value in read_range({"from": 0.1, "to": 0.9, "points": 7, "scale": "log"}, "r", False)]
    assert (shares[0], shares[-1]) == (0.1, 0.9)
    assert [high / low for low, high in pairwise(shares)] == pytest.approx([9 ** (1 / 6)] * 6)
    # Equal whole numbers appear once.
    assert read_range({"from": 1, "to": 3, "points": 9, "scale": "log"}, "r", True) == [1, 2, 3]


def test_tables_and_their_defaults() -> None:
    linear, log, quantiles, top = read_reducers(
        [
            {"kind": "histogram", "figure": "ttft_s", "from": 0, "to": 2, "bins": 4},
            {"kind": "histogram", "name": "log", "figure": "ttft_s", "from": 1, "to": 81, "bins": 4, "scale": "log"},
            {"kind": "quantiles", "figure": "ttft_s"},
            {"kind": "top", "figure": "ttft_s"},
        ],
        (),
        (),
    )
    assert isinstance(linear, Histogram)
    assert linear.edges == (0.0, 0.5, 1.0, 1.5, 2.0)
    assert isinstance(log, Histogram)
    assert log.edges == pytest.approx((1.0, 3.0, 9.0, 27.0, 81.0))
    assert isinstance(quantiles, Quantiles)
    assert quantiles.at == (0.05, 0.5, 0.95, 0.99)
    assert isinstance(top, Top)
    assert (top.count, top.largest) == (10, False)
