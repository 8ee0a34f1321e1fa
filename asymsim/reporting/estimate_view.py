"""Tables of ``estimate``: the costs of one scenario, section by section, and its operators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from asymsim.reporting.tables import DASH, Rows, heading, number, percent, plain, share, table
from asymsim.util.units import human_bytes, human_flops, human_seconds

if TYPE_CHECKING:
    from rich.table import Table


TIMES = {
    "vision_s": "vision encoder, projector",
    "selection_s": "selection",
    "prefill_s": "prefill",
    "ttft_s": "TTFT",
    "tpot_s": "TPOT",
    "e2e_s": "end to end",
}
SAVED = {
    "flops": "FLOPs",
    "prefill_flops": "prefill FLOPs",
    "kv_bytes": "KV cache",
    "peak_bytes": "peak memory",
    "ttft": "TTFT",
    "tpot": "TPOT",
    "e2e": "end to end",
}


def runs(values: Sequence[float]) -> str:
    """Values by layer with equal neighbours joined: ``0-1: 576, 2-31: 288``."""
    pieces, start = [], 0
    for index in range(1, len(values) + 1):
        if index == len(values) or values[index] != values[start]:
            where = f"{start}" if index - 1 == start else f"{start}-{index - 1}"
            pieces.append(f"{where}: {values[start]:g}")
            start = index
    return ", ".join(pieces[:8] + (["..."] if len(pieces) > 8 else []))


def estimate_parts(document: Mapping[str, Any]) -> list[Any]:
    """Tables of one result document, with its operators where it lists them."""
    from rich import box
    from rich.table import Table

    title = heading(f"{document['model']} on {document['gpu']}, {document['schedule']['method']}")
    sections = Table(box=box.SIMPLE_HEAD, show_header=False)
    sections.add_column(style="bold")
    sections.add_column()
    sections.add_column(overflow="fold")
    for section, lines in _sections(document):
        for index, (name, text) in enumerate(lines):
            sections.add_row("" if index else section, name, text)
        sections.add_section()
    operators = document.get("operators")
    return [title, sections, *([heading("operators"), operators_table(operators)] if operators else [])]


def _sections(document: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    schedule, memory, kv = document["schedule"], document["memory"], document["kv_cache"]
    visual = document["workload"]["visual_tokens"]
    settings = ", ".join(f"{name} = {value}" for name, value in schedule["settings"].items() if value is not None)
    mean = schedule["mean_visual_tokens"]
    kept = f"{number(mean)} of {visual:,}" + (f" ({percent(mean / visual)})" if visual else "")
    plans = [
        ("method", f"{schedule['method']} ({settings})" if settings else schedule["method"]),
        ("visual tokens, mean over layers", kept),
        ("visual tokens by layer", runs(schedule["visual_tokens_by_layer"])),
        ("KV entries by layer after prefill", runs(schedule["kv_tokens_by_layer"])),
        ("KV entries by layer at the end", runs(schedule["final_kv_tokens_by_layer"])),
    ]
    if schedule["masking"]:
        plans.append(("masking", "scores are masked, no sequence gets shorter"))
    sizes = [
        ("weights", human_bytes(memory["weights_bytes"])),
        ("KV cache, paged", human_bytes(memory["kv_cache_bytes"])),
        ("activations", human_bytes(memory["activation_bytes"])),
        ("peak", f"{human_bytes(memory['peak_bytes'])} ({'fits' if memory['fits'] else 'DOES NOT FIT'})"),
        ("largest batch that fits", plain(memory["max_batch_size"])),
        ("KV cache of one token", human_bytes(kv["bytes_per_token"])),
    ]
    return [
        ("workload", [(name.replace("_", " "), plain(value)) for name, value in document["workload"].items()]),
        ("schedule", plans),
        ("parameters", [(name.replace("_", " "), plain(value)) for name, value in document["parameters"].items()]),
        (
            f"FLOPs ({document['convention']})",
            [(name.replace("_", " "), human_flops(value)) for name, value in document["flops"].items()],
        ),
        ("memory of a GPU", sizes),
        ("latency", [(TIMES[name], _interval(value)) for name, value in document["latency"].items()]),
        ("saved", [(SAVED[name], _saved(document, name)) for name in SAVED]),
    ]


def _saved(document: Mapping[str, Any], name: str) -> str:
    """The saved share, with its interval where it has one."""
    text = percent(document["savings"][name])
    ends = document["savings_interval"].get(name)
    if ends is None or ends["p05"] is None:
        return text
    return f"{text} ({percent(ends['p05'])} to {percent(ends['p95'])} in 90 %)"


def _interval(time: Mapping[str, Any]) -> str:
    if time["p50"] is None:
        return f"{DASH} (not defined for one output token)"
    if time["p05"] is None or time["p95"] is None:
        return f"{human_seconds(time['p50'])} ({time['source']}: no interval)"
    return (
        f"{human_seconds(time['p50'])} "
        f"({human_seconds(time['p05'])} to {human_seconds(time['p95'])} in 90 %, {time['source']})"
    )


def operators_table(rows: Rows) -> Table:
    """Table of operators: phase, layers, shape, and FLOPs and bytes over all executions."""
    columns = [(name, "left") for name in ("phase", "operator", "kind", "layers")]
    columns += [(name, "right") for name in ("times", "shape", "FLOPs", "read", "written", "FLOP/byte", "time")]
    return table(columns, [_operator(row) for row in rows])


def _operator(row: Mapping[str, Any]) -> list[str]:
    last = row["layer"] + row["layers"] - 1
    read = row["weight_bytes"] + row["read_bytes"] + row["kv_read_bytes"]
    written = row["write_bytes"] + row["kv_write_bytes"]
    flops = row["flops"] + row["elementwise_flops"]
    shape = f"{row['m']} x {row['n']} x {row['k']}" if row["k"] else DASH
    return [
        row["phase"].replace("_", " "),
        row["name"].replace("_", " "),
        row["kind"].replace("_", " "),
        str(last) if row["layers"] == 1 else f"{row['layer']}-{last}",
        plain(row["count"]),
        f"{row['groups']} of {shape}" if row["groups"] > 1 and row["k"] else shape,
        human_flops(flops),
        human_bytes(read),
        human_bytes(written),
        share(flops / (read + written)) if read + written else DASH,
        human_seconds(row["seconds"]),
    ]
