"""The savings figure says what it shows, and draws what it was given."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from asymsim.analysis.comparison import savings_curves
from asymsim.reporting.plots.savings import PANELS, draw_savings, savings_figure
from asymsim.reporting.plots.style import COLORS, LINES, MARKERS


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    names = ["asymvlm", "fastv", "visionzip", "tome"]
    return savings_curves(["llava-1.5-7b", "qwen2.5-vl-7b"], ["h100_sxm"], names, [0.1, 0.5, 1.0])


def figures(axes: Any) -> dict[str, list[tuple[float, float]]]:
    return {line.get_label(): list(zip(*line.get_data(), strict=True)) for line in axes.get_lines()}


def test_a_column_a_model_and_a_row_a_saving(rows: list[dict[str, Any]]) -> None:
    figure = draw_savings(rows)
    axes = figure.get_axes()
    assert len(axes) == 2 * len(PANELS)
    assert [each.get_title() for each in axes[:2]] == ["llava-1.5-7b", "qwen2.5-vl-7b"]
    assert [each.get_ylabel().replace("\n", " ") for each in axes[::2]] == [
        "prefill FLOPs saved (%)",
        "TTFT saved (%)",
        "KV cache saved (%)",
    ]
    assert {each.get_xlabel() for each in axes[-2:]} == {"visual tokens kept (%)"}
    assert len({each.get_xlim() for each in axes}) == 1
    assert "h100_sxm" in figure.get_suptitle()
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["1 - budget", "asymvlm", "fastv", "visionzip", "tome"]


def test_lines_are_the_rows(rows: list[dict[str, Any]]) -> None:
    axes = draw_savings(rows).get_axes()
    for index, (quantity, _, _) in enumerate(PANELS):
        drawn = figures(axes[2 * index])
        method_rows = [row for row in rows if (row["model"], row["method"]) == ("llava-1.5-7b", "fastv")]
        assert drawn["fastv"] == [(100 * row["kept_share"], 100 * row[quantity]) for row in method_rows]
        assert drawn["1 - budget"] == [(0, 100), (100, 0)]
    # ToMe does not run on Qwen's merged patches.
    assert figures(axes[1])["tome"] == []


def test_several_gpus_are_columns_of_their_own(rows: list[dict[str, Any]]) -> None:
    twice = rows + [row | {"gpu": "l4"} for row in rows]
    axes = draw_savings(twice).get_axes()
    assert [each.get_title() for each in axes[:4]] == [
        "llava-1.5-7b\nh100_sxm",
        "qwen2.5-vl-7b\nh100_sxm",
        "llava-1.5-7b\nl4",
        "qwen2.5-vl-7b\nl4",
    ]


def test_lines_differ_in_colour_and_in_black_and_white() -> None:
    rows = [
        {"model": "m", "gpu": "g", "method": f"method {index}", "family": "vision", "budget": share, "note": ""}
        | {"kept_share": share, "prefill_flops_saved": 1 - share, "ttft_saved": 1 - share, "kv_saved": 1 - share}
        for index in range(20)
        for share in (0.1, 1.0)
    ]
    lines = [line for line in draw_savings(rows).get_axes()[0].get_lines() if line.get_label().startswith("method")]
    assert len(lines) == 20
    looks = [(line.get_color(), line.get_linestyle(), line.get_marker()) for line in lines]
    assert len(set(looks)) == 20
    assert all(first[1:] != second[1:] for first, second in pairwise(looks))
    assert len(set(COLORS)) >= 8
    assert len(set(LINES)) >= 4
    assert len(set(MARKERS)) >= 8


def test_what_leaves_the_axis_is_named(rows: list[dict[str, Any]]) -> None:
    deep = [row | ({"ttft_saved": -3.0} if row["method"] == "fastv" else {}) for row in rows]
    axes = draw_savings(deep).get_axes()[2]
    assert axes.get_ylim()[0] > -100
    assert "below: fastv" in [text.get_text() for text in axes.texts]


@pytest.mark.parametrize("models", [1, 2])
def test_nothing_overlaps_or_is_clipped(models: int, rows: list[dict[str, Any]]) -> None:
    figure = draw_savings(rows[: len(rows) // 2 * models])
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    page = figure.bbox
    (legend,) = figure.legends
    box = legend.get_window_extent(renderer)
    for text in figure.texts:
        wide = text.get_window_extent(renderer)
        assert page.x0 <= wide.x0 < wide.x1 <= page.x1
    for axes in figure.get_axes():
        tight = axes.get_tightbbox(renderer)
        assert tight is not None
        assert page.x0 <= tight.x0 < tight.x1 <= page.x1
        assert page.y0 <= tight.y0 < tight.y1 <= page.y1
        assert not tight.overlaps(box)
    boxes = [axes.get_tightbbox(renderer) for axes in figure.get_axes()]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])  # type: ignore[union-attr, arg-type]
    assert figure.get_size_inches()[0] <= 8.27


def test_kv_methods_have_panels_of_their_own() -> None:
    rows = savings_curves(["llava-1.5-7b"], methods=["snapkv", "h2o"], budgets=[0.2, 0.8])
    axes = draw_savings(rows).get_axes()
    assert [each.get_ylabel().split(" saved")[0].split("\n")[0] for each in axes] == ["KV cache", "TPOT", "end to end"]
    assert axes[-1].get_xlabel() == "KV cache kept (%)"


def test_rows_without_figures_and_no_rows_at_all_still_draw(rows: list[dict[str, Any]]) -> None:
    only = [row for row in rows if row["kept_share"] is None]
    assert only
    assert savings_figure(only, dpi=40).startswith(b"\x89PNG")
    assert savings_figure([], dpi=40).startswith(b"\x89PNG")


def test_equal_rows_make_equal_files(rows: list[dict[str, Any]]) -> None:
    first = savings_figure(rows, dpi=50)
    assert first.startswith(b"\x89PNG\r\n")
    assert first == savings_figure(rows, dpi=50)
