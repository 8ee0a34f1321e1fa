"""Tables of ``serve-sim``: latencies, counts, rates, use, energy and money."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from asymsim.reporting.tables import DASH, heading, number, percent, plain, seconds, share, table
from asymsim.serving.summary import PERCENTILES
from asymsim.util.units import MILLI

TIMES = {
    "ttft": "TTFT",
    "tpot": "TPOT",
    "itl": "between two tokens",
    "e2el": "end to end",
    "queue": "in the queue",
}
REFUSED = {"too_long": "too long for the model", "too_large": "too large for the memory", "unfinished": "not finished"}


def title_of(document: Mapping[str, Any]) -> str:
    """Model, GPUs, method and offered load of a run, in one line."""
    rate, most = document["request_rate"], document["max_concurrency"]
    workload = document["load"]["workload"] or document["load"]["trace"]
    demand = " at ".join(filter(None, (workload, f"{rate:g} requests/s" if isinstance(rate, float) else "")))
    limit = f"at most {most:,} at once" if most else ""
    method = document["method"] + (f" at keep {document['keep']:g}" if document["keep"] is not None else "")
    where = f"{document['model_id']} on {document['gpus']} x {document['gpu']}"
    return ", ".join(filter(None, (where, "unpruned" if method == "none" else method, demand, limit)))


def serve_parts(document: Mapping[str, Any]) -> list[Any]:
    """The result document: latencies, then counts, rates, use, energy and money."""
    figures = ("mean", *(f"p{percent}" for percent in PERCENTILES))
    columns = [("", "left"), *((figure, "right") for figure in figures)]
    lines = [
        [label, *(seconds(_of_ms(document[f"{figure}_{name}_ms"])) for figure in figures)]
        for name, label in TIMES.items()
    ]
    parts = [heading(title_of(document)), *_warnings(document)]
    if document["completed"]:
        parts.append(table(columns, lines))
    sections = [("", "left"), ("", "left"), ("", "right")]
    rows = [
        [section if not index else "", name, text]
        for section, entries in _sections(document)[: None if document["completed"] else 1]
        for index, (name, text) in enumerate(entries)
    ]
    figures_table = table(sections, rows)
    figures_table.show_header = False
    return [*parts, figures_table, *_notes(document)]


def _of_ms(value: float | None) -> float | None:
    return None if value is None else value * MILLI


def _warnings(document: Mapping[str, Any]) -> list[str]:
    if not document["completed"]:
        return ["no request was served"]
    if document["saturated"]:
        return [
            f"saturated: served {document['served_per_s']:.4g} requests/s of {document['asked_per_s']:.4g} offered; "
            f"the backlog grew by {document['backlog_growth_per_s']:.4g} requests a second, so waiting has no mean"
        ]
    if document["saturated"] is None and document["asked_per_s"] is not None:
        return ["too short to tell whether the fleet keeps up: send more requests"]
    return []


def _sections(document: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    slo = ", ".join(f"{name.removesuffix('_ms').upper()} {limit:g} ms" for name, limit in document["slo"].items())
    requests = [
        ("completed", f"{document['completed']:,} of {document['num_prompts']:,}"),
        *((text, plain(document[reason])) for reason, text in REFUSED.items() if document[reason]),
        ("most at once", plain(document["max_concurrent_requests"])),
        ("preemptions", plain(document["preemptions"])),
    ]
    rates = [
        ("requests/s", share(document["request_throughput"])),
        ("output tokens/s", number(document["output_throughput"])),
        ("all tokens/s", number(document["total_token_throughput"])),
    ]
    if slo:
        rates.append((f"goodput, requests/s within {slo}", share(document["request_goodput"])))
        rates.append(("share within", percent(document["slo_share"])))
    use = [
        ("seconds", number(document["duration"])),
        ("at work", percent(document["gpu_busy_share"])),
        ("KV cache at its fullest", percent(document["kv_peak_share"])),
    ]
    energy = [
        ("power of all GPUs, at most", _unit(document["mean_power_w"], "W")),
        ("energy of 1,000 requests", _unit(document["wh_per_1000_requests"], "Wh")),
        ("output tokens a joule", share(document["output_tokens_per_j"])),
    ]
    money = [
        ("a GPU and hour", _dollars(document["price_usd_per_gpu_hour"])),
        ("1 million requests", _dollars(document["usd_per_1m_requests"])),
        ("1 million output tokens", _dollars(document["usd_per_1m_output_tokens"])),
    ]
    return [("requests", requests), ("throughput", rates), ("use", use), ("energy", energy), ("price", money)]


def _unit(value: float | None, unit: str) -> str:
    return DASH if value is None else f"{value:,.4g} {unit}" if value < 1e4 else f"{value:,.0f} {unit}"


def _dollars(value: float | None) -> str:
    return DASH if value is None else f"{value:,.2f} USD"


def _notes(document: Mapping[str, Any]) -> list[str]:
    notes = [
        f"  * {REFUSED[reason]}, the first rows, counted from 0: {', '.join(str(row) for row in rows)}"
        for reason, rows in document["rejected_rows"].items()
    ]
    source = document["price_source"]
    return notes + ([f"  * price: {source}"] if source and source != "given" else [])
