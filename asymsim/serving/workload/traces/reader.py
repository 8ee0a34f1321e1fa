"""Reader of request traces into ``Requests``; the format is recognised by the columns."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from asymsim.core.arrays import Array
from asymsim.estimator.token_counts import LARGEST_TOKENS
from asymsim.serving.workload.arrivals import Arrivals
from asymsim.serving.workload.mixes import COLUMNS
from asymsim.serving.workload.requests import TYPICAL, Requests, make_requests
from asymsim.serving.workload.traces.formats import (
    IMAGE_COLUMN_NAMES,
    TimeUnit,
    TraceFormat,
    detect_format,
    first_present,
)
from asymsim.serving.workload.traces.images import image_columns
from asymsim.serving.workload.traces.parquet import is_parquet, parquet_rows
from asymsim.serving.workload.traces.rows import Chunk, Rows, open_rows
from asymsim.serving.workload.traces.values import times, whole_numbers
from asymsim.util.errors import InputError
from asymsim.util.toml import integer

# Rows of a chunk: enough for NumPy's speed, few enough for the memory.
CHUNK = 2**16
SECONDS_PER_UNIT = {"s": 1.0, "ms": 1e-3, "date": 1e-9}


@dataclass(frozen=True)
class Trace:
    """Requests of a trace file, with a report of the reading.

    Attributes
    ----------
    requests : Requests
        The first one arrives at 0.
    format_name : str
        Name of the file's format, such as "Mooncake".
    skipped_rows : int
        Rows without a prompt or without output, as of failed requests.
    resized_requests : int
        Requests with images of several sizes, whose images all count as the largest.
    """

    requests: Requests
    format_name: str
    skipped_rows: int
    resized_requests: int


def read_trace(
    path: str,
    *,
    arrivals: Arrivals | None = None,
    rate_scale: float = 1.0,
    limit: int | None = None,
    num_images: int = 0,
    image_height: int = TYPICAL,
    image_width: int = TYPICAL,
    time_unit: Literal["s", "ms"] | None = None,
) -> Trace:
    """Read a trace: CSV with a header or one JSON object a line, plain or gzipped, or Parquet.

    ``formats.FORMATS`` lists the formats. Prompt tokens are text tokens alone; images stand beside them in optional
    columns ``num_images``, ``image_height``, ``image_width``, ``visual_tokens`` (of all images of a request),
    ``image_id`` (equal ones are the same images) or, in JSON, ``images``, a list of [height, width].

    Parameters
    ----------
    path : str
    arrivals : Arrivals, optional
        Arrivals in place of the file's times; needed where it has none.
    rate_scale : float
        Speed-up of the recorded times, above 0.
    limit : int, optional
        Most requests to read.
    num_images, image_height, image_width : int
        Number and size of images where the file does not state them.
    clock : {"s", "ms"}, optional
        Unit of the times, where it is not the format's.

    Raises
    ------
    InputError
        If the file cannot be read, has no supported format or no requests, or a row is wrong; with the line.
    """
    if not 0.0 < rate_scale < math.inf:
        raise InputError("rate_scale", rate_scale, "give a number above 0; 2 is twice as fast")
    if limit is not None and limit < 1:
        raise InputError("limit", limit, "give 1 request or more")
    for name, value in (("num_images", num_images), ("image_height", image_height), ("image_width", image_width)):
        integer(0, COLUMNS[name][1])(value, name)
    rows = parquet_rows(path) if is_parquet(path) else open_rows(path)
    trace_format = detect_format(path, rows.names)
    reader = _TraceReader(rows, trace_format, time_unit or trace_format.time_unit, reads_times=arrivals is None)
    columns = reader.columns(limit)
    arrival_s = columns.pop("arrival_s") if arrivals is None else arrivals.times(len(columns["text_tokens"]))
    columns["num_images"][columns["num_images"] < 0] = num_images
    for name, size in (("image_height", image_height), ("image_width", image_width)):
        columns[name][columns[name] == TYPICAL] = size
    requests = make_requests(arrival_s / rate_scale, **columns)
    return Trace(requests, trace_format.name, reader.skipped_rows, reader.resized_requests)


@dataclass
class _TraceReader:
    """Reader of the rows, chunk by chunk."""

    rows: Rows
    trace_format: TraceFormat
    time_unit: TimeUnit
    reads_times: bool
    skipped_rows: int = 0
    resized_requests: int = 0
    images: dict[Any, int] = field(default_factory=dict)

    def columns(self, limit: int | None) -> dict[str, Array]:
        """Columns of ``Requests``, without the skipped rows."""
        names = self._column_names()
        parts: list[dict[str, Array]] = []
        num_kept = 0
        # No further than the limit, so that a wrong row beyond it raises no error.
        for chunk in self.rows.chunks(tuple(names.values()), min(CHUNK, limit or CHUNK)):
            parts.append(self._chunk_columns(names, chunk))
            num_kept += int(parts[-1]["kept"].sum())
            if limit is not None and num_kept >= limit:
                break
        if not parts:
            raise InputError("trace", self.rows.path, "has a header and no rows below it")
        joined = {key: np.concatenate([chunk_columns[key] for chunk_columns in parts]) for key in parts[0]}
        kept = np.flatnonzero(joined.pop("kept"))[:limit]
        if not len(kept):
            raise InputError("trace", self.rows.path, "has no request with both a prompt and output")
        self.skipped_rows = int(kept[-1]) + 1 - len(kept) if limit is not None else len(joined["line"]) - len(kept)
        joined = {key: column[kept] for key, column in joined.items()}
        self.resized_requests = int(joined.pop("resized").sum())
        lines = joined.pop("line")
        return self._in_order(joined, lines, names["arrival_s"]) if self.reads_times else joined

    def _column_names(self) -> dict[str, str]:
        """The file's name of each column; a JSON object may have an optional column that the first object lacks."""
        columns_present = self.rows.names
        columns = {
            "text_tokens": self.trace_format.prompt_columns,
            "output_tokens": self.trace_format.output_columns,
            **IMAGE_COLUMN_NAMES,
        }
        if self.reads_times:
            columns["arrival_s"] = self.trace_format.time_columns
            if first_present(self.trace_format.time_columns, columns_present) is None:
                missing = self.trace_format.time_columns[0]
                raise InputError("target_request_rate", None, f"give one: {self.rows.path} has no column {missing!r}")
        return {key: first_present(names, columns_present) or names[0] for key, names in columns.items()}

    def _chunk_columns(self, names: dict[str, str], chunk: Chunk) -> dict[str, Array]:
        lines, values = chunk
        raw = dict(zip(names, values, strict=True))
        chunk_columns = {"line": lines}
        for key in ("text_tokens", "output_tokens"):
            chunk_columns[key] = whole_numbers(self.rows, lines, names[key], raw[key], 0, LARGEST_TOKENS)
        if self.reads_times:
            chunk_columns["arrival_s"] = times(self.rows, lines, names["arrival_s"], raw["arrival_s"], self.time_unit)
        columns, chunk_columns["resized"] = image_columns(self.rows, lines, names, raw, self.images)
        chunk_columns["kept"] = (chunk_columns["text_tokens"] > 0) & (chunk_columns["output_tokens"] > 0)
        return {**chunk_columns, **columns}

    def _in_order(self, columns: dict[str, Array], lines: Array, name: str) -> dict[str, Array]:
        """Columns with times in seconds from the first; rows out of order are refused, or sorted if the format says."""
        times_read = columns["arrival_s"]
        if not self.trace_format.ordered:
            order = np.argsort(times_read, kind="stable")
            columns = {key: column[order] for key, column in columns.items()}
            times_read = columns["arrival_s"]
        for index in np.flatnonzero(np.diff(times_read) < 0)[:1]:
            previous, value = (_shown_time(time, self.time_unit) for time in times_read[index : index + 2])
            remedy = f"is before line {lines[index]} ({previous}); sort the rows by it"
            raise self.rows.error(lines[index + 1], name, value, remedy)
        return {**columns, "arrival_s": (times_read - times_read[:1]) * SECONDS_PER_UNIT[self.time_unit]}


def _shown_time(time: Any, time_unit: TimeUnit) -> object:
    return str(time.astype("datetime64[ns]")) if time_unit == "date" else time.item()
