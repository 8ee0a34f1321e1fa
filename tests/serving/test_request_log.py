"""Request log as read back from Parquet and CSV."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asymsim.core.serving.layout import DONE, STATUS, TOO_LONG
from asymsim.serving.request_log import COLUMNS, columns, csv_bytes, parquet_bytes, write_request_log
from asymsim.util.errors import InputError
from oracles.served_by_hand import served


@pytest.fixture
def result() -> Any:
    nan = np.nan
    return served(
        [0.0, 2.0**-42, 1e6],
        [0.5, 0.25, nan],
        [1.5, 0.25, nan],
        output_tokens=[11, 1, 5],
        status=[DONE, DONE, TOO_LONG],
    )


def test_every_column_is_described_and_there() -> None:
    found = columns(served([0.0], [1.0], [2.0]))
    assert list(found) == list(COLUMNS)
    assert all(len(column) == 1 for column in found.values())
    assert all(len(text) > 10 for text in COLUMNS.values())


def test_parquet_has_types_units_and_nulls(result: Any) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(io.BytesIO(parquet_bytes(result)))
    assert table.column_names == list(COLUMNS)
    assert str(table.schema.field("status").type).startswith("dictionary<values=string")
    assert table.schema.field("ttft_s").metadata == {b"description": COLUMNS["ttft_s"].encode()}
    assert table["status"].to_pylist() == ["done", "done", "too_long"]
    # A moment keeps its last tick; a span is as exact as float32.
    assert table["sent_s"].to_pylist() == [0.0, 2.0**-42, 1e6]
    assert table["tpot_s"].to_pylist() == [pytest.approx(0.1), None, None]
    assert table["ttft_s"].null_count == 1


def test_csv_says_the_same(result: Any) -> None:
    rows = list(csv.DictReader(io.StringIO(csv_bytes(result).decode())))
    assert [row["status"] for row in rows] == ["done", "done", "too_long"]
    assert [row["ttft_s"] for row in rows] == ["0.5", "0.25", ""]
    assert [row["output_tokens"] for row in rows] == ["11", "1", "5"]


def test_no_requests_are_a_file_without_rows() -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    empty = served([], [], [])
    assert parquet.read_table(io.BytesIO(parquet_bytes(empty))).num_rows == 0
    assert csv_bytes(empty).decode() == ",".join(COLUMNS) + "\n"


def test_the_suffix_says_which(result: Any, tmp_path: Path) -> None:
    write_request_log(result, tmp_path / "requests.csv")
    assert (tmp_path / "requests.csv").read_bytes() == csv_bytes(result)
    with pytest.raises(InputError, match=r"\.parquet or \.csv"):
        write_request_log(result, tmp_path / "requests.xlsx")
    assert len(STATUS) == 4
