"""What the host adds to each step of a user's own server, from a result of ``vllm bench serve --save-result``.

Measured time per output token, less what the simulator predicts for the GPU: one decode step of the mean batch at the
mean context, and the prefills of other requests that come between the steps.
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
        Of a request; requests that decode together, by Little's law: arrivals a second times seconds of decoding.
    tpot_s : float
    model_id, backend, date : str
        Empty where the file does not say.
    """

    input_tokens: int
    output_tokens: int
    running: int
    tpot_s: float
    model_id: str
    backend: str
    date: str


def read_benchmark(path: str) -> Benchmark:
    """Read a result and check what is needed of it.

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
    numbers = {key: _number(path, document, key) for key in KEYS}
    output_tokens = round(numbers["total_output_tokens"] / numbers["completed"])
    if output_tokens < 2:
        raise InputError(
            f"{path}: total_output_tokens", document["total_output_tokens"], "give requests of at least two tokens each"
        )
    tpot_s = numbers["mean_tpot_ms"] * 1e-3
    running = numbers["completed"] * tpot_s * (output_tokens - 1) / numbers["duration"]
    if document.get("max_concurrency") is not None:
        running = min(running, _number(path, document, "max_concurrency"))
    return Benchmark(
        input_tokens=max(1, round(numbers["total_input_tokens"] / numbers["completed"])),
        output_tokens=output_tokens,
        running=max(1, round(running)),
        tpot_s=tpot_s,
        **{key: str(document.get(key) or "") for key in ("model_id", "backend", "date")},
    )


def _number(path: str, document: dict[str, Any], key: str) -> float:
    value = document[key]
    # JSON's own NaN and Infinity are taken by Python's reader.
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
    """The host's seconds a step, as an engine of the user's own.

    Their interval is that of the predicted step, turned round: of one run, all that is unknown of the host is
    what is unknown of the GPU. Nothing is below 0.

    Parameters
    ----------
    gpu_name, path : str
        A GPU's name or file; the JSON.
    model : str, optional
        What was served, as a scenario names it; the file's ``model_id`` by default.
    dtype : str
        Number format of the model.
    tp_size : int
        GPUs that served together.
    out : str or pathlib.Path, optional
        File to write, for a scenario's ``engine``.
    say : callable
        Takes a line where the measured time is below the prediction, or no file was asked for.

    Raises
    ------
    InputError
        If the result is malformed, no model is known, or the file cannot be written.
    """
    device, run = load_gpu(gpu_name), read_benchmark(path)
    served = Scenario(
        model=_served(path, run.model_id) if model is None else model,
        gpu=gpu_name,
        num_images=0,
        text_tokens=run.input_tokens,
        output_tokens=run.output_tokens,
        batch_size=run.running,
        dtype=dtype,
        tp_size=tp_size,
    )
    decode = estimate(served).latency.tpot_s
    one = Scenario(
        model=served.model,
        gpu=gpu_name,
        num_images=0,
        text_tokens=run.input_tokens,
        output_tokens=1,
        dtype=dtype,
        tp_size=tp_size,
    )
    prefill = estimate(one).latency.prefill_s
    between = (run.running - 1) / run.output_tokens

    def step(of_decode: float | None, of_prefill: float | None, otherwise: float) -> float:
        if of_decode is None or of_prefill is None:
            return otherwise
        return of_decode + between * of_prefill

    middle = step(decode.p50, prefill.p50, 0.0)
    # A roofline has no interval, but nothing is faster: all beyond it may be the host's, or none.
    low, high = step(decode.p05, prefill.p05, middle), step(decode.p95, prefill.p95, math.inf)
    low_s, host_s, high_s = (round(max(0.0, run.tpot_s - seconds), 9) for seconds in (high, middle, low))
    if run.tpot_s < middle:
        say(f"measured TPOT {run.tpot_s * 1e3:.3f} ms is below the predicted {middle * 1e3:.3f} ms: the host adds 0")
    entry = Engine(
        name=re.sub(r"[^a-z0-9]+", "_", (run.backend or "vllm").lower()).strip("_") or "vllm",
        host_s=host_s,
        host_p05_s=low_s,
        host_p95_s=high_s,
        source=f"own measurements, {Path(path).name} ({run.date or 'undated'}): mean TPOT {run.tpot_s * 1e3:.3f} ms of "
        f"{Path(served.model).name} {dtype} on {tp_size} {device.name}, {run.running} requests of {run.input_tokens} + "
        f"{run.output_tokens} tokens, less operator times",
    )
    if out is None:
        say("give --out FILE to keep it, and --engine FILE to use it")
    else:
        write_file(out, engine_text(entry))
    return {
        "engine": entry.name,
        "gpu": device.name,
        "model": served.model,
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


def _served(path: str, model_id: str) -> str:
    """The catalogue's name of what was served."""
    name = model_id.rsplit("/", 1)[-1].lower()
    for known in (name, re.sub(r"-(instruct|chat|it|hf)$", "", name)):
        if known in model_names():
            return known
    raise InputError(f"{path}: model_id", model_id, "is no model of the catalogue; name what was served with --model")
