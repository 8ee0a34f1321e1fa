"""Files of rows: what readers find in them, and how large they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asymsim.estimator.estimate import estimate
from asymsim.sweep.runner import Outcome, run_study
from asymsim.sweep.study import Study
from asymsim.sweep.study_file import parse_study, read_study

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "documents.toml"
FIGURES = ["ttft_s", "tpot_s", "peak_bytes"]


def study(**output: Any) -> Study:
    return parse_study(
        {
            "scenario": {"model": "llava-1.5-7b"},
            "axes": {
                "method, keep, settings.layer": [["none"], ["fastv", 0.5, 3], ["fastv", 0.25, 2]],
                "gpu": ["h100_sxm", "l4"],
                "text_tokens": {"distribution": "lognormal", "median": 80, "sigma": 0.8, "samples": 60, "seed": 1},
                "output_tokens": {"from": 1, "to": 50, "step": 7},
                "batch_size": [1, 7],
            },
            "output": {"figures": FIGURES, **output},
        },
        "rows",
    )


@pytest.fixture
def outcome(tmp_path: Path) -> Outcome:
    pytest.importorskip("pyarrow")
    return run_study(study(part_rows=1000), tmp_path)


def test_pyarrow_reads_every_row(outcome: Outcome) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    asked = study(part_rows=1000)
    table = parquet.read_table(outcome.path)
    assert table.column_names == [*asked.grid.varied, *FIGURES]
    assert table.num_rows == asked.grid.rows
    assert [str(table.schema.field(name).type) for name in FIGURES] == ["float"] * 3
    for row in (0, 999, 1000, asked.grid.rows - 1):
        found = table.slice(row, 1).to_pylist()[0]
        expected = {**dict.fromkeys(asked.grid.varied), **asked.grid.items(row)}
        assert {name: found[name] for name in asked.grid.varied} == expected
        one = estimate(asked.grid.scenario(row))
        assert found["ttft_s"] == np.float32(one.latency.ttft_s.p50)
        assert found["peak_bytes"] == np.float32(one.memory.peak_bytes)
        assert np.isnan(found["tpot_s"]) == (one.latency.tpot_s.p50 is None)


def test_pandas_reads_the_folder(outcome: Outcome) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.read_parquet(outcome.path)
    assert len(frame) == outcome.statistics.rows
    assert set(frame["gpu"].unique()) == {"h100_sxm", "l4"}
    assert frame["keep"].isna().mean() == pytest.approx(1 / 3)


def test_polars_reads_the_folder(outcome: Outcome) -> None:
    polars = pytest.importorskip("polars")
    frame = polars.read_parquet(outcome.path / "*.parquet")
    assert frame.shape == (outcome.statistics.rows, 10)
    assert frame["text_tokens"].min() >= 1


def test_figures_are_split_into_bytes_and_axes_point_to_a_dictionary(outcome: Outcome) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    group = parquet.ParquetFile(max(outcome.path.glob("part-*"))).metadata.row_group(0)
    columns = [group.column(index) for index in range(group.num_columns)]
    assert ["BYTE_STREAM_SPLIT" in column.encodings for column in columns] == [False] * 7 + [True] * 3
    assert all("RLE_DICTIONARY" in column.encodings for column in columns[:7])


def test_double_precision_keeps_every_digit(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    asked = study(precision="double")
    table = parquet.read_table(run_study(asked, tmp_path).path)
    for row in (1, 1500):
        one = estimate(asked.grid.scenario(row))
        assert table["ttft_s"][row].as_py() == one.latency.ttft_s.p50
        assert table["peak_bytes"][row].as_py() == one.memory.peak_bytes


def test_a_large_product_takes_less_than_eight_bytes_a_row(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    drawn = {"distribution": "lognormal", "median": 150, "sigma": 0.9, "seed": 2}
    asked = parse_study(
        {
            "scenario": {"model": "llava-1.5-7b"},
            "axes": {
                "batch_size": [1, 8],
                "text_tokens": {**drawn, "samples": 300, "seed": 1},
                "output_tokens": {**drawn, "samples": 400},
            },
            "output": {"figures": ["ttft_s", "tpot_s", "e2e_s"]},
        },
        "large",
    )
    outcome = run_study(asked, tmp_path)
    assert sum(path.stat().st_size for path in outcome.path.glob("part-*")) < 8 * asked.grid.rows


def test_parts_of_csv_have_a_header_and_all_digits(tmp_path: Path) -> None:
    import csv

    asked = study(format="csv", part_rows=2000)
    outcome = run_study(asked, tmp_path)
    rows = [row for path in sorted(outcome.path.glob("part-*")) for row in csv.DictReader(path.open())]
    assert len(rows) == asked.grid.rows
    for row in (0, 1999, 2000, 2500):
        one = estimate(asked.grid.scenario(row))
        assert float(rows[row]["ttft_s"]) == one.latency.ttft_s.p50
        assert rows[row]["tpot_s"] == ("" if one.latency.tpot_s.p50 is None else repr(one.latency.tpot_s.p50))
        assert int(rows[row]["peak_bytes"]) == one.memory.peak_bytes


def test_a_study_without_axes_is_one_row(tmp_path: Path) -> None:
    asked = parse_study({"scenario": {"model": "llava-1.5-7b"}, "output": {"format": "csv"}}, "one")
    assert run_study(asked, tmp_path).statistics.rows == 1


def test_no_row_left_is_an_empty_file(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    content = {
        "filters": ["ttft_s < 0"],
        "scenario": {"model": "llava-1.5-7b"},
        "axes": {"gpu": ["l4"], "text_tokens": [1, 2]},
    }
    outcome = run_study(parse_study(content, "none"), tmp_path)
    table = parquet.read_table(outcome.path)
    assert (table.num_rows, outcome.statistics.kept) == (0, 0)
    assert table.column_names == ["gpu", "text_tokens", "ttft_s", "tpot_s", "peak_bytes"]


def test_the_example_is_reduced_as_its_rows_are(tmp_path: Path) -> None:
    asked = read_study(EXAMPLE)
    content = {**asked.document, "axes": {**asked.document["axes"], "batch_size": [1, 8]}}
    reduced = run_study(parse_study(content, "reduced"), tmp_path).result
    assert reduced is not None
    del content["reduce"]
    content["output"] = {"format": "csv", "figures": ["ttft_s", "tpot_s", "output_tokens_per_s", "ttft_saved"]}
    import csv

    outcome = run_study(parse_study(content, "rows"), tmp_path)
    rows = [row for path in sorted(outcome.path.glob("part-*")) for row in csv.DictReader(path.open())]
    slo, quantiles, pareto, top = reduced["reductions"]
    group = slo["groups"][0]
    mine = [row for row in rows if all(row[name] == str(value or "") for name, value in group["of"].items())]
    assert group["count"] == len(mine)
    assert group["met"]["ttft_s < 0.5"] == sum(float(row["ttft_s"]) < 0.5 for row in mine)
    values = sorted(float(row["ttft_s"]) for row in rows if (row["gpu"], row["batch_size"]) == ("l4", "8"))
    of_l4 = next(each for each in quantiles["groups"] if each["of"] == {"gpu": "l4", "batch_size": 8})
    assert of_l4["least"] == values[0]
    assert of_l4["quantiles"][0]["low"] <= values[(len(values) + 1) // 2 - 1] <= of_l4["quantiles"][0]["high"]
    best = sorted((float(row["ttft_saved"]) for row in rows), reverse=True)[:5]
    assert [row["ttft_saved"] for row in top["groups"][0]["rows"]] == best
    for each in pareto["groups"]:
        front = [(row["ttft_s"], -row["output_tokens_per_s"]) for row in each["rows"]]
        assert front == sorted(front)
        assert [other for _, other in front] == sorted((other for _, other in front), reverse=True)
