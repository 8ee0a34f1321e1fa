"""Fitted times of whole operator tables: floors, quantiles in order, sums within their parts, better hardware."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asymsim.catalogue.gpu import gpu_names, load_gpu
from asymsim.catalogue.number_format import number_format
from asymsim.core.operators.layout import ALL_REDUCE
from asymsim.core.times.gpu_arrays import GpuArrays
from asymsim.core.times.parameters import ROOFLINE, TRANSFERRED
from asymsim.estimator.gpu_arrays import gpu_arrays
from asymsim.estimator.operator_table import OperatorTable, operator_times
from properties.schedules import BF16, schedules, table
from properties.strategies import loads, models

CLOSE = 1 + 1e-12
NAMES = [name for name in gpu_names() if load_gpu(name).efficiency]
FITTED = st.sampled_from(
    [gpu_arrays(load_gpu(name), number_format(kind)) for name in NAMES for kind in ("bf16", "w4a16")]
)


def drawn(data: st.DataObject, gpu: GpuArrays, tp_size: int = 1) -> OperatorTable:
    model = data.draw(models())
    load = data.draw(loads(model))
    return table(model, data.draw(schedules(model)), load, BF16._replace(tp_size=tp_size), gpu)


@given(data=st.data(), gpu=FITTED, tp_size=st.sampled_from([1, 2, 8]))
def test_quantiles_are_in_order_and_never_below_the_hardware(data: st.DataObject, gpu: GpuArrays, tp_size: int) -> None:
    rows = drawn(data, gpu, tp_size).rows
    seconds, sources = operator_times(rows, gpu, tp_size)
    assert (sources >= TRANSFERRED).all()
    assert np.isfinite(seconds).all()
    low, middle, high = seconds.T
    assert (low <= middle).all()
    assert (middle <= high).all()
    products = rows["kind"] != ALL_REDUCE
    moved = sum(
        rows[name].astype(float)
        for name in ("weight_bytes", "read_bytes", "write_bytes", "kv_read_bytes", "kv_write_bytes")
    )
    peak = np.where(rows["weight_bytes"] > 0, gpu.flops_per_s, gpu.activation_flops_per_s)
    assert (low * CLOSE >= rows["flops"] / tp_size / peak).all()
    assert (low[products] * CLOSE >= moved[products] / tp_size / gpu.bandwidth_bytes_per_s).all()


@given(data=st.data(), gpu=FITTED)
def test_the_interval_of_a_sum_lies_within_the_sum_of_the_intervals(data: st.DataObject, gpu: GpuArrays) -> None:
    one = drawn(data, gpu)
    low, middle, high = (one.times[f"e2e_s{end}"] for end in ("_p05", "", "_p95"))
    parts = [one.times[f"{name}_s{end}"] for end in ("_p05", "", "_p95") for name in ("ttft", "decode")]
    assert middle == pytest.approx(sum(parts[2:4]), rel=1e-9)
    assert sum(parts[:2]) <= low * CLOSE + 1e-15
    assert high <= sum(parts[4:]) * CLOSE + 1e-15
    assert low <= middle * CLOSE
    assert middle <= high * CLOSE


@pytest.mark.parametrize("rates", [("flops_per_s", "activation_flops_per_s"), ("bandwidth_bytes_per_s",)], ids="+".join)
@given(data=st.data(), gpu=FITTED, factor=st.floats(1, 16))
def test_a_higher_rate_never_takes_longer(
    rates: tuple[str, ...], data: st.DataObject, gpu: GpuArrays, factor: float
) -> None:
    rows = drawn(data, gpu).rows
    better = gpu._replace(**{rate: getattr(gpu, rate) * factor for rate in rates})
    slow, fast = (operator_times(rows, each, 1)[0][:, 1] for each in (gpu, better))
    assert (fast <= slow * CLOSE).all()
    # What ends sooner is also throttled less.
    fitted = (gpu.gemm, gpu.prefill_attention, gpu.encoder_attention)
    throttle = max(float(numbers["throttle"].max()) for numbers in fitted)
    assert (slow <= fast * factor * (1 + throttle)).all()


@given(data=st.data(), gpu=FITTED)
def test_a_host_adds_to_each_step(data: st.DataObject, gpu: GpuArrays) -> None:
    model = data.draw(models())
    load = data.draw(loads(model))
    schedule = data.draw(schedules(model))
    alone = table(model, schedule, load, BF16, gpu)
    hosted = table(model, schedule, load, BF16, gpu._replace(host_s=1.0, host_p05=0.5, host_p95=3.0, stamp=gpu.stamp))
    steps = load.output_tokens - 1
    assert hosted.times["prefill_s"] == pytest.approx(alone.times["prefill_s"] + 1)
    assert hosted.times["decode_s"] == pytest.approx(alone.times["decode_s"] + steps)
    assert hosted.times["e2e_s_p05"] <= hosted.times["e2e_s"] - 0.5 * (1 + steps) * (1 - 1e-9)
    assert ROOFLINE not in hosted.sources


def test_the_memory_of_matrix_times_belongs_to_one_gpu() -> None:
    from asymsim import Scenario
    from asymsim.sweep.evaluate import evaluate

    for name in ("h100_sxm", "l40s", "h100_sxm"):
        scenario = Scenario(model="llava-1.5-7b", gpu=name)
        swept = evaluate(scenario, {"text_tokens": [64, 64, 65, 64]}, ("e2e_s", "e2e_s_p95"))
        alone = evaluate(scenario, {"text_tokens": [64]}, ("e2e_s", "e2e_s_p95"))
        for figure in swept:
            assert swept[figure][0] == swept[figure][1] == swept[figure][3] == alone[figure][0]
