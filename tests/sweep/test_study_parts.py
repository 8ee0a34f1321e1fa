"""Rows of a study's parts, configurations left out as impossible, and derived figures by hand."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asymsim.catalogue.gpu import gpu_path
from asymsim.estimator.estimate import estimate
from asymsim.estimator.resolve import resolve
from asymsim.estimator.scenario import Scenario
from asymsim.sweep.axes import Listed, read_axes
from asymsim.sweep.blocks import PartStatistics, evaluated_blocks
from asymsim.sweep.columns import RowFigures
from asymsim.sweep.grid import Grid, TokenCountRows
from asymsim.sweep.part import run_part
from asymsim.sweep.progress import ProgressDisplay, summary
from asymsim.sweep.reductions.partial import load_states, merge_states
from asymsim.sweep.result import result_of
from asymsim.sweep.runner import Outcome
from asymsim.sweep.study import Study
from asymsim.sweep.study_file import parse_study
from asymsim.util.errors import InputError, UnknownNameError


def study(axes: dict[str, Any], **more: Any) -> Study:
    return parse_study({"scenario": {"model": "llava-1.5-7b"}, "axes": axes, **more}, "parts")


def rows_of(parts_study: Study, first: int, last: int) -> tuple[list[int], PartStatistics]:
    statistics = PartStatistics()
    rows = [
        row
        for block in evaluated_blocks(parts_study, first, last, statistics, lambda: False)
        for row in block.rows.tolist()
    ]
    return rows, statistics


AXES = {"gpu": ["l4", "a100_80gb_sxm", "h100_sxm"], "dtype": ["fp8", "bf16"], "text_tokens": [1, 2, 3]}


def test_rows_of_any_part_are_those_between_its_ends() -> None:
    parts_study = study(AXES | {"dtype": ["bf16", "fp16"]})
    for first, last in ((0, 18), (0, 1), (2, 7), (17, 18), (5, 6)):
        rows, statistics = rows_of(parts_study, first, last)
        assert rows == list(range(first, last))
        assert (statistics.rows, statistics.kept) == (last - first, last - first)


def test_impossible_configurations_are_left_out_and_counted() -> None:
    # An A100 has no units for fp8: rows 6 to 8.
    rows, statistics = rows_of(study(AXES, filters=["possible"]), 0, 18)
    assert rows == [*range(6), *range(9, 18)]
    assert (statistics.rows, statistics.kept) == (18, 15)
    with pytest.raises(InputError, match="fp8"):
        rows_of(study(AXES), 0, 18)


@pytest.mark.parametrize(("field", "value"), [("settings.layr", 3), ("gpu", "h10_sxm")])
def test_a_misspelt_name_is_an_error_even_where_only_what_is_possible_counts(field: str, value: Any) -> None:
    axes: dict[str, Any] = {"method": ["fastv"], "text_tokens": [1], field: [value]}
    with pytest.raises(UnknownNameError):
        rows_of(study(axes, filters=["possible"]), 0, 1)


def test_the_last_part_is_the_rest() -> None:
    parts_study = study({"text_tokens": list(range(1, 12))}, output={"format": "csv", "part_rows": 4})
    assert parts_study.parts == 3
    lengths = []
    for part in range(3):
        content, statistics = run_part(parts_study, part)
        lengths.append(len(content.decode().splitlines()) - 1)
        assert statistics.rows == lengths[-1]
    assert lengths == [4, 4, 3]


@pytest.mark.parametrize(
    ("kind", "rows", "part_rows"),
    [
        # The power of two above a 256th or a 64th of the rows, between a minimum and a maximum for each format.
        ("reduce", 10**9, 2**22),
        ("reduce", 2**28, 2**21),
        ("reduce", 100, 2**16),
        ("reduce", 10**12, 2**26),
        ("parquet", 2**25, 2**20),
        ("parquet", 2**24 - 1, 2**18),
        ("parquet", 7, 2**17),
        ("csv", 2**23, 2**18),
        ("csv", 7, 2**16),
    ],
)
def test_rows_a_part_follow_from_all_rows(kind: str, rows: int, part_rows: int) -> None:
    sampled = {"distribution": "uniform", "low": 1, "high": 9, "samples": rows}
    more: dict[str, Any] = {"reduce": [{"kind": "top", "figure": "ttft_s"}]} if kind == "reduce" else {}
    parts_study = study({"text_tokens": sampled}, output={"format": kind}, **more)
    assert parts_study.part_rows == part_rows
    assert parts_study.parts == -(-rows // part_rows)


def reduced(parts_study: Study) -> list[dict[str, Any]]:
    """The groups of the one reduction, over all parts."""
    states = load_states(run_part(parts_study, 0)[0])
    for part in range(1, parts_study.parts):
        states = merge_states(parts_study, states, load_states(run_part(parts_study, part)[0]))
    groups: list[dict[str, Any]] = result_of(parts_study, states)["reductions"][0]["groups"]
    return groups


def test_groups_of_two_axes_are_pairs_of_their_values() -> None:
    top = {"kind": "top", "figure": "prefill_flops", "best": "largest", "count": 1, "by": ["batch_size", "gpu"]}
    parts_study = study(
        {"gpu": ["l4", "h100_sxm"], "text_tokens": [5, 9, 7], "batch_size": [1, 2, 3]},
        reduce=[top],
        output={"part_rows": 7},
    )
    groups = reduced(parts_study)
    assert [(group["of"]["batch_size"], group["of"]["gpu"]) for group in groups] == [
        (batch, name) for batch in (1, 2, 3) for name in ("l4", "h100_sxm")
    ]
    for group in groups:
        (row,) = group["rows"]
        assert row["text_tokens"] == 9
        assert (row["batch_size"], row["gpu"]) == (group["of"]["batch_size"], group["of"]["gpu"])


def test_items_of_one_name_are_one_group() -> None:
    slo = {"kind": "slo", "conditions": ["text_tokens > 1"], "by": ["gpu"]}
    parts_study = study(
        {"gpu, dtype": [["l4", "bf16"], ["h100_sxm", "bf16"], ["l4", "fp8"]], "text_tokens": [1, 2]}, reduce=[slo]
    )
    counts_by_gpu = {group["of"]["gpu"]: (group["count"], group["all"]) for group in reduced(parts_study)}
    assert counts_by_gpu == {"l4": (4, 2), "h100_sxm": (2, 1)}


def test_derived_figures() -> None:
    shared: dict[str, Any] = {"model": "llava-1.5-7b", "text_tokens": 9, "output_tokens": 5, "batch_size": 3}
    scenario = Scenario(**shared, method="visionzip", keep=0.5)
    resolved = resolve(scenario)
    grid = Grid({"model": "llava-1.5-7b"}, read_axes({"batch_size": [1, 3]}))
    token_counts = TokenCountRows(grid, scenario, resolved).at([np.array([1])])
    names = ["requests_per_s", "output_tokens_per_s", "e2e_s", "total_flops", "fits", "max_batch_size", "peak_bytes"]
    names += ["flops_saved", "peak_saved", "kv_saved", "tpot_s", "decode_s"]
    figures = {name: column.item() for name, column in RowFigures(resolved, names, 1).evaluate(token_counts).items()}
    single = estimate(scenario)
    assert figures["requests_per_s"] == pytest.approx(3 / figures["e2e_s"])
    assert figures["output_tokens_per_s"] == pytest.approx(15 / figures["e2e_s"])
    assert figures["tpot_s"] == pytest.approx(figures["decode_s"] / 4)
    flops = single.flops
    assert figures["total_flops"] == (
        flops.vision_tower + flops.projector + flops.selection + flops.prefill + flops.decode
    )
    dense = estimate(Scenario(**shared))
    assert figures["flops_saved"] == pytest.approx(1 - single.flops.total / dense.flops.total)
    assert figures["peak_saved"] == pytest.approx(1 - single.memory.peak_bytes / dense.memory.peak_bytes)
    assert figures["kv_saved"] == pytest.approx(1 - single.kv_cache.peak_bytes / dense.kv_cache.peak_bytes)
    # 90 % of the memory, less weights and 32 MiB, over a third of what three requests take.
    memory = single.memory
    left = 0.9 * resolved.gpu.capacity_bytes - memory.weights_bytes - 2**25
    assert figures["max_batch_size"] == left // ((memory.kv_cache_bytes + memory.activation_bytes) / 3)
    assert figures["peak_bytes"] == memory.weights_bytes + memory.kv_cache_bytes + memory.activation_bytes + 2**25
    assert figures["fits"] is True


def test_the_largest_batch_is_that_of_the_budget_that_needs_most() -> None:
    shared = {"model": "llava-1.5-7b", "gpu": "l4", "text_tokens": 900, "method": "asymvlm"}
    ratios = {"conservative": 0.9, "moderate": 0.5, "aggressive": 0.1}
    largest = []
    for keep, settings in ((0.5, ratios), (0.9, {"budget": "uniform"})):
        scenario = Scenario(**shared, keep=keep, settings=settings)
        resolved = resolve(scenario)
        rows = TokenCountRows(Grid({"model": "llava-1.5-7b"}, ()), scenario, resolved).at([])
        largest.append(RowFigures(resolved, ["max_batch_size"], 1).evaluate(rows)["max_batch_size"].item())
    assert largest[0] == largest[1] > 1


def test_shares_on_an_axis_end_at_one() -> None:
    assert read_axes({"keep": [0, 1]})[0].item(1) == {"keep": 1.0}
    for share in (1.01, -0.01, True):
        with pytest.raises(InputError, match="between 0 and 1"):
            read_axes({"keep": [share]})


def test_axes_sampled_together_have_different_seeds() -> None:
    sampled = {"distribution": "uniform", "low": 1, "high": 9, "samples": 4, "with": "x"}
    (axis,) = read_axes({"text_tokens": {**sampled, "seed": 1}, "output_tokens": {**sampled, "seed": 2}})
    assert (axis.size, axis.fields) == (4, ("text_tokens", "output_tokens"))
    with pytest.raises(InputError, match="seed"):
        read_axes({"text_tokens": sampled, "output_tokens": sampled})


def test_a_study_is_another_with_other_reductions_or_another_gpu(tmp_path: Path) -> None:
    axes = {"text_tokens": [1]}
    hashes = {study(axes, reduce=[{"kind": "top", "figure": "ttft_s", "count": count}]).hash for count in (1, 2)}
    assert len(hashes) == 2
    path = tmp_path / "mine.toml"
    text = gpu_path("l4").read_text()
    gpu_hashes = []
    for tdp in ("72", "73"):
        path.write_text(text.replace("tdp_w = 72", f"tdp_w = {tdp}"))
        gpu_hashes.append(study({"gpu": [str(path)], **axes}).hash)
    assert gpu_hashes[0] != gpu_hashes[1]


def test_settings_of_an_axis_join_those_of_the_study() -> None:
    fixed = {"model": "llava-1.5-7b", "method": "fastv", "settings": {"layer": 5}}
    parts_study = parse_study({"scenario": fixed, "axes": {"settings.masking": [True, False]}}, "joined")
    assert [parts_study.grid.scenario(row).settings for row in (0, 1)] == [
        {"layer": 5, "masking": True},
        {"layer": 5, "masking": False},
    ]


def test_cells_of_csv() -> None:
    axes = {"method": ["asymvlm"], "settings.spread": [1, 0.5], "output_tokens": [1, 2]}
    figures = {"format": "csv", "figures": ["kv_peak_bytes", "tpot_s"]}
    header, *rows = run_part(study(axes, output=figures), 0)[0].decode().splitlines()
    assert header == "method,settings.spread,output_tokens,kv_peak_bytes,tpot_s"
    cells = [row.split(",") for row in rows]
    assert [row[:3] for row in cells] == [["asymvlm", spread, tokens] for spread in ("1.0", "0.5") for tokens in "12"]
    # Counts are whole, and a single token has no time per token.
    assert all(row[3].isdigit() for row in cells)
    assert [row[4] == "" for row in cells] == [True, False] * 2


def test_axes_of_images_and_the_scenario_vary_slowest() -> None:
    (axis,) = read_axes({"text_tokens": [4, 9]})
    assert isinstance(axis.values[0], Listed)
    assert axis.rank == 2
    ranks = read_axes({"batch_size": [1], "num_images": [1], "gpu": ["l4"], "output_tokens": [2], "image_height": [5]})
    assert [one.rank for one in ranks] == [0, 1, 1, 2, 2]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_says_how_long_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 100.1, 110.0, 110.2])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    stream = Terminal()
    watch = ProgressDisplay(stream)
    # Too soon; a tenth after ten seconds: ninety are left; too soon again.
    watch(1, 1000)
    watch(100, 1000)
    watch(101, 1000)
    assert stream.getvalue() == "\r100 of 1,000 scenarios (10%), 10/s, 1:30 left"


def test_a_run_is_summed_up(tmp_path: Path) -> None:
    statistics = PartStatistics(rows=2000, kept=500, seconds={"evaluate": 3.0, "encode": 1.0})
    outcome = Outcome(path=tmp_path, parts=4, present=1, statistics=statistics, wall_s=8.0, result=None)
    assert summary(outcome) == [
        "1 of 4 parts were there already",
        "2,000 scenarios, 500 kept in 8.0 s (250 a second)",
        "time of all workers: evaluate 75.0%, encode 25.0%",
    ]
