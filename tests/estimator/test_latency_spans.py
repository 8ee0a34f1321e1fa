"""Times of phases from operator tables: expectations over a mixture, times per token, sources."""

from __future__ import annotations

import numpy as np
import pytest

from asymsim.core.estimate import TIME_COLUMNS
from asymsim.core.operators.layout import OPERATOR, PHASE_NAMES, SPAN_PHASES
from asymsim.core.times.parameters import FITTED, MEASURED, NUM_TIME_CLASSES, ROOFLINE, TRANSFERRED
from asymsim.estimator.latency import latency
from asymsim.estimator.operator_table import OperatorTable

VISION, PROJECTOR, SELECTION, PREFILL, DECODE, DECODE_SELECTION = range(len(PHASE_NAMES))
NONE = np.zeros(0, np.int64)


def table(unit: float = 1.0, sources: dict[int, int] | None = None, **medians: float) -> OperatorTable:
    """Spans of 10 s, 20 s, ... in the order of ``SPAN_PHASES``, in units; their ends are 1 s early and 2 s late."""
    times = dict(zip(TIME_COLUMNS, (0.0,) * len(TIME_COLUMNS), strict=True))
    for at, span in enumerate(SPAN_PHASES, 1):
        median = medians.get(span, 10.0 * at) * unit
        for end, shift in (("_p05", -1.0), ("", 0.0), ("_p95", 2.0)):
            times[f"{span}{end}"] = median + shift * unit * (median > 0)
    codes = np.full(len(PHASE_NAMES), MEASURED)
    for phase, source in (sources or {}).items():
        codes[phase] = source
    return OperatorTable(
        rows=np.zeros(0, OPERATOR), totals=NONE, seconds=np.zeros((len(PHASE_NAMES), NUM_TIME_CLASSES, 3)),
        sources=codes,
        times=times, visual=NONE, text=NONE, kv=NONE, final_kv=NONE,
    )  # fmt: skip


def test_each_span_has_its_median_and_ends() -> None:
    latencies = latency([(1.0, table())], 11)
    spans = (latencies.vision_s, latencies.selection_s, latencies.prefill_s, latencies.ttft_s, latencies.e2e_s)
    assert [span.p50 for span in spans] == [10, 20, 30, 50, 60]
    assert [span.p05 for span in spans] == [9, 19, 29, 49, 59]
    assert [span.p95 for span in spans] == [12, 22, 32, 52, 62]
    # 40 s for ten tokens after the first.
    assert (latencies.tpot_s.p05, latencies.tpot_s.p50, latencies.tpot_s.p95) == (3.9, 4.0, 4.2)


def test_a_mixture_is_its_expectation() -> None:
    latencies = latency([(0.25, table()), (0.75, table(unit=3.0))], 11)
    assert (latencies.ttft_s.p05, latencies.ttft_s.p50, latencies.ttft_s.p95) == (2.5 * 49, 2.5 * 50, 2.5 * 52)
    assert latencies.tpot_s.p50 == 10.0


def test_one_token_has_no_time_per_token() -> None:
    latencies = latency([(1.0, table(decode_s=0.0, sources={DECODE: ROOFLINE}))], 1)
    assert (latencies.tpot_s.p05, latencies.tpot_s.p50, latencies.tpot_s.p95) == (None, None, None)
    assert latency([(1.0, table())], 2).tpot_s.p50 == 40.0


@pytest.mark.parametrize(
    ("phase", "spans"),
    [
        (VISION, {"vision_s", "ttft_s", "e2e_s"}),
        (PROJECTOR, {"vision_s", "ttft_s", "e2e_s"}),
        (SELECTION, {"selection_s", "ttft_s", "e2e_s"}),
        (PREFILL, {"prefill_s", "ttft_s", "e2e_s"}),
        (DECODE, {"tpot_s", "e2e_s"}),
        (DECODE_SELECTION, {"tpot_s", "e2e_s"}),
    ],
)
@pytest.mark.parametrize(("source", "name"), [(ROOFLINE, "roofline"), (TRANSFERRED, "transferred"), (FITTED, "fitted")])
def test_a_span_is_as_certain_as_its_least_certain_phase(phase: int, spans: set[str], source: int, name: str) -> None:
    # In either part of a mixture.
    latencies = latency([(0.5, table()), (0.5, table(sources={phase: source}))], 11)
    for span in ("vision_s", "selection_s", "prefill_s", "ttft_s", "tpot_s", "e2e_s"):
        seconds = getattr(latencies, span)
        assert seconds.source == (name if span in spans else "measured")
        assert (seconds.p05 is None) == (seconds.p95 is None) == (source == ROOFLINE and span in spans)
        assert seconds.p50 is not None


def test_a_span_without_work_has_the_source_of_the_whole_and_an_interval() -> None:
    latencies = latency([(1.0, table(selection_s=0.0, sources={DECODE: ROOFLINE}))], 11)
    assert latencies.selection_s.source == "roofline"
    assert (latencies.selection_s.p05, latencies.selection_s.p50, latencies.selection_s.p95) == (0.0, 0.0, 0.0)
