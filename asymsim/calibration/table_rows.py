"""Rows of one published table of operator times, without the rows that an exclusion rule leaves out.

Rows that mislead are dropped and counted by the name of an exclusion rule (`EXCLUSION_RULES`); nothing is dropped
silently or repaired.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from asymsim.core.arrays import Array
from asymsim.util.errors import InputError

EXCLUSION_RULES = {
    "not_positive": "a time that is not a finite number above 0",
    "repeated": "the same shape measured more than once: the median is kept",
    "beats_peak": "faster than the tensor cores' dense peak",
    "beats_memory": "faster than device memory can deliver the operands once: they lay in L2 from the run before",
    "beats_link": "faster than the link can carry the message once",
    "fp8_cache": "an fp8 KV cache, whose conversion is another kernel",
    "sliding_window": "a sliding window: another kernel",
    "cached_prefix": "prefill attention over a cached prefix; the tables have none",
    "head_size_512": "head size 512: another kernel, and no model of the catalogue has it",
    "empty": "a shape of no work (one token, or a zero)",
    "eager": "launched by the host one by one, without a CUDA graph",
    "spread_experts": "experts spread over several GPUs",
}


@dataclass(frozen=True)
class Rows:
    """Rows of one table.

    Attributes
    ----------
    columns : dict of str to array
        ``seconds`` among them.
    dropped : dict of str to int
        Rows dropped, by exclusion rule.
    source : str
        Path of the table in the package.
    """

    columns: dict[str, Array]
    dropped: dict[str, int]
    source: str

    def __getitem__(self, name: str) -> Array:
        return self.columns[name]

    def __len__(self) -> int:
        return len(self.columns["seconds"])

    def floats(self, *names: str) -> list[Array]:
        """Columns as float64."""
        return [self.columns[name].astype(np.float64) for name in names]

    def keep(self, mask: Array) -> Rows:
        """Only the rows of a mask."""
        return replace(self, columns={name: column[mask] for name, column in self.columns.items()})

    def drop(self, rule: str, mask: Array) -> Rows:
        """All but the rows of a mask, which are counted under an exclusion rule."""
        count = int(mask.sum())
        if not count:
            return self
        return replace(self.keep(~mask), dropped={**self.dropped, rule: self.dropped.get(rule, 0) + count})


def read_table(
    path: Path, integers: Sequence[str], texts: Sequence[str] = (), only: Mapping[str, str] | None = None
) -> Rows:
    """Rows of a Parquet table whose times are positive.

    Parameters
    ----------
    path : pathlib.Path
        A Parquet file below a folder ``data``.
    integers, texts : sequence of str
        Columns to read as integers and as strings; 0 or "" where an older table lacks one.
    only : mapping of str to str, optional
        Values that rows must have; a column that the table lacks is no condition.

    Raises
    ------
    InputError
        If the file is no table, has no column ``latency``, or one of ``integers`` is no number.
    """
    import pyarrow.parquet as parquet
    from pyarrow import ArrowException

    try:
        table = parquet.read_table(path)
        table_columns = set(table.column_names)
        if "latency" not in table_columns:
            raise InputError("table", str(path), "has no column latency")
        mask = np.ones(table.num_rows, bool)
        for name, value in (only or {}).items():
            if name in table_columns:
                mask &= table[name].to_numpy(zero_copy_only=False).astype(str) == value
        columns = {
            name: table[name].to_numpy(zero_copy_only=False)[mask].astype(kind)
            if name in table_columns
            else np.zeros(int(mask.sum()), kind)
            for names, kind in ((integers, np.int64), (texts, np.str_))
            for name in names
        }
        columns["seconds"] = table["latency"].to_numpy(zero_copy_only=False)[mask].astype(np.float64) * 1e-3
    except (ArrowException, OSError, ValueError, TypeError) as error:
        raise InputError("table", str(path), f"cannot be read ({' '.join(str(error).split())})") from None
    rows = Rows(columns, {}, "/".join(path.parts[path.parts.index("data") + 1 :]))
    return rows.drop("not_positive", ~(np.isfinite(rows["seconds"]) & (rows["seconds"] > 0)))


def medians(rows: Rows, shape: Sequence[str]) -> Rows:
    """One row a shape: the median of repeated measurements, the lower of two in the middle."""
    if not len(rows):
        return rows
    keys = np.stack([np.unique(rows[name], return_inverse=True)[1].ravel() for name in shape], axis=1)
    _, group, count = np.unique(keys, axis=0, return_inverse=True, return_counts=True)
    order = np.lexsort((rows["seconds"], group.ravel()))
    middle = order[np.cumsum(count) - count + (count - 1) // 2]
    repeated = np.ones(len(rows), bool)
    repeated[middle] = False
    return rows.drop("repeated", repeated)
