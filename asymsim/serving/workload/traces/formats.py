"""Formats of request traces: the names of their columns and the unit of their times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from asymsim.util.errors import InputError

TimeUnit = Literal["s", "ms", "date"]


@dataclass(frozen=True)
class TraceFormat:
    """A trace format, recognised by its columns.

    Attributes
    ----------
    name : str
    prompt_columns, output_columns, time_columns : tuple of str
        Names of the columns of prompt tokens, of generated tokens and of the arrival; the first one in a file counts.
    time_unit : {"s", "ms", "date"}
        Unit of the times.
    marker_column : str
        Column that distinguishes this format from a later one with the same names.
    ordered : bool
        Whether requests must be in order of their arrival; they are sorted otherwise.
    """

    name: str
    prompt_columns: tuple[str, ...]
    output_columns: tuple[str, ...]
    time_columns: tuple[str, ...]
    time_unit: TimeUnit = "s"
    marker_column: str = ""
    ordered: bool = True


FORMATS = (
    # The columns of ``Requests``.
    TraceFormat("asymsim", ("text_tokens",), ("output_tokens",), ("arrival_s",)),
    # github.com/HPMLL/BurstGPT, README: seconds; requests that failed have 0 response tokens.
    TraceFormat("BurstGPT", ("Request tokens",), ("Response tokens",), ("Timestamp",)),
    # github.com/Azure/AzurePublicDataset, AzureLLMInferenceDataset2023.md and 2024.md (text), and
    # AzureLMMInferenceDataset2025.md (with NumImages; its prompts are sent with so many tokens *and* images).
    TraceFormat("Azure", ("ContextTokens",), ("GeneratedTokens",), ("TIMESTAMP",), time_unit="date"),
    # github.com/alibaba-edu/qwen-bailian-usagetraces-anon, as AIPerf's documentation describes it: the names of
    # Mooncake, but seconds.
    TraceFormat("Bailian", ("input_length",), ("output_length",), ("timestamp",), marker_column="chat_id"),
    # github.com/kvcache-ai/Mooncake, FAST25-release/traces: milliseconds (AIPerf documentation, Mooncake traces).
    TraceFormat("Mooncake", ("input_length",), ("output_length",), ("timestamp",), time_unit="ms"),
    # github.com/vllm-project/vllm, vllm/benchmarks/serve.py: the lists that --save-detailed adds to a result,
    # start_times since pull request 32667. A client starts requests in nearly, not quite, the order of their numbers.
    TraceFormat("vLLM result", ("input_lens",), ("output_lens",), ("start_times",), ordered=False),
    # The fields of SampleRequest (vllm/benchmarks/datasets) and names that other clients have for them.
    TraceFormat(
        "vLLM",
        ("prompt_len", "prompt_tokens", "input_len", "input_tokens", "input_length"),
        ("output_len", "output_tokens", "expected_output_len", "output_length"),
        ("timestamp",),
    ),
)

# Optional columns of any format; ``images`` is a list of [height, width] in JSON.
IMAGE_COLUMN_NAMES = {
    "num_images": ("num_images", "NumImages"),
    "image_height": ("image_height",),
    "image_width": ("image_width",),
    "visual_tokens": ("visual_tokens",),
    "images": ("images",),
    "image_of": ("image_id", "image_of"),
}


def detect_format(path: str, names: tuple[str, ...]) -> TraceFormat:
    """Format of a file with these column names.

    Raises
    ------
    InputError
        If no format has them.
    """
    for trace_format in FORMATS:
        count_columns = (trace_format.prompt_columns, trace_format.output_columns)
        has_counts = all(first_present(wanted, names) for wanted in count_columns)
        if has_counts and (not trace_format.marker_column or trace_format.marker_column in names):
            return trace_format
    supported = "; ".join(
        f"{trace_format.prompt_columns[0]}, {trace_format.output_columns[0]} ({trace_format.name})"
        for trace_format in FORMATS
        if not trace_format.marker_column
    )
    raise InputError(f"{path}: columns", ", ".join(names), f"needs both counts of one format: {supported}")


def first_present(wanted: tuple[str, ...], names: tuple[str, ...]) -> str | None:
    """First of the wanted names that a file has."""
    return next((name for name in wanted if name in names), None)
