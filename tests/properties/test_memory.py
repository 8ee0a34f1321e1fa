"""Memory on each GPU, and the largest batch that fits."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from asymsim.catalogue.gpu import load_gpu
from asymsim.catalogue.model import VlmModel
from asymsim.core.model_arrays import Precision
from asymsim.core.token_counts import TokenCounts
from asymsim.estimator.memory import USABLE_SHARE, WORKSPACE_BYTES, kv_share, memory, weights_bytes
from asymsim.estimator.result import Memory
from asymsim.methods.schedule import IDENTITY, Schedule
from properties.schedules import BF16, schedules, table
from properties.strategies import loads, models

L4 = load_gpu("l4")
BITS = st.sampled_from([4, 8, 16, 32])


def of(
    model: VlmModel, schedule: Schedule, load: TokenCounts, precision: Precision = BF16, capacity: int = 0
) -> Memory:
    device = replace(L4, capacity_bytes=capacity) if capacity else L4
    return memory(model, device, precision, load.batch_size, [(1.0, table(model, schedule, load, precision))])


@given(data=st.data(), spare=st.integers(1, 4 * 10**6), tp_size=st.sampled_from([1, 2, 3, 4]))
def test_the_largest_batch_fits_and_one_more_does_not(data: st.DataObject, spare: int, tp_size: int) -> None:
    model = data.draw(models())
    load = data.draw(loads(model))
    schedule = data.draw(schedules(model))
    precision = BF16._replace(tp_size=tp_size)
    capacity = round((weights_bytes(model, precision) + WORKSPACE_BYTES + spare) / USABLE_SHARE)
    here = of(model, schedule, load, precision, capacity)
    assert here.fits == (load.batch_size <= here.max_batch_size)
    one_more = of(model, schedule, load._replace(batch_size=here.max_batch_size + 1), precision, capacity)
    assert not one_more.fits
    assert one_more.max_batch_size == here.max_batch_size
    if here.max_batch_size > 0:
        largest = of(model, schedule, load._replace(batch_size=here.max_batch_size), precision, capacity)
        assert largest.fits
        assert largest.max_batch_size == here.max_batch_size


@given(data=st.data(), more=st.integers(1, 50))
def test_memory_grows_with_the_batch_and_weights_do_not(data: st.DataObject, more: int) -> None:
    model = data.draw(models())
    load = data.draw(loads(model))
    schedule = data.draw(schedules(model))
    few, many = (of(model, schedule, load._replace(batch_size=batch)) for batch in (1, 1 + more))
    assert few.weights_bytes == many.weights_bytes
    assert few.activation_bytes < many.activation_bytes
    assert few.kv_cache_bytes <= many.kv_cache_bytes
    assert few.peak_bytes < many.peak_bytes
    assert few.max_batch_size == many.max_batch_size


@given(data=st.data(), tp_size=st.integers(2, 64), bits=BITS)
def test_gpus_together_hold_all_weights_and_the_whole_cache(data: st.DataObject, tp_size: int, bits: int) -> None:
    model = data.draw(models())
    load = data.draw(loads(model))
    one, many = Precision(bits, 16, 16, 1), Precision(bits, 16, 16, tp_size)
    total_bits = model.parameters["total"] * bits
    # Rounding up to a byte on each GPU is all that may come on top.
    assert total_bits <= 8 * tp_size * weights_bytes(model, many) < total_bits + 8 * tp_size
    heads = model.language_model.layer_kinds[0].kv_heads
    assert 1 <= tp_size * kv_share(model, tp_size) < 1 + tp_size / heads
    alone, shared = of(model, IDENTITY, load, one), of(model, IDENTITY, load, many)
    assert shared.kv_cache_bytes <= alone.kv_cache_bytes <= tp_size * shared.kv_cache_bytes + tp_size
    assert shared.activation_bytes <= alone.activation_bytes <= tp_size * shared.activation_bytes


@given(data=st.data(), share=st.fractions(0, 1))
def test_a_mixture_must_fit_its_largest_part(data: st.DataObject, share: object) -> None:
    model = data.draw(models())
    load = data.draw(loads(model))
    parts = [table(model, data.draw(schedules(model)), load) for _ in range(2)]
    device = replace(L4, capacity_bytes=2 * WORKSPACE_BYTES)
    weights = [float(share), 1 - float(share)]  # type: ignore[arg-type]
    mixed = memory(model, device, BF16, load.batch_size, list(zip(weights, parts, strict=True)))
    alone = [memory(model, device, BF16, load.batch_size, [(1.0, part)]) for part in parts]
    assert mixed.fits == all(each.fits for each in alone)
    assert mixed.max_batch_size == min(each.max_batch_size for each in alone)
    peaks = [each.peak_bytes for each in alone]
    assert min(peaks) - 1 <= mixed.peak_bytes <= max(peaks) + 1
