"""Rows of a trace in Parquet, such as a simulation's request log."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from asymsim.serving.workload.traces.rows import Chunk, Rows
from asymsim.util.errors import InputError
from asymsim.util.parquet import arrow

MAGIC = b"PAR1"


def is_parquet(path: str) -> bool:
    """Whether a file begins with Parquet's magic number; False for one that cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except (OSError, ValueError):
        return False


def parquet_rows(path: str) -> Rows:
    """Rows of a Parquet file.

    Raises
    ------
    MissingExtraError
        If pyarrow is not installed.
    InputError
        If the file cannot be read.
    """
    pa, parquet = arrow()
    try:
        file = parquet.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise InputError("trace", path, f"cannot be read ({str(error).splitlines()[0]})") from None
    columns = tuple(file.schema_arrow.names)

    def chunks(wanted: tuple[str, ...], size: int) -> Iterator[Chunk]:
        first_row = 1
        for batch in file.iter_batches(size, columns=[name for name in wanted if name in columns]):
            nulls = [None] * len(batch)
            values = [batch.column(name).to_pylist() if name in columns else nulls for name in wanted]
            yield np.arange(first_row, first_row + len(batch)), values
            first_row += len(batch)

    return Rows(path, columns, chunks, unit="row")
