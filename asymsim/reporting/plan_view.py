"""Tables and sentences of ``plan``: GPUs by kind and method, the best, and the savings of pruning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from asymsim.reporting.tables import DASH, heading, number, percent, plain, seconds, share, table
from asymsim.util.units import MILLI

Row = Mapping[str, Any]


def plan_parts(document: Row) -> list[Any]:
    """The plan: a row a GPU and method, the best of them, savings of pruning, and reasons where no fleet suffices."""
    load = document["load"]["trace"] or document["load"]["workload"]
    demand = f"{document['request_rate']:.4g} requests/s" + (f" of {load}" if load else "")
    percentile = f"p{document['percentile']:g}"
    title = f"Fewest GPUs for {document['model']} at {demand}, {percentile} within {limits_of(document)}"
    columns = [
        ("GPU", "left"),
        ("method", "left"),
        ("keep", "right"),
        ("tp", "right"),
        ("GPUs", "right"),
        ("90 %", "right"),
        ("at work", "right"),
        (f"{percentile} TTFT", "right"),
        (f"{percentile} TPOT", "right"),
        ("goodput/s", "right"),
        ("USD/h", "right"),
        ("USD/1M requests", "right"),
        ("Wh/1k requests", "right"),
    ]
    rows = [_cells(answer) for answer in document["answers"]]
    return [
        heading(title),
        table(columns, rows),
        *_best(document),
        *_savings(document),
        *_sustained(document),
        *_notes(document),
    ]


def limits_of(document: Row) -> str:
    """The limits, such as "TTFT 300 ms, TPOT 30 ms"."""
    return ", ".join(f"{name.removesuffix('_ms').upper()} {limit:g} ms" for name, limit in document["slo"].items())


def _cells(answer: Row) -> list[str]:
    return [
        answer["gpu"],
        answer["method"],
        share(answer["keep"]),
        plain(answer["tp_size"]),
        plain(answer["gpus"]) if answer["gpus"] else "none",
        between(answer["gpus_p05"], answer["gpus_p95"], answer["unmet_draws"]),
        percent(answer["gpu_busy_share"]),
        seconds(_of_ms(answer["ttft_ms"])),
        seconds(_of_ms(answer["tpot_ms"])),
        share(answer["request_goodput"]),
        money(answer["usd_per_hour"]),
        money(answer["usd_per_1m_requests"]),
        number(answer["wh_per_1000_requests"]),
    ]


def between(low: float | None, high: float | None, unmet: int | None = None) -> str:
    """An interval of whole numbers, without an upper end where no fleet meets the limits in some samples."""
    if high is not None:
        return f"{low:g} to {high:g}"
    if low is None:
        return "none" if unmet else DASH
    return f"from {low:g}"


def money(value: float | None) -> str:
    """US dollars."""
    return DASH if value is None else f"{value:,.2f}"


def _of_ms(value: float | None) -> float | None:
    return None if value is None else value * MILLI


def _best(document: Row) -> list[str]:
    lines = []
    for name, text in (("fewest_gpus", "fewest GPUs"), ("cheapest", "cheapest")):
        best = document[name]
        if best is not None:
            price = "" if best["usd_per_hour"] is None else f", {money(best['usd_per_hour'])} USD/h"
            lines.append(f"{text}: {best['gpus']} x {best['gpu']}, {way(best)}, tp {best['tp_size']}{price}")
    return lines


def way(row: Row) -> str:
    """A method and its keep."""
    if row["method"] == "none":
        return "unpruned"
    return f"{row['method']}" + ("" if row["keep"] is None else f" at keep {row['keep']:.3g}")


def _savings(document: Row) -> list[str]:
    return [f"{row['gpu']}: {saving_text(row)}" for row in document["savings"]]


def saving_text(row: Row) -> str:
    """Such as "2 fewer GPUs with asymvlm at keep 0.5 (2 instead of 4), 90 % between 1 and 2"."""
    saved = row["gpus_saved"]
    difference = f"{abs(saved)} {'fewer' if saved > 0 else 'more'} GPU{'s' if abs(saved) != 1 else ''}"
    text = (
        f"{difference if saved else 'no fewer GPUs'} with {way(row)} ({row['gpus']} instead of {row['unpruned_gpus']})"
    )
    low, high = row["gpus_saved_p05"], row["gpus_saved_p95"]
    if low is not None and high is not None:
        return f"{text}, 90 % between {low:g} and {high:g}"
    return f"{text}, 90 % from {low:g} on" if low is not None else text


def _sustained(document: Row) -> list[str]:
    return [
        f"{row['gpu']}: {row['replicas']} x tp {row['tp_size']}, {way(row)}, sustains "
        + ("no rate" if row["sustained_rate"] is None else f"{row['sustained_rate']:.3g} requests/s")
        for row in document.get("sustained", ())
    ]


def _notes(document: Row) -> list[str]:
    answers = document["answers"]
    numbers = sorted({answer["num_requests"] for answer in answers})
    counted = f"{numbers[0]:,}" if len(numbers) == 1 else f"{numbers[0]:,} to {numbers[-1]:,}"
    notes = [f"  * each fleet was simulated with {counted} requests, the same for all methods on a GPU"]
    notes += [
        f"  * {row['gpu']}, {way(row)}: no fleet meets the limits; {row['why']}"
        for row in answers
        if row["gpus"] is None
    ]
    notes += [
        f"  * {row['gpu']}, {way(row)}: {row['refused']:,} requests are refused, and count as missed"
        for row in answers
        if row["refused"]
    ]
    if document["draws"]:
        notes.append(f"  * 90 %: the middle of {document['draws']} samples of the latency model's error at this tp")
    if document["savings"]:
        notes.append("  * the accuracy that pruning costs is in none of these figures")
    return notes
