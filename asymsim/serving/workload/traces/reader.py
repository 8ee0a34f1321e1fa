"""Traces of requests, recorded by others or by the user, to ``Requests``; the form is told from the columns."""

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
from asymsim.serving.workload.traces.formats import IMAGES, Clock, TraceFormat, detect_format, first_present
from asymsim.serving.workload.traces.images import image_columns
from asymsim.serving.workload.traces.parquet import is_parquet, parquet_rows
from asymsim.serving.workload.traces.rows import Chunk, Rows, open_rows
from asymsim.serving.workload.traces.values import times, whole_numbers
from asymsim.util.errors import InputError
from asymsim.util.toml import integer

# Rows that are read at a time: enough for NumPy, few enough for the memory.
CHUNK = 2**16
SECONDS = {"s": 1.0, "ms": 1e-3, "date": 1e-9}


@dataclass(frozen=True)
class Trace:
    """What a file held.

    Attributes
    ----------
    requests : Requests
        The first one arrives at 0.
    form : str
        Whose form the file has, such as "Mooncake".
    left_out : int
        Rows without a prompt or without output: requests that failed, and that nothing is known of.
    resized : int
        Requests with images of several sizes, all taken to be as large as the largest.
    """

    requests: Requests
    form: str
    left_out: int
    resized: int


def read_trace(
    path: str,
    *,
    arrivals: Arrivals | None = None,
    rate_scale: float = 1.0,
    limit: int | None = None,
    num_images: int = 0,
    image_height: int = TYPICAL,
    image_width: int = TYPICAL,
    clock: Literal["s", "ms"] | None = None,
) -> Trace:
    """Read a trace: CSV with a header or one JSON object a line, plain or gzipped, or Parquet.

    ``trace_forms.FORMATS`` lists the forms. A prompt's tokens are those of its text; images come beside them, in optional
    columns ``num_images``, ``image_height``, ``image_width``, ``visual_tokens`` (of all images of a request),
    ``image_id`` (equal ones are the same images) or, in JSON, ``images``, a list of [height, width].

    Parameters
    ----------
    path : str
    arrivals : Arrivals, optional
        Instead of the file's times; needed where it has none.
    rate_scale : float
        How many times faster than recorded the requests come, above 0.
    limit : int, optional
        The first so many requests alone.
    num_images, image_height, image_width : int
        Of the requests, and of the images, of which the file does not say it.
    clock : {"s", "ms"}, optional
        What the times count, where it is not what the form has.

    Raises
    ------
    InputError
        If the file cannot be read, has columns of no known form or no requests, or a row is wrong; names the line.
    """
    if not 0.0 < rate_scale < math.inf:
        raise InputError("rate_scale", rate_scale, "give a number above 0; 2 is twice as fast")
    if limit is not None and limit < 1:
        raise InputError("limit", limit, "give 1 request or more")
    for name, value in (("num_images", num_images), ("image_height", image_height), ("image_width", image_width)):
        integer(0, COLUMNS[name][1])(value, name)
    rows = parquet_rows(path) if is_parquet(path) else open_rows(path)
    form = detect_format(path, rows.names)
    reader = _Reader(rows, form, clock or form.clock, timed=arrivals is None)
    columns = reader.columns(limit)
    arrival_s = columns.pop("arrival_s") if arrivals is None else arrivals.times(len(columns["text_tokens"]))
    columns["num_images"][columns["num_images"] < 0] = num_images
    for name, size in (("image_height", image_height), ("image_width", image_width)):
        columns[name][columns[name] == TYPICAL] = size
    made = make_requests(arrival_s / rate_scale, **columns)
    return Trace(made, form.name, reader.left_out, reader.resized)


@dataclass
class _Reader:
    """Goes through the rows, chunk by chunk."""

    rows: Rows
    form: TraceFormat
    clock: Clock
    timed: bool
    left_out: int = 0
    resized: int = 0
    images: dict[Any, int] = field(default_factory=dict)

    def columns(self, limit: int | None) -> dict[str, Array]:
        """Columns of ``Requests``, without those that are left out."""
        names = self._names()
        parts: list[dict[str, Array]] = []
        found = 0
        # Not further than the limit, where a row that is wrong would stop what it has no part in.
        for chunk in self.rows.chunks(tuple(names.values()), min(CHUNK, limit or CHUNK)):
            parts.append(self._part(names, chunk))
            found += int(parts[-1]["kept"].sum())
            if limit is not None and found >= limit:
                break
        if not parts:
            raise InputError("trace", self.rows.path, "has a header and no rows below it")
        joined = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
        kept = np.flatnonzero(joined.pop("kept"))[:limit]
        if not len(kept):
            raise InputError("trace", self.rows.path, "has no request with both a prompt and output")
        self.left_out = int(kept[-1]) + 1 - len(kept) if limit is not None else len(joined["line"]) - len(kept)
        joined = {key: column[kept] for key, column in joined.items()}
        self.resized = int(joined.pop("resized").sum())
        lines = joined.pop("line")
        return self._in_order(joined, lines, names["arrival_s"]) if self.timed else joined

    def _names(self) -> dict[str, str]:
        """What the file calls each column; a JSON object may have an optional one that the first object has not."""
        known = self.rows.names
        columns = {"text_tokens": self.form.text, "output_tokens": self.form.output, **IMAGES}
        if self.timed:
            columns["arrival_s"] = self.form.time
            if first_present(self.form.time, known) is None:
                raise InputError(
                    "target_request_rate", None, f"give one: {self.rows.path} has no column {self.form.time[0]!r}"
                )
        return {key: first_present(names, known) or names[0] for key, names in columns.items()}

    def _part(self, names: dict[str, str], chunk: Chunk) -> dict[str, Array]:
        lines, values = chunk
        raw = dict(zip(names, values, strict=True))
        part = {"line": lines}
        for key in ("text_tokens", "output_tokens"):
            part[key] = whole_numbers(self.rows, lines, names[key], raw[key], 0, LARGEST_TOKENS)
        if self.timed:
            part["arrival_s"] = times(self.rows, lines, names["arrival_s"], raw["arrival_s"], self.clock)
        columns, part["resized"] = image_columns(self.rows, lines, names, raw, self.images)
        part["kept"] = (part["text_tokens"] > 0) & (part["output_tokens"] > 0)
        return {**part, **columns}

    def _in_order(self, columns: dict[str, Array], lines: Array, name: str) -> dict[str, Array]:
        """Times to seconds from the first; out of order they are refused, or all is sorted."""
        stamps = columns["arrival_s"]
        if not self.form.ordered:
            order = np.argsort(stamps, kind="stable")
            columns = {key: column[order] for key, column in columns.items()}
            stamps = columns["arrival_s"]
        for place in np.flatnonzero(np.diff(stamps) < 0)[:1]:
            value, before = (_shown(stamps[at], self.clock) for at in (place + 1, place))
            remedy = f"is before line {lines[place]} ({before}); sort the rows by it"
            raise self.rows.error(lines[place + 1], name, value, remedy)
        return {**columns, "arrival_s": (stamps - stamps[:1]) * SECONDS[self.clock]}


def _shown(stamp: Any, clock: Clock) -> object:
    return str(stamp.astype("datetime64[ns]")) if clock == "date" else stamp.item()
