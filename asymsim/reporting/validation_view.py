"""Tables of ``validate``: kernels, their builds, measured times and pruned outputs."""

from __future__ import annotations

from typing import Any

from asymsim.reporting.tables import DASH, Rows, heading, percent, plain, share, table
from asymsim.util.units import human_seconds


def kernel_parts(rows: Rows) -> list[Any]:
    """Costs of the kernels: algorithmic, predicted = counted, and on matrix instructions."""
    columns = [("kernel", "left"), ("shape", "left"), ("dtype", "left"), ("algorithmic\nFLOPs", "right")]
    columns += [("predicted =\ncounted FLOPs", "right"), ("loaded\nbytes", "right"), ("stored\nbytes", "right")]
    columns += [("instruction\nFLOPs", "right"), ("verdict", "left")]
    lines = [
        [
            row["kernel"].replace("_", " "),
            row["shape"].replace(";", " "),
            row["dtype"],
            plain(row["algorithmic_flops"]),
            *(_both(row, name) for name in ("flops", "load_bytes", "store_bytes")),
            plain(row["instruction_flops"]),
            _verdict(row),
        ]
        for row in rows
    ]
    equal, ordered = (sum(row[name] for row in rows) for name in ("equal", "ordered"))
    return [
        heading("kernels: predicted against counted"),
        table(columns, lines),
        f"{equal} of {len(rows)} cases equal to the integer; algorithmic <= tile <= instructions in {ordered}",
    ]


def _both(row: Any, name: str) -> str:
    predicted, counted = row[f"predicted_{name}"], row[f"counted_{name}"]
    return plain(counted) if predicted == counted else f"{predicted:,} != {counted:,}"


def _verdict(row: Any) -> str:
    return "equal" if row["equal"] and row["ordered"] else "DIFFERS" if not row["equal"] else "OUT OF ORDER"


def resource_parts(rows: Rows) -> list[Any]:
    """Registers, memory and matrix instructions of the builds, and the faults of builds that must not ship."""
    columns = [("kernel", "left"), ("build", "left"), ("target", "left"), ("registers", "right"), ("stack", "right")]
    columns += [("spills", "right"), ("shared", "right"), ("of", "right"), ("PTX FLOPs", "right")]
    columns += [("tile FLOPs", "right"), ("verdict", "left")]
    lines = [
        [
            row["kernel"].replace("_", " "),
            row["label"],
            row["target"],
            *(plain(row[name]) for name in ("registers", "stack_bytes", "spill_bytes")),
            plain(row["shared_bytes"]),
            plain(row["shared_limit_bytes"]),
            plain(row["matrix_flops"]),
            plain(row["tile_flops"]),
            "; ".join(row["faults"]) or "ships",
        ]
        for row in rows
    ]
    faulty = sum(bool(row["faults"]) for row in rows)
    return [
        heading("resources of the shipped kernels, bytes a thread (stack, spills) and a block (shared)"),
        table(columns, lines),
        f"{len(rows) - faulty} of {len(rows)} builds may ship",
    ]


def record_parts(rows: Rows, summary: Rows) -> list[Any]:
    """Predicted beside measured times, and the error of each operator class."""
    columns = [("operator", "left"), ("variant", "left"), ("dtype", "left"), ("shape", "left"), ("measured", "right")]
    columns += [("predicted", "right"), ("error", "right")]
    lines = [
        [
            row["operator"].replace("_", " "),
            row["variant"],
            row["dtype"],
            row["shape"].replace(";", " "),
            human_seconds(row["measured_p50_s"]),
            human_seconds(row["predicted_s"]),
            percent(row["error"]),
        ]
        for row in rows
    ]
    classes = [(name, "left") for name in ("gpu", "operator", "variant")]
    classes += [(name, "right") for name in ("records", "median error", "worst error", "bias")]
    totals = [
        [
            row["gpu"],
            row["operator"].replace("_", " "),
            row["variant"],
            plain(row["records"]),
            *(percent(row[name]) for name in ("median_error", "worst_error", "bias")),
            row["source"],
        ]
        for row in summary
    ]
    return [
        heading("predicted against measured"),
        table(columns, lines),
        heading("error by operator class"),
        table([*classes, ("source", "left")], totals),
    ]


def output_parts(rows: Rows) -> list[Any]:
    """Measured error of pruned outputs beside the bound."""
    columns = [("case", "left"), ("kept", "left"), ("largest mass m", "right"), ("measured error", "right")]
    columns += [("m max||v_i - v_j||", "right"), ("of its bound", "right"), ("verdict", "left")]
    lines = [
        [
            row["case"],
            f"{row['kept']} of {row['tokens']}, {row['rule']}",
            share(row["mass"]),
            share(row["error"]),
            share(row["bound"]),
            DASH if row["tightness"] is None else percent(row["tightness"]),
            "within" if row["within"] else "EXCEEDS",
        ]
        for row in rows
    ]
    within = sum(row["within"] for row in rows)
    return [
        heading("pruned against dense attention, float64"),
        table(columns, lines),
        f"{within} of {len(rows)} cases within their bound in every row",
    ]
