"""Request log: one row for each request, as Parquet or CSV, with its token counts, status and times."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np

from asymsim.core.arrays import Array
from asymsim.core.serving.layout import STATUS
from asymsim.serving.results import SimulationResult
from asymsim.util.errors import InputError
from asymsim.util.files import write_file
from asymsim.util.parquet import arrow

# Columns in order, with their meaning; a time is null where its event never happened.
COLUMNS = {
    "request": "row of the request, from 0, in order of arrival_s",
    "status": f"status at the end of the simulation: {', '.join(STATUS)}",
    "arrival_s": "planned time of sending, seconds from the start",
    "sent_s": "time of sending; later than arrival_s where concurrency is limited",
    "queue_s": "from sending to the first engine step that schedules it",
    "ttft_s": "from sending to its first token",
    "tpot_s": "(e2e_s - ttft_s) / (output_tokens - 1); null with one output token",
    "e2e_s": "from sending to its last token",
    "num_images": "images of its prompt",
    "visual_tokens": "visual tokens before pruning",
    "text_tokens": "text tokens of its prompt",
    "prompt_tokens": "tokens that enter the language model",
    "output_tokens": "tokens to generate",
    "preemptions": "times that it lost its KV cache and was recomputed",
    "replica": "replica that generated its first token; -1 for none",
}


def columns(result: SimulationResult) -> dict[str, Array]:
    """Columns of ``COLUMNS``, shape (requests,) each: points in time as float64, spans as float32, nan for null."""
    requests = result.requests
    num_gaps = np.where(requests.output_tokens > 1, requests.output_tokens - 1, np.nan)
    column_of = {
        "request": np.arange(len(requests)).astype(np.int32),
        "status": np.array(STATUS)[result.status],
        "arrival_s": requests.arrival_s,
        "sent_s": result.sent_s,
        "queue_s": result.queue_s.astype(np.float32),
        "ttft_s": result.ttft_s.astype(np.float32),
        "tpot_s": ((result.e2e_s - result.ttft_s) / num_gaps).astype(np.float32),
        "e2e_s": result.e2e_s.astype(np.float32),
        "num_images": requests.num_images.astype(np.int32),
        "visual_tokens": result.visual_tokens.astype(np.int32),
        "text_tokens": requests.text_tokens.astype(np.int32),
        "prompt_tokens": result.prompt_tokens.astype(np.int32),
        "output_tokens": requests.output_tokens.astype(np.int32),
        "preemptions": result.preemptions.astype(np.int32),
        "replica": result.replica.astype(np.int32),
    }
    return {name: column_of[name] for name in COLUMNS}


def parquet_bytes(result: SimulationResult) -> bytes:
    """Request log as a Parquet file; the metadata of each field hold its meaning.

    Raises
    ------
    MissingExtraError
        If pyarrow is not installed.
    """
    pa, parquet = arrow()
    arrays, fields, floats = [], [], []
    for name, column in columns(result).items():
        if name == "status":
            array = pa.DictionaryArray.from_arrays(pa.array(result.status), list(STATUS))
        else:
            array = pa.array(column, from_pandas=column.dtype.kind == "f")
            floats += [name] if column.dtype.kind == "f" else []
        arrays.append(array)
        fields.append(pa.field(name, array.type, metadata={"description": COLUMNS[name]}))
    sink = pa.BufferOutputStream()
    parquet.write_table(
        pa.Table.from_arrays(arrays, schema=pa.schema(fields)),
        sink,
        compression="zstd",
        use_dictionary=[name for name in COLUMNS if name not in floats],
        # Bytes of floats compress better when grouped by their place in the float.
        column_encoding=dict.fromkeys(floats, "BYTE_STREAM_SPLIT"),
    )
    content: bytes = sink.getvalue().to_pybytes()
    return content


def csv_bytes(result: SimulationResult) -> bytes:
    """Request log as CSV with a header; null is an empty cell."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    column_of = columns(result)
    writer.writerow(column_of)
    # Only nan differs from itself.
    cells = ([None if value != value else value for value in column.tolist()] for column in column_of.values())
    writer.writerows(zip(*cells, strict=True))
    return buffer.getvalue().encode()


def write_request_log(result: SimulationResult, path: str | Path, field: str = "out") -> None:
    """Write the request log in the format of the file's suffix, whole or not at all.

    Raises
    ------
    InputError
        If the suffix is neither .parquet nor .csv, or the file cannot be written.
    """
    encoders = {".parquet": parquet_bytes, ".csv": csv_bytes}
    suffix = Path(path).suffix.lower()
    if suffix not in encoders:
        raise InputError(field, str(path), "name a file that ends in .parquet or .csv")
    write_file(path, encoders[suffix](result), field)
