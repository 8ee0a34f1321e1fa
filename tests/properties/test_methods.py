"""Every registered method on random models: its schedules keep the invariants, or it says why it cannot."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asymsim.core.operators.layout import PREFILL, PROJECTOR, VISION
from asymsim.core.workspace import FIRST_STEP_FLOPS
from asymsim.methods.base import make_method, registered_methods
from asymsim.methods.schedule import IDENTITY
from asymsim.util.errors import InputError
from properties.schedules import table
from properties.strategies import loads, models


@pytest.mark.parametrize("name", list(registered_methods()))
@settings(max_examples=25)
@given(data=st.data(), keep=st.one_of(st.none(), st.sampled_from([0.0, 1.0]), st.floats(0, 1)))
def test_schedules_keep_their_invariants(name: str, data: st.DataObject, keep: float | None) -> None:
    model = data.draw(models())
    load = data.draw(loads(model))
    try:
        mixture = make_method(name, keep).mixture(model)
    except InputError:
        # Refusals have tests of their own, method by method.
        return
    assert sum(share for share, _ in mixture) == pytest.approx(1)
    dense = table(model, IDENTITY, load)
    for _, schedule in mixture:
        result = table(model, schedule, load)
        for counts, most in ((result.visual, load.visual_tokens), (result.text, load.text_tokens)):
            assert all(0 <= after <= before for before, after in pairwise([most, *counts.tolist()]))
        assert (result.kv <= dense.kv).all()
        assert (result.final_kv <= dense.final_kv).all()
        for column in ("flops", "torch_flops", "elementwise_flops", "read_bytes", "write_bytes", "kv_read_bytes"):
            assert (result.rows[column] >= 0).all()
        assert (result.rows["flops"] <= result.rows["torch_flops"]).all()
        for phase in (VISION, PROJECTOR, PREFILL):
            assert result.flops(phase) <= dense.flops(phase)
        assert (result.totals[:FIRST_STEP_FLOPS] <= dense.totals[:FIRST_STEP_FLOPS]).all()
