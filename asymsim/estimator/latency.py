"""Latencies of a scenario: seconds of its phases, TTFT, TPOT and end to end, with intervals and sources."""

from __future__ import annotations

from asymsim.core.operators.layout import PHASE_NAMES, SPAN_PHASES
from asymsim.core.times.parameters import ROOFLINE, SOURCE_NAMES
from asymsim.estimator.operator_table import WeightedTables
from asymsim.estimator.result import Latency, Seconds


def latency(tables: WeightedTables, output_tokens: int) -> Latency:
    """Latencies from the operator tables; expectations where there are several."""

    def span_seconds(span: str, divisor: int = 1) -> Seconds:
        p05, median, p95 = (
            sum(share * table.times[f"{span}{end}"] for share, table in tables) / divisor
            for end in ("_p05", "", "_p95")
        )
        # A span without work has the source of the whole.
        phases = SPAN_PHASES[span] if median else range(len(PHASE_NAMES))
        source = min(int(table.sources[phase]) for _, table in tables for phase in phases)
        has_interval = source != ROOFLINE or not median
        return Seconds(
            p05=p05 if has_interval else None,
            p50=median,
            p95=p95 if has_interval else None,
            source=SOURCE_NAMES[source],
        )

    decode_steps = output_tokens - 1
    tpot = span_seconds("decode_s", max(1, decode_steps))
    if not decode_steps:
        tpot = Seconds(p05=None, p50=None, p95=None, source=tpot.source)
    return Latency(
        vision_s=span_seconds("vision_s"),
        selection_s=span_seconds("selection_s"),
        prefill_s=span_seconds("prefill_s"),
        ttft_s=span_seconds("ttft_s"),
        tpot_s=tpot,
        e2e_s=span_seconds("e2e_s"),
    )
