"""Host time of a step of a user's server, from a result of ``vllm bench serve --save-result``.

It is the measured time per output token, less the predicted GPU times: one decode step of the mean batch at the mean
context, and the prefills of other requests that run between decode steps.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asymsim.catalogue.engine import Engine, engine_text
from asymsim.catalogue.gpu import load_gpu
from asymsim.catalogue.load import model_names
from asymsim.estimator.estimate import estimate
from asymsim.estimator.scenario import Scenario
from asymsim.util.errors import InputError
from asymsim.util.files import write_file

KEYS = ("completed", "duration", "total_input_tokens", "total_output_tokens", "mean_tpot_ms")


@dataclass(frozen=True)
class Benchmark:
    """Means over the requests of a run.

    Attributes
    ----------
    input_tokens, output_tokens, running : int
        Tokens of a request; requests that decode together, by Little's law: arrivals a second times decode seconds.
    tpot_s : float
    model_id, backend, date : str
        Empty where the file has none.
    """

    input_tokens: int
    output_tokens: int
    running: int
    tpot_s: float
    model_id: str
    backend: str
    date: str


def read_benchmark(path: str) -> Benchmark:
    """Means of a benchmark's result file, checked.

    Raises
    ------
    InputError
        If the file cannot be read, is no JSON object, lacks a key, or has a value that is not a finite number above 0.
    """
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError("records", path, f"cannot be read ({error.strerror or error})") from None
    except (ValueError, RecursionError) as error:
        raise InputError("records", path, f"is no JSON ({error})") from None
    if not isinstance(document, dict):
        raise InputError("records", path, "must hold one JSON object, as vllm bench serve --save-result writes it")
    missing = [key for key in KEYS if key not in document]
    if missing:
        raise InputError("records", path, f"lacks {', '.join(missing)}; give what vllm bench serve --save-result wrote")
    totals = {key: _number(path, document, key) for key in KEYS}
    output_tokens = round(totals["total_output_tokens"] / totals["completed"])
    if output_tokens < 2:
        raise InputError(
            f"{path}: total_output_tokens", document["total_output_tokens"], "give requests of at least two tokens each"
        )
    tpot_s = totals["mean_tpot_ms"] * 1e-3
    running = totals["completed"] * tpot_s * (output_tokens - 1) / totals["duration"]
    if document.get("max_concurrency") is not None:
        running = min(running, _number(path, document, "max_concurrency"))
    return Benchmark(
        input_tokens=max(1, round(totals["total_input_tokens"] / totals["completed"])),
        output_tokens=output_tokens,
        running=max(1, round(running)),
        tpot_s=tpot_s,
        **{key: str(document.get(key) or "") for key in ("model_id", "backend", "date")},
    )


def _number(path: str, document: dict[str, Any], key: str) -> float:
    value = document[key]
    # Python's reader accepts NaN and Infinity, which JSON has not.
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise InputError(f"{path}: {key}", value, "must be a finite number above 0")
    return float(value)


def fit_engine_host(
    gpu_name: str,
    path: str,
    model: str | None = None,
    dtype: str = "bf16",
    tp_size: int = 1,
    out: str | Path | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Host time of a decode step, as a user's engine, with a summary of the fit.

    The interval of the host time mirrors the interval of the predicted step: in a single run, an error of either is an
    error of the other. No end is below 0.

    Parameters
    ----------
    gpu_name, path : str
        A GPU's name or file; the JSON.
    model : str, optional
        The served model, as a scenario names it; the file's ``model_id`` by default.
    dtype : str
        Number format of the model.
    tp_size : int
        GPUs that served together.
    out : str or pathlib.Path, optional
        File to write, for a scenario's ``engine``.
    say : callable
        Takes a line where the measured time is below the prediction, or where there is no ``out``.

    Raises
    ------
    InputError
        If the result is malformed, no model is known, or the file cannot be written.
    """
    gpu, run = load_gpu(gpu_name), read_benchmark(path)
    decode_scenario = Scenario(
        model=_catalogue_name(path, run.model_id) if model is None else model,
        gpu=gpu_name,
        num_images=0,
        text_tokens=run.input_tokens,
        output_tokens=run.output_tokens,
        batch_size=run.running,
        dtype=dtype,
        tp_size=tp_size,
    )
    decode = estimate(decode_scenario).latency.tpot_s
    prefill_scenario = Scenario(
        model=decode_scenario.model,
        gpu=gpu_name,
        num_images=0,
        text_tokens=run.input_tokens,
        output_tokens=1,
        dtype=dtype,
        tp_size=tp_size,
    )
    prefill = estimate(prefill_scenario).latency.prefill_s
    prefills_per_step = (run.running - 1) / run.output_tokens

    def step_s(decode_s: float | None, prefill_s: float | None, default_s: float) -> float:
        if decode_s is None or prefill_s is None:
            return default_s
        return decode_s + prefills_per_step * prefill_s

    middle = step_s(decode.p50, prefill.p50, 0.0)
    # A roofline has no interval but is a lower bound: any part of the time above it may be the host's, or none.
    low, high = step_s(decode.p05, prefill.p05, middle), step_s(decode.p95, prefill.p95, math.inf)
    low_s, host_s, high_s = (round(max(0.0, run.tpot_s - seconds), 9) for seconds in (high, middle, low))
    if run.tpot_s < middle:
        say(f"measured TPOT {run.tpot_s * 1e3:.3f} ms is below the predicted {middle * 1e3:.3f} ms: the host time is 0")
    entry = Engine(
        name=re.sub(r"[^a-z0-9]+", "_", (run.backend or "vllm").lower()).strip("_") or "vllm",
        host_s=host_s,
        host_p05_s=low_s,
        host_p95_s=high_s,
        source=f"user-supplied measurements, {Path(path).name} ({run.date or 'undated'}): mean TPOT "
        f"{run.tpot_s * 1e3:.3f} ms of {Path(decode_scenario.model).name} {dtype} on {tp_size} {gpu.name}, "
        f"{run.running} requests of {run.input_tokens} + {run.output_tokens} tokens, less operator times",
    )
    if out is None:
        say("give --out FILE to keep it, and --engine FILE to use it")
    else:
        write_file(out, engine_text(entry))
    return {
        "engine": entry.name,
        "gpu": gpu.name,
        "model": decode_scenario.model,
        "running": run.running,
        "input_tokens": run.input_tokens,
        "output_tokens": run.output_tokens,
        "measured_tpot_s": run.tpot_s,
        "predicted_tpot_s": middle,
        "host_s": host_s,
        "host_p05_s": low_s,
        "host_p95_s": high_s,
        "source": decode.source,
    }


def _catalogue_name(path: str, model_id: str) -> str:
    """Name of the served model in the catalogue."""
    name = model_id.rsplit("/", 1)[-1].lower()
    for candidate in (name, re.sub(r"-(instruct|chat|it|hf)$", "", name)):
        if candidate in model_names():
            return candidate
    raise InputError(f"{path}: model_id", model_id, "is no model of the catalogue; name the served one with --model")
