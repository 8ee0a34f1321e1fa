"""One row a request, as Parquet or CSV: what it asked, what became of it, and when."""

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

# The columns in order, with what they mean; times of what never came are null.
COLUMNS = {
    "request": "row of the request, from 0, in order of arrival as asked for",
    "status": f"how it ended: {', '.join(STATUS)}",
    "arrival_s": "when it was to be sent, seconds from the start",
    "sent_s": "when it was sent; later where concurrency is limited",
    "queue_s": "from sending to the first step that works on it",
    "ttft_s": "from sending to its first token",
    "tpot_s": "(e2e_s - ttft_s) / (output_tokens - 1); null with one output token",
    "e2e_s": "from sending to its last token",
    "num_images": "images of its prompt",
    "visual_tokens": "visual tokens before pruning",
    "text_tokens": "text tokens of its prompt",
    "prompt_tokens": "tokens that enter the language model",
    "output_tokens": "tokens that it asks to be generated",
    "preemptions": "how often it lost its cache and began anew",
    "replica": "which replica made its first token; -1 for none",
}


def columns(served: SimulationResult) -> dict[str, Array]:
    """The columns of ``COLUMNS``, shape (requests,) each; moments in float64, spans in float32, nan for null."""
    asked = served.requests
    gaps = np.where(asked.output_tokens > 1, asked.output_tokens - 1, np.nan)
    found = {
        "request": np.arange(len(asked)).astype(np.int32),
        "status": np.array(STATUS)[served.status],
        "arrival_s": asked.arrival_s,
        "sent_s": served.sent_s,
        "queue_s": served.queue_s.astype(np.float32),
        "ttft_s": served.ttft_s.astype(np.float32),
        "tpot_s": ((served.e2e_s - served.ttft_s) / gaps).astype(np.float32),
        "e2e_s": served.e2e_s.astype(np.float32),
        "num_images": asked.num_images.astype(np.int32),
        "visual_tokens": served.visual_tokens.astype(np.int32),
        "text_tokens": asked.text_tokens.astype(np.int32),
        "prompt_tokens": served.prompt_tokens.astype(np.int32),
        "output_tokens": asked.output_tokens.astype(np.int32),
        "preemptions": served.preemptions.astype(np.int32),
        "replica": served.replica.astype(np.int32),
    }
    return {name: found[name] for name in COLUMNS}


def parquet_bytes(served: SimulationResult) -> bytes:
    """A Parquet file of the requests; each column's meaning stands in its field's metadata.

    Raises
    ------
    MissingExtraError
        If pyarrow is not installed.
    """
    pa, parquet = arrow()
    arrays, fields, floats = [], [], []
    for name, column in columns(served).items():
        if name == "status":
            array = pa.DictionaryArray.from_arrays(pa.array(served.status), list(STATUS))
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
        # The bytes of a float compress by their place, not as a whole.
        column_encoding=dict.fromkeys(floats, "BYTE_STREAM_SPLIT"),
    )
    content: bytes = sink.getvalue().to_pybytes()
    return content


def csv_bytes(served: SimulationResult) -> bytes:
    """The requests as CSV with a header; null is an empty cell."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    found = columns(served)
    writer.writerow(found)
    # Only nan differs from itself.
    cells = ([None if value != value else value for value in column.tolist()] for column in found.values())
    writer.writerows(zip(*cells, strict=True))
    return buffer.getvalue().encode()


def write_request_log(served: SimulationResult, path: str | Path, field: str = "out") -> None:
    """Write the requests as the file's suffix says, whole or not at all.

    Raises
    ------
    InputError
        If the suffix is neither .parquet nor .csv, or the file cannot be written.
    """
    makers = {".parquet": parquet_bytes, ".csv": csv_bytes}
    suffix = Path(path).suffix.lower()
    if suffix not in makers:
        raise InputError(field, str(path), "name a file that ends in .parquet or .csv")
    write_file(path, makers[suffix](served), field)
