"""Operator table of one scenario: encoder, projector, selection, prefill, all decode steps."""

from __future__ import annotations

from asymsim.core.jit import inlined
from asymsim.core.model_arrays import ModelArrays, Precision
from asymsim.core.operators.decode import put_decode
from asymsim.core.operators.encoder import put_projector, put_tower
from asymsim.core.operators.prefill import put_prefill
from asymsim.core.operators.selection import put_selection
from asymsim.core.schedule import run_language_model, run_tower
from asymsim.core.schedule_arrays import ScheduleArrays
from asymsim.core.token_counts import TokenCounts
from asymsim.core.workspace import Workspace


@inlined
def build_operator_table(
    model: ModelArrays, schedule: ScheduleArrays, token_counts: TokenCounts, precision: Precision, work: Workspace
) -> int:
    """Fill ``work`` for one scenario and return the number of operator rows."""
    work.totals[:] = 0
    left = run_tower(schedule, token_counts, model.extra_tokens, work.tower_counts)
    run_language_model(schedule, model, token_counts, left, work.lm_counts, work.end)
    at = put_tower(model, schedule, token_counts, precision, work, 0)
    at = put_projector(model, token_counts, left, precision, work, at)
    at = put_prefill(model, schedule, token_counts, precision, work, at)
    at = put_decode(model, schedule, token_counts, precision, work, at)
    return put_selection(model, schedule, token_counts, precision, work, at)
