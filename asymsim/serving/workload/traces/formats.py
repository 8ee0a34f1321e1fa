"""Forms of request traces: what each calls its columns, and what its times count."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from asymsim.util.errors import InputError

Clock = Literal["s", "ms", "date"]


@dataclass(frozen=True)
class TraceFormat:
    """One form; it is told from its columns.

    Attributes
    ----------
    name : str
    text, output, time : tuple of str
        Names of the columns of prompt tokens, of generated tokens and of the arrival; the first that a file has.
    clock : {"s", "ms", "date"}
        What the times are.
    marker : str
        A column that tells this form from a later one of the same names.
    ordered : bool
        Whether the requests must stand in order of their arrival; they are sorted otherwise.
    """

    name: str
    text: tuple[str, ...]
    output: tuple[str, ...]
    time: tuple[str, ...]
    clock: Clock = "s"
    marker: str = ""
    ordered: bool = True


FORMATS = (
    # The columns of ``Requests``.
    TraceFormat("asymsim", ("text_tokens",), ("output_tokens",), ("arrival_s",)),
    # github.com/HPMLL/BurstGPT, README: seconds; requests that failed have 0 response tokens.
    TraceFormat("BurstGPT", ("Request tokens",), ("Response tokens",), ("Timestamp",)),
    # github.com/Azure/AzurePublicDataset, AzureLLMInferenceDataset2023.md and 2024.md (text), and
    # AzureLMMInferenceDataset2025.md (with NumImages; its prompts are sent with so many tokens *and* images).
    TraceFormat("Azure", ("ContextTokens",), ("GeneratedTokens",), ("TIMESTAMP",), clock="date"),
    # github.com/alibaba-edu/qwen-bailian-usagetraces-anon, as AIPerf's documentation describes it: the names of
    # Mooncake, but seconds.
    TraceFormat("Bailian", ("input_length",), ("output_length",), ("timestamp",), marker="chat_id"),
    # github.com/kvcache-ai/Mooncake, FAST25-release/traces: milliseconds (AIPerf documentation, Mooncake traces).
    TraceFormat("Mooncake", ("input_length",), ("output_length",), ("timestamp",), clock="ms"),
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

# Optional columns of any form; ``images`` is a list of [height, width] in JSON.
IMAGES = {
    "num_images": ("num_images", "NumImages"),
    "image_height": ("image_height",),
    "image_width": ("image_width",),
    "visual_tokens": ("visual_tokens",),
    "images": ("images",),
    "image_of": ("image_id", "image_of"),
}


def detect_format(path: str, names: tuple[str, ...]) -> TraceFormat:
    """The form whose columns these are.

    Raises
    ------
    InputError
        If there is none.
    """
    for form in FORMATS:
        counted = first_present(form.text, names) and first_present(form.output, names)
        if counted and (not form.marker or form.marker in names):
            return form
    known = "; ".join(f"{form.text[0]}, {form.output[0]} ({form.name})" for form in FORMATS if not form.marker)
    raise InputError(f"{path}: columns", ", ".join(names), f"needs both counts of one form: {known}")


def first_present(wanted: tuple[str, ...], names: tuple[str, ...]) -> str | None:
    """The first of some names that a file has."""
    return next((name for name in wanted if name in names), None)
