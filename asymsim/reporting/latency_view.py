"""Tables of ``validate latency``: errors of operator times and of serving runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from asymsim.catalogue.engine import Engine
from asymsim.reporting.tables import DASH, Rows, heading, percent, plain, seconds, table
from asymsim.validation.serving_runs.error_report import LIMITS, PEER, PEER_ERRORS
from asymsim.validation.serving_runs.error_rows import VERDICTS
from asymsim.validation.serving_runs.loader import LEFT_OUT

ERRORS = {
    "rows": ("rows", plain),
    "median_error": ("median", percent),
    "mean_error": ("mean", percent),
    "p90_error": ("p90", percent),
    "bias": ("bias", percent),
    "coverage": ("90 % interval\ncovers", percent),
    "narrow_share": ("narrower\nthan 50 %", percent),
    "roofline_median_error": ("roofline\nmedian", percent),
    "roofline_mean_error": ("roofline\nmean", percent),
}
NOT_MODELLED = (
    "Not modelled: the benchmark's queue beyond these coefficients, cached prefixes, prefill in chunks and its mixing",
    "with decode in one step, the host's time in TTFT, block scales of fp8, sampling other than in the host's share.",
)


def operator_parts(rows: Rows) -> list[Any]:
    """Errors of fitted operator times by operator class, GPU and framework."""
    columns = [("operator", "left"), ("GPU", "left"), ("tables", "left")]
    lines = [[row["operator"], row["gpu"], _tables(row["rows_of"]), *_error_cells(row)] for row in rows]
    return [heading("operator times: |predicted / measured - 1|"), table([*columns, *_error_columns()], lines)]


def _tables(framework: str) -> str:
    return f"{framework}, held out" if framework == "vllm" else f"{framework}, all"


def _error_columns() -> list[tuple[str, str]]:
    return [(title, "right") for title, _ in ERRORS.values()]


def _error_cells(row: Mapping[str, Any]) -> list[str]:
    return [show(row[name]) for name, (_, show) in ERRORS.items()]


def end_to_end_parts(
    errors: Rows, deployments: Rows, hosts: Mapping[str, Engine], left_out: Mapping[str, int]
) -> list[Any]:
    """Errors of TPOT and TTFT, the queue of each deployment, the hosts, and the rows left out."""
    lines = [[row["operator"], row["rows_of"], *_error_cells(row)] for row in errors]
    judged = [(row["operator"], row) for row in errors if row["judged"]]
    return [
        heading("end to end: measured runs on one GPU against the simulator"),
        table([("time", "left"), ("predicted", "left"), *_error_columns()], lines),
        *(
            f"{name}: mean error {percent(row['mean_error'])}, limit {percent(LIMITS[name])}; roofline "
            f"{percent(row['roofline_mean_error'])}; {PEER} {percent(PEER_ERRORS[name][0])}"
            f" on the {PEER_ERRORS[name][1]} runs that it answers"
            for name, row in judged
        ),
        heading("by deployment: TTFT = prefill (base + slope batch / 20) + slots x completion interval"),
        _deployment_table(deployments),
        heading("host time in each engine step, fitted on one half of the runs"),
        table(
            [("engine", "left"), ("median", "right"), ("5 %", "right"), ("95 %", "right"), ("from", "left")],
            [
                [name, seconds(host.host_s), seconds(host.host_p05_s), seconds(host.host_p95_s), host.source]
                for name, host in hosts.items()
            ],
        ),
        *(f"{sum(row[name] for row in deployments)} runs {name}: {text}" for name, text in VERDICTS.items()),
        "rows left out: " + ", ".join(f"{count} {name} ({LEFT_OUT[name]})" for name, count in sorted(left_out.items())),
        *NOT_MODELLED,
    ]


def _deployment_table(rows: Rows) -> Any:
    columns = [("deployment", "left"), ("rows", "right"), *((name, "right") for name in VERDICTS)]
    columns += [(name, "right") for name in ("TPOT mean", "bias", "TTFT mean", "bias", "base", "slope", "slots")]
    cells = ("tpot_mean_error", "tpot_bias", "ttft_mean_error", "ttft_bias")
    lines = [
        [
            row["deployment"],
            *(plain(row[name]) for name in ("rows", *VERDICTS)),
            *(percent(row[name]) for name in cells),
            *(DASH if row[name] is None else f"{row[name]:.2f}" for name in ("base", "slope")),
            plain(row["slots"]),
        ]
        for row in rows
    ]
    return table(columns, lines)
