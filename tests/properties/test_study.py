"""Every row of a study is the single estimate of its scenario, exactly; reductions do not depend on order."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asymsim.estimator.estimate import estimate
from asymsim.estimator.result import Estimate
from asymsim.sweep.blocks import PartStatistics, evaluated_blocks
from asymsim.sweep.columns import FIGURES
from asymsim.sweep.conditions import Condition
from asymsim.sweep.reductions.counts import Histogram, Objectives, Quantiles, Reducer
from asymsim.sweep.reductions.pareto_top_k import Pareto, Top
from asymsim.sweep.study_file import parse_study

SETTINGS: dict[str, list[Any]] = {
    "model": ["llava-1.5-7b", "qwen2.5-vl-7b", "llava-v1.6-mistral-7b", "gemma-3-4b-it", "smolvlm-2.2b"],
    "gpu": ["h100_sxm", "l40s", "a100_80gb_sxm", "l4", "mi300x"],
    "method, keep, settings": [
        ["none"],
        ["fastv", 0.3, {"layer": 3}],
        ["fastv", 0.5],
        ["asymvlm", 0.4],
        ["pyramiddrop"],
        ["asymvlm+snapkv", 0.6],
    ],
    "tp_size": [1, 2],
    "kv_dtype": ["auto", "fp8"],
    "engine": ["none", "vllm"],
    "image_height, image_width": [[336, 336], [1000, 700]],
    "num_images": [0, 1, 3],
}


@st.composite
def studies(draw: st.DrawFn) -> dict[str, Any]:
    """A few values on some of the axes, in any order; text models and impossible pairs are not drawn."""
    axes: dict[str, Any] = {}
    for name in draw(st.permutations(sorted(SETTINGS))):
        values = draw(st.lists(st.sampled_from(SETTINGS[name]), max_size=2, unique_by=str))
        if values:
            axes[name] = values
    axes["text_tokens"] = draw(st.lists(st.integers(1, 9000), min_size=1, max_size=3))
    axes["output_tokens"] = {
        "distribution": draw(st.sampled_from(["lognormal", "normal"])),
        **draw(st.sampled_from([{"median": 50, "sigma": 1.0}, {"mean": 40, "std": 60}])),
        "samples": draw(st.integers(1, 4)),
        "seed": draw(st.integers(0, 99)),
    }
    kind = "lognormal" if "median" in axes["output_tokens"] else "normal"
    axes["output_tokens"]["distribution"] = kind
    axes["batch_size"] = {"from": 1, "to": draw(st.integers(1, 64)), "points": 2, "scale": "log"}
    fixed = {} if "model" in axes else {"model": "llava-1.5-7b"}
    return {"scenario": fixed, "axes": axes, "output": {"figures": list(FIGURES), "format": "csv"}}


def single(one: Estimate) -> dict[str, Any]:
    """The figures of a sweep, from the document of a single estimate."""
    document = one.to_dict()
    flops, kv, memory, saved = (document[key] for key in ("flops", "kv_cache", "memory", "savings"))
    found = {f"{name}_flops": flops[name] for name in flops}
    found.update(total_flops=found.pop("total_flops"), kv_prefill_bytes=kv["prefill_bytes"])
    found.update(kv_peak_bytes=kv["peak_bytes"], activation_bytes=memory["activation_bytes"])
    found.update({name: memory[name] for name in ("peak_bytes", "fits", "max_batch_size")})
    for name, span in document["latency"].items():
        found.update({f"{name}_p05": span["p05"], name: span["p50"], f"{name}_p95": span["p95"]})
    batch, tokens = document["workload"]["batch_size"], document["workload"]["output_tokens"]
    seconds = document["latency"]["e2e_s"]["p50"]
    found.update(requests_per_s=batch / seconds, output_tokens_per_s=batch * tokens / seconds)
    found.update(flops_saved=saved["flops"], prefill_flops_saved=saved["prefill_flops"])
    found.update(kv_saved=saved["kv_bytes"], peak_saved=saved["peak_bytes"])
    found.update({f"{name}_saved": saved[name] for name in ("ttft", "tpot", "e2e")})
    return found


@settings(max_examples=20)
@given(content=studies())
def test_every_row_is_the_single_estimate(content: dict[str, Any]) -> None:
    study = parse_study(content, "property")
    rows = 0
    for block in evaluated_blocks(study, 0, study.grid.rows, PartStatistics(), lambda: False):
        rows += len(block.rows)
        for place in {0, len(block.rows) // 2, len(block.rows) - 1}:
            scenario = study.grid.scenario(int(block.rows[place]))
            expected = single(estimate(scenario))
            for name in FIGURES:
                if name.startswith("decode_s") or name == "kv_cache_bytes":
                    # Not in the document: the steps together, and the cache over all GPUs in blocks.
                    continue
                found, wanted = block.figures[name][place], expected[name]
                undefined = wanted is None and math.isnan(found)
                assert undefined or found == wanted, (name, scenario)
    assert rows == study.grid.rows


@settings(max_examples=15)
@given(content=studies(), part_rows=st.integers(1, 9), data=st.data())
def test_any_rows_can_be_made_alone(content: dict[str, Any], part_rows: int, data: st.DataObject) -> None:
    content["output"]["figures"] = ["e2e_s", "tpot_s"]
    study = parse_study(content, "property")

    def made(first: int, last: int) -> tuple[list[int], list[float]]:
        found = list(evaluated_blocks(study, first, last, PartStatistics(), lambda: False))
        return [row for block in found for row in block.rows.tolist()], [
            value for block in found for value in block.figures["e2e_s"].tolist()
        ]

    rows, values = made(0, study.grid.rows)
    assert rows == list(range(study.grid.rows))
    first = data.draw(st.integers(0, study.grid.rows - 1))
    last = min(first + part_rows, study.grid.rows)
    assert made(first, last) == (rows[first:last], values[first:last])


VALUES = st.one_of(
    st.floats(allow_nan=True, allow_infinity=False, allow_subnormal=False, width=32),
    st.sampled_from([0.0, -0.0, 1.0, 1.0, 2.0, math.nan, 1e300, 1e-300]),
)
REDUCERS: list[Reducer] = [
    Histogram("h", (), "x", (-1.0, 0.0, 0.5, 2.0)),
    Quantiles("q", (), "x", (0.0, 0.25, 0.5, 1.0)),
    Top("t", (), "x", 3, True),
    Top("b", (), "x", 3, False),
    Pareto("p", (), ("x", "y"), (False, True)),
    Objectives("s", (), (Condition("x", "<", 1.0, "x < 1"), Condition("y", ">=", 0.0, "y >= 0"))),
]


@pytest.mark.parametrize("reducer", REDUCERS, ids=lambda reducer: reducer.name)
@settings(max_examples=80)
@given(data=st.data())
def test_reductions_depend_on_no_order(reducer: Reducer, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 30))
    x, y = (np.array(data.draw(st.lists(VALUES, min_size=count, max_size=count))) for _ in "xy")
    rows = np.arange(count)

    def state(order: list[int], cuts: list[int]) -> dict[str, Any]:
        parts = np.split(np.array(order), sorted(cuts))
        states = [reducer.add(reducer.start(), rows[part], {"x": x[part], "y": y[part]}) for part in parts if len(part)]
        while len(states) > 1:
            one = states.pop(data.draw(st.integers(0, len(states) - 1)))
            states.append(reducer.merge(one, states.pop()))
        return states[0]

    whole = reducer.result(reducer.add(reducer.start(), rows, {"x": x, "y": y}))
    order = data.draw(st.permutations(range(count)))
    assert reducer.result(state(list(order), data.draw(st.lists(st.integers(0, count), max_size=4)))) == whole
    assert whole == naive(reducer, x, y)


def naive(reducer: Reducer, x: Any, y: Any) -> dict[str, Any]:
    """The same by comparing every row with every other."""
    known = [row for row in range(len(x)) if not math.isnan(x[row])]
    if isinstance(reducer, Histogram):
        edges = reducer.edges
        counts = [sum(low <= x[row] < high for row in known) for low, high in itertools.pairwise(edges)]
        below, above = sum(x[row] < edges[0] for row in known), sum(x[row] >= edges[-1] for row in known)
        outside = {"below": below, "above": above, "undefined": len(x) - len(known)}
        return {"edges": list(edges), "counts": counts, **outside}
    if isinstance(reducer, Top):
        sign = -1 if reducer.largest else 1
        return {"rows": sorted(known, key=lambda row: (sign * x[row], row))[: reducer.count]}
    if isinstance(reducer, Objectives):
        met = [[value < 1.0 for value in x], [value >= 0.0 for value in y]]
        both = sum(one and other for one, other in zip(*met, strict=True))
        return {"count": len(x), "met": {"x < 1": sum(met[0]), "y >= 0": sum(met[1])}, "all": both}
    if isinstance(reducer, Pareto):
        both_known = [row for row in known if not math.isnan(y[row])]

        def beaten(row: int) -> bool:
            return any(
                x[other] <= x[row] and y[other] >= y[row] and (x[other] < x[row] or y[other] > y[row] or other < row)
                for other in both_known
                if other != row
            )

        front = [row for row in both_known if not beaten(row)]
        return {"rows": sorted(front, key=lambda row: x[row])}
    assert isinstance(reducer, Quantiles)
    told = reducer.result(reducer.add(reducer.start(), np.arange(len(x)), {"x": x}))
    ranked = sorted(x[row] for row in known)
    for each in told.get("quantiles", []):
        value = ranked[max(1, math.ceil(each["at"] * len(ranked))) - 1]
        assert each["low"] <= value <= each["high"]
        assert each["high"] - each["low"] <= 2.0**-10 * abs(value) or value == 0
    if ranked:
        assert (told["least"], told["most"]) == (ranked[0], ranked[-1])
    assert told["count"] == len(ranked)
    return told
