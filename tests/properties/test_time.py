"""Times: never below the hardware's bounds, and never worse for better hardware or more of it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asymsim.catalogue.gpu import load_gpu as catalogue_gpu
from asymsim.catalogue.load import load_model as catalogue_model
from asymsim.catalogue.model import LanguageModel, Layer, VlmModel
from asymsim.catalogue.number_format import number_format
from asymsim.core.arrays import Array
from asymsim.core.operators.layout import (
    ALL_REDUCE,
    ATTENTION,
    BY_COLUMNS,
    BY_INNER,
    ELEMENTWISE,
    GEMM,
    OUTPUT,
    REPLICATED,
)
from asymsim.core.times.device import TICK_S
from asymsim.core.times.gpu_arrays import GpuArrays
from asymsim.core.times.parameters import FITTED, roofline_gpu
from asymsim.core.token_counts import TokenCounts
from asymsim.estimator.gpu_arrays import gpu_arrays
from asymsim.estimator.model_arrays import model_arrays
from asymsim.estimator.operator_table import OperatorTable, operator_table, operator_times
from asymsim.estimator.schedule_arrays import schedule_arrays
from asymsim.estimator.token_counts import request_tokens
from asymsim.methods.schedule import IDENTITY
from properties.schedules import BF16, schedules, table
from properties.strategies import GPUS, loads, models

RATES = (
    ("flops_per_s", "activation_flops_per_s"),
    ("vector_flops_per_s",),
    ("bandwidth_bytes_per_s",),
    ("link_bytes_per_s",),
)
# Rounding of the few operations that a time is made of.
CLOSE = 1 + 1e-12


def drawn(data: st.DataObject, tp_size: int = 1) -> OperatorTable:
    model = data.draw(models())
    load = data.draw(loads(model))
    return table(model, data.draw(schedules(model)), load, BF16._replace(tp_size=tp_size))


def times(rows: Array, gpu: GpuArrays, tp_size: int) -> Array:
    return operator_times(rows, gpu, tp_size)[0][:, 1]


@given(data=st.data(), gpu=GPUS, tp_size=st.sampled_from([1, 2, 3, 8]))
def test_no_time_is_below_what_peak_and_bandwidth_allow(data: st.DataObject, gpu: GpuArrays, tp_size: int) -> None:
    rows = drawn(data, tp_size).rows
    seconds = times(rows, gpu, tp_size) * CLOSE
    products = rows["kind"] != ALL_REDUCE
    moved = sum(
        rows[name].astype(float)
        for name in ("weight_bytes", "read_bytes", "write_bytes", "kv_read_bytes", "kv_write_bytes")
    )
    assert (seconds >= rows["flops"] / tp_size / gpu.flops_per_s).all()
    assert (seconds[products] >= moved[products] / tp_size / gpu.bandwidth_bytes_per_s).all()
    element_wise = rows["kind"] == ELEMENTWISE
    share = np.where(rows["split"] == REPLICATED, 1.0, 1.0 / tp_size) / gpu.vector_flops_per_s
    assert (seconds[element_wise] >= (rows["elementwise_flops"] * share)[element_wise]).all()


@pytest.mark.parametrize("rates", RATES, ids="+".join)
@given(data=st.data(), gpu=GPUS, tp_size=st.sampled_from([1, 2]), factor=st.floats(1, 100))
def test_a_higher_rate_never_takes_longer(
    rates: tuple[str, ...], data: st.DataObject, gpu: GpuArrays, tp_size: int, factor: float
) -> None:
    rows = drawn(data, tp_size).rows
    better = gpu._replace(**{rate: getattr(gpu, rate) * factor for rate in rates})
    slow, fast = times(rows, gpu, tp_size), times(rows, better, tp_size)
    assert (fast <= slow).all()
    assert (slow <= fast * factor * CLOSE + rows["count"] * TICK_S).all()


@given(data=st.data(), gpu=GPUS, tp_size=st.integers(2, 16))
def test_tensor_parallelism_never_slows_what_it_divides(data: st.DataObject, gpu: GpuArrays, tp_size: int) -> None:
    rows = drawn(data).rows
    whole, shared = times(rows, gpu, 1), times(rows, gpu, tp_size)
    assert (shared <= whole * CLOSE).all()
    # Nothing gets faster than by the number of GPUs.
    assert (shared * tp_size * CLOSE >= whole).sum() >= (rows["kind"] == ATTENTION).sum()
    replicated = rows["split"] == REPLICATED
    assert (shared[replicated] == whole[replicated]).all()


@given(data=st.data(), tp_size=st.integers(2, 8))
def test_tensor_parallelism_adds_all_reduces_and_changes_no_other_count(data: st.DataObject, tp_size: int) -> None:
    model = data.draw(models())
    load = data.draw(loads(model))
    schedule = data.draw(schedules(model))
    one, many = (table(model, schedule, load, BF16._replace(tp_size=tp)).rows for tp in (1, tp_size))
    reduces = many["kind"] == ALL_REDUCE
    assert not (one["kind"] == ALL_REDUCE).any()
    moves = [rows["kind"] == ELEMENTWISE for rows in (one, many)]
    assert many[~reduces & ~moves[1]].tolist() == one[~moves[0]].tolist()
    # Element-wise work stands in two rows: what tensor parallelism divides, and what every GPU repeats.
    for name in ("read_bytes", "write_bytes", "elementwise_flops"):
        assert abs(int(many[moves[1]][name].sum()) - int(one[moves[0]][name].sum())) <= 2 * len(many) * load.batch_size
    # Two a layer, after attention and FFN, each of the layer's whole output in 16 bits.
    assert (many[reduces]["write_bytes"] == many[reduces]["count"] * many[reduces]["m"] * many[reduces]["n"] * 2).all()
    outputs = one["name"] == OUTPUT
    assert many[reduces]["count"].tolist() == (2 * one[outputs]["count"]).tolist()


@given(tp_size=st.sampled_from([1, 2, 4, 8]), tiles=st.integers(1, 4), batch=st.integers(1, 3))
def test_shares_of_whole_tiles_add_up_to_the_product(tp_size: int, tiles: int, batch: int) -> None:
    # One SM, no memory time and dimensions of whole tiles: a GPU's seconds are its own FLOPs.
    gpu = roofline_gpu(1.0, 1e300, 1e300, 1e300, 1)
    width = 128 * 8 * tiles
    layer = Layer(hidden_size=width, heads=8, kv_heads=8, head_size=width // 8, intermediate_size=width)
    text = LanguageModel(hidden_size=width, vocab_size=width, layer_kinds=(layer,), layer_pattern=(0, 0))
    model = VlmModel(name="tiles", model_type="llama", language_model=text)
    load = TokenCounts(0, 0, 0, 0, 0, 0, 0, 128 * tiles, 1, batch)
    rows = table(model, IDENTITY, load, BF16._replace(tp_size=tp_size)).rows
    products = rows[(rows["kind"] == GEMM) & (rows["m"] >= 128)]
    assert set(products["split"]) == {BY_COLUMNS, BY_INNER}
    assert (times(products, gpu, tp_size) * tp_size == products["flops"].astype(float)).all()


def llava_rows(rates: GpuArrays) -> Array:
    """A dense run of LLaVA-1.5-7B: vision, prefill and decode."""
    llava = catalogue_model("llava-1.5-7b")
    load = request_tokens(llava, text_tokens=64, output_tokens=32, batch_size=3).token_counts()
    return operator_table(model_arrays(llava), schedule_arrays(IDENTITY, llava), load, BF16, rates).rows


@pytest.mark.parametrize("name", ["h100_sxm", "a10"])
def test_a_scale_of_one_changes_nothing_to_the_bit(name: str) -> None:
    device = catalogue_gpu(name)
    lender = catalogue_gpu("a100_80gb_sxm") if name == "a10" else device
    own = {section: dict(table) for section, table in lender.efficiency.items()}
    plain = dataclasses.replace(device, efficiency=own)
    scaled = dataclasses.replace(device, efficiency={key: {**table, "time_scale": 1} for key, table in own.items()})
    rows = llava_rows(gpu_arrays(device, number_format("bf16")))
    expected, found = (operator_times(rows, gpu_arrays(each, number_format("bf16")), 1) for each in (plain, scaled))
    assert found[0].tobytes() == expected[0].tobytes()
    assert found[1].tobytes() == expected[1].tobytes()


@given(factor=st.floats(0.05, 20.0))
def test_a_scale_multiplies_times_down_to_the_roofline(factor: float) -> None:
    device = catalogue_gpu("h100_sxm")
    own = {key: {**table, "time_scale": factor} for key, table in device.efficiency.items()}
    rates, scaled = (
        gpu_arrays(each, number_format("bf16")) for each in (device, dataclasses.replace(device, efficiency=own))
    )
    lifted = rates._replace(intervals=rates.intervals.copy())
    lifted.intervals["time_scale"] = 2.0**40
    floor = rates._replace(intervals=rates.intervals.copy())
    floor.intervals["time_scale"] = 2.0**-60
    rows = llava_rows(rates)
    known = operator_times(rows, rates, 1)[1] >= FITTED
    raw, floor_s, found = (times(rows, each, 1) for each in (lifted, floor, scaled))
    expected = np.maximum(raw / 2.0**40 * np.where(known, factor, 1.0), floor_s)
    # Each execution is rounded up to a tick, before the scale and after it.
    assert (np.abs(found - expected) <= rows["count"] * TICK_S * (1.0 + factor) * CLOSE).all()
