"""Gpu -> rates and fitted numbers as arrays; operator table -> seconds with intervals."""

from __future__ import annotations

from asymsim.core.operators.layout import PHASE_NAMES, SPAN_PHASES
from asymsim.core.times import parameters as codes
from asymsim.estimator.operator_table import OperatorTable
from asymsim.estimator.result import Latency, Seconds


def latency(tables: list[tuple[float, OperatorTable]], output_tokens: int) -> Latency:
    """Times of the phases; expectations where the budget adapts to the sample."""

    def span(name: str, divisor: int = 1) -> Seconds:
        low, middle, high = (
            sum(share * table.times[f"{name}{end}"] for share, table in tables) / divisor
            for end in ("_p05", "", "_p95")
        )
        # Of a phase without work, the source of the whole.
        phases = SPAN_PHASES[name] if middle else range(len(PHASE_NAMES))
        source = min(int(table.sources[phase]) for _, table in tables for phase in phases)
        known = source != codes.ROOFLINE or not middle
        return Seconds(
            p05=low if known else None, p50=middle, p95=high if known else None, source=codes.SOURCE_NAMES[source]
        )

    steps = output_tokens - 1
    tpot = span("decode_s", max(1, steps))
    if not steps:
        tpot = Seconds(p05=None, p50=None, p95=None, source=tpot.source)
    return Latency(
        vision_s=span("vision_s"),
        selection_s=span("selection_s"),
        prefill_s=span("prefill_s"),
        ttft_s=span("ttft_s"),
        tpot_s=tpot,
        e2e_s=span("e2e_s"),
    )
