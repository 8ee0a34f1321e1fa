"""Published figures: ours come from the schedules, and nearly all counted ones agree."""

from __future__ import annotations

import runpy
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from asymsim.analysis import published_figures, reproduce
from asymsim.analysis.published_figures import Figure, Paper, Table, papers, read_paper
from asymsim.analysis.quantities import COUNTED
from asymsim.estimator.resolve import _resolve_cached
from asymsim.methods.fastv import FastV
from asymsim.methods.schedule import IDENTITY
from asymsim.util.errors import InputError, UnknownNameError

ROOT = Path(__file__).parents[2]
TABLES = [(paper, table) for paper in papers() for table in paper.tables]
# One product of the selection is the same whatever is kept, and masking saves nothing.
PRUNED = [
    (paper, table, figure)
    for paper, table in TABLES
    for figure in table.figures
    if figure.method != "none" and table.quantity != "alignment_flops" and not figure.settings.get("masking")
]


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    return reproduce.reproduced_rows()


def paper_of(name: str) -> Paper:
    return next(paper for paper in papers() if paper.name == name)


def test_at_least_95_percent_of_the_counted_figures_are_reproduced(rows: list[dict[str, Any]]) -> None:
    counted = reproduce.summary(rows)[0]
    assert counted["kind"] == "counted"
    assert counted["figures"] >= 60
    assert counted["rate"] >= 0.95


def test_what_nobody_can_recompute_is_no_hiding_place(rows: list[dict[str, Any]]) -> None:
    # FastV's K = 0, SparseVLM's unpublished counts on Phi-3.5-Vision, and those beside VisionZip's times.
    lost = [row for row in rows if row["status"] == "underdetermined"]
    assert {(row["paper"], row["published"]) for row in lost if row["kind"] == "counted"} == {
        ("FastV", "18.9"),
        ("AsymVLM", "18"),
        ("AsymVLM", "35"),
        ("AsymVLM", "47"),
    }
    assert len(lost) <= 0.1 * len(rows)


def test_every_figure_has_a_source_and_every_disagreement_a_reason(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        assert row["source"].startswith("arXiv "), row
        assert len(row["source"]) > len("arXiv 2403.06764, "), row
        assert row["status"] == "reproduced" or row["note"], row


def test_a_reason_stands_only_where_something_differs() -> None:
    for paper, table in TABLES:
        if table.why:
            for figure in table.figures:
                assert reproduce.reproduced_row(paper, table, figure)["status"] != "reproduced", (paper.name, figure)


def test_every_quantity_has_the_sign_and_size_of_its_kind(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        assert row["ours"] >= 0, row
        if row["unit"] == "%":
            assert row["ours"] < 100, row
        if row["quantity"].endswith("speedup"):
            assert row["ours"] > 1, row


def test_no_figure_survives_a_schedule_that_prunes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FastV, "build_schedule", lambda self, model: IDENTITY)
    _resolve_cached.cache_clear()
    try:
        tables = [table for table in paper_of("FastV").tables if table.quantity == "prefill_flops_of_fractions"]
        for table in tables:
            dense = {reproduce.computed_value(table, Figure(published="1"))}
            assert {reproduce.computed_value(table, figure) for figure in table.figures} == dense
    finally:
        _resolve_cached.cache_clear()


@pytest.mark.parametrize(("paper", "table", "figure"), PRUNED)
def test_ours_moves_with_the_schedule(paper: Paper, table: Table, figure: Figure) -> None:
    if figure.keep is not None:
        other = replace(figure, keep="0.9")
    elif "ratio" in figure.settings:
        other = replace(figure, settings={**figure.settings, "ratio": 0.9})
    else:
        other = replace(figure, settings={"dominant": 2000, "contextual": 500})
    assert reproduce.computed_value(table, other) != pytest.approx(reproduce.computed_value(table, figure), rel=1e-3)


def test_whole_tokens_are_within_rounding_of_fractions() -> None:
    for table in paper_of("FastV").tables:
        if table.quantity == "prefill_flops_of_fractions":
            whole = replace(table, quantity="prefill_flops")
            for figure in table.figures:
                # Rounding moves the kept count by half a token of the 94 or more in a layer.
                assert reproduce.computed_value(whole, figure) == pytest.approx(
                    reproduce.computed_value(table, figure), rel=0.5 / 93
                )


@pytest.mark.parametrize(
    ("printed", "value", "status"),
    [
        ("3.82", 3.8171, "reproduced"),
        ("0.42", 0.41554, "reproduced"),
        ("0.42", 0.4149, "differs"),
        ("100", 100.9, "reproduced"),
        ("100", 101.1, "differs"),
        ("2.7e7", 2.66e7, "reproduced"),
        ("2.7e7", 2.64e7, "differs"),
    ],
)
def test_reproduced_means_the_printed_digits_or_one_percent(
    monkeypatch: pytest.MonkeyPatch, printed: str, value: float, status: str
) -> None:
    table = Table(
        where="test", quantity="prefill_flops", unit="FLOP", model="llava-1.5-7b", visual_tokens=1, figures=()
    )
    paper = Paper(name="test", arxiv="0", tables=(table,))
    monkeypatch.setattr(reproduce, "computed_value", lambda *_: value)
    assert reproduce.reproduced_row(paper, table, Figure(published=printed))["status"] == status
    assert (
        reproduce.reproduced_row(paper, replace(table, underdetermined=True, why="x"), Figure(published=printed))[
            "status"
        ]
        == "underdetermined"
    )


@pytest.mark.parametrize(("value", "status"), [(28.4, "reproduced"), (27.6, "reproduced"), (28.6, "differs")])
def test_a_percentage_may_be_half_a_point_off(monkeypatch: pytest.MonkeyPatch, value: float, status: str) -> None:
    table = Table(
        where="test", quantity="prefill_flops_saved", unit="%", model="llava-1.5-7b", visual_tokens=1, figures=()
    )
    monkeypatch.setattr(reproduce, "computed_value", lambda *_: value)
    row = reproduce.reproduced_row(Paper(name="test", arxiv="0", tables=()), table, Figure(published="28"))
    assert row["status"] == status


GOOD = """
name = "X"
arxiv = "1234.56789"
[[tables]]
where = "table 1"
quantity = "prefill_flops"
unit = "TFLOP"
model = "llava-1.5-7b"
visual_tokens = 576
figures = [{ published = "3.82" }]
"""


def test_the_loader_reads_what_it_should(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text(GOOD)
    assert read_paper(path).tables[0].figures[0].value == 3.82


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("arxiv =", "arxive =", "arxiv"),
        ("where =", "were =", "where"),
        ('published = "3.82"', 'published = "3.82", colour = "red"', "colour"),
        ('published = "3.82"', "published = 3.82", "published"),
        ('published = "3.82"', 'published = "about 4"', "x.toml"),
        ('published = "3.82"', 'published = "3.82", keep = "1/0"', "x.toml"),
        ('published = "3.82"', 'published = "3.82", keep = "half"', "x.toml"),
        ('unit = "TFLOP"', 'unit = "TFLOPs"', "unit"),
        ("visual_tokens = 576", 'visual_tokens = "many"', "visual_tokens"),
        ("visual_tokens = 576", "visual_tokens = 576\nunderdetermined = true", "why"),
        ('name = "X"', 'name = "X', "x.toml"),
    ],
)
def test_the_loader_names_what_is_wrong(tmp_path: Path, old: str, new: str, named: str) -> None:
    path = tmp_path / "x.toml"
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(InputError) as error:
        read_paper(path)
    assert named in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.toml"):
        read_paper(tmp_path / "nowhere.toml")


def test_an_unknown_quantity_is_named() -> None:
    table = Table(where="test", quantity="flop", unit="FLOP", model="llava-1.5-7b", visual_tokens=1, figures=())
    with pytest.raises(UnknownNameError, match="quantity"):
        reproduce.computed_value(table, Figure(published="1"))


def test_the_summary_adds_up(rows: list[dict[str, Any]]) -> None:
    counted, times, both = reproduce.summary(rows)
    assert counted["figures"] + times["figures"] == both["figures"] == len(rows)
    for group in (counted, times, both):
        assert group["figures"] == sum(group[status] for status in reproduce.STATUSES)
    assert {row["quantity"] for row in rows if row["kind"] == "counted"} <= set(COUNTED)
    assert reproduce.summary([])[0]["rate"] is None


def test_the_documentation_holds_the_current_table(rows: list[dict[str, Any]]) -> None:
    text = (ROOT / "docs" / "reproduction.md").read_text(encoding="utf-8")
    assert reproduce.markdown(rows, "counted") in text


def test_the_module_prints_both_tables(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, rows: list[dict[str, Any]]
) -> None:
    monkeypatch.delitem(sys.modules, "asymsim.analysis.reproduce")
    runpy.run_module("asymsim.analysis.reproduce", run_name="__main__", alter_sys=False)
    assert capsys.readouterr().out == reproduce.markdown(rows, "counted") + "\n" + reproduce.markdown(rows, "time")


def test_all_files_of_figures_are_read() -> None:
    folder = Path(published_figures.__file__).parent / "data" / "published"
    assert len(papers()) == len(list(folder.iterdir())) >= 6
