"""Scenario -> Estimate: the one entry that all else calls."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from asymsim import report
from asymsim.accounting import convention, literature_flops
from asymsim.arrays import model_arrays, schedule_arrays
from asymsim.catalogue.dtype import dtype, kv_bits
from asymsim.catalogue.engine import Engine, engine
from asymsim.catalogue.gpu import Gpu, gpu
from asymsim.catalogue.load import model
from asymsim.catalogue.model import VlmModel
from asymsim.core import layout
from asymsim.core.layout import Array, GpuArrays, ModelArrays, Precision, ScheduleArrays
from asymsim.errors import InputError
from asymsim.latency import correlation, gpu_arrays, latency
from asymsim.memory import memory
from asymsim.methods.base import method
from asymsim.operators import OperatorTable, kv_bytes_per_token, operator_table
from asymsim.savings import savings, savings_interval
from asymsim.scenario import Scenario
from asymsim.schedule import IDENTITY, Schedule, compose
from asymsim.workload import Workload, workload

Weighted = tuple[tuple[float, Schedule], ...]


class Costs(NamedTuple):
    """What a scenario costs, before it is held against its unpruned twin."""

    flops: report.Flops
    kv_cache: report.KvCache
    memory: report.Memory
    latency: report.Latency
    seconds: Array


@dataclass(frozen=True)
class Setting:
    """A scenario's parts that many scenarios share, bound to arrays once."""

    model: VlmModel
    gpu: Gpu
    precision: Precision
    model_arrays: ModelArrays
    gpu_arrays: GpuArrays
    schedules: tuple[tuple[float, ScheduleArrays], ...]
    correlation: Array
    dense: ScheduleArrays
    masking: bool
    settings: dict[str, Any]


def mixture(
    names: str, keep: float | None, settings: Mapping[str, Any], target: VlmModel
) -> tuple[Weighted, dict[str, Any]]:
    """The weighted schedules of one method, or of two joined by "+", and all their settings.

    Raises
    ------
    InputError
        If a name or setting is unknown, out of range, or the methods do not go together.
    """
    parts = names.split("+")
    result: Weighted = ((1.0, IDENTITY),)
    used: dict[str, Any] = {}
    for index, name in enumerate(parts):
        own = {key.removeprefix(f"{name}."): value for key, value in settings.items() if key.startswith(f"{name}.")}
        if index == 0:
            own.update((key, value) for key, value in settings.items() if key.split(".")[0] not in parts)
        part = method(name, keep if index == 0 else None, own)
        chosen = {field.name: getattr(part, field.name) for field in dataclasses.fields(part)}
        used.update(chosen if index == 0 else {f"{name}.{key}": value for key, value in chosen.items()})
        result = tuple(
            (share * part_share, compose(schedule, part_schedule))
            for share, schedule in result
            for part_share, part_schedule in part.mixture(target)
        )
    return result, used


def setting(scenario: Scenario) -> Setting:
    """Resolve the names of a scenario and bind its schedule."""
    settings = tuple(sorted((key, _hashable(key, value)) for key, value in scenario.settings.items()))
    target = model(scenario.model)
    own = None
    if scenario.schedule is not None:
        from asymsim.schedule_file import read_schedule

        own = read_schedule(scenario.schedule)
    return _bind(
        target,
        gpu(scenario.gpu),
        scenario.tp_size,
        scenario.dtype,
        scenario.kv_dtype,
        engine(scenario.engine),
        scenario.method,
        scenario.keep,
        settings,
        own,
    )


def _hashable(name: str, value: Any) -> Any:
    """A setting's value as part of a cache's key."""
    if isinstance(value, list):
        return tuple(_hashable(name, each) for each in value)
    try:
        hash(value)
    except TypeError:
        raise InputError(f"setting {name}", value, "give a number, a text or a list of these") from None
    return value


class _Same:
    """An object as a cache key by identity: hashing a whole model costs more than the estimate."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __hash__(self) -> int:
        return id(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.value is other.value


def _bind(target: VlmModel, device: Gpu, *rest: Any) -> Setting:
    return _bind_cached(_Same(target), _Same(device), *rest)


@lru_cache(maxsize=4096)
def _bind_cached(
    target_key: _Same,
    device_key: _Same,
    tp_size: int,
    dtype_name: str,
    kv_dtype: str,
    server: Engine | None,
    names: str,
    keep: float | None,
    settings: tuple[tuple[str, Any], ...],
    own: Schedule | None,
) -> Setting:
    target, device = target_key.value, device_key.value
    chosen = dtype(dtype_name)
    heads = target.language_model.layer_kinds[0].heads
    if heads % tp_size:
        raise InputError("tp_size", tp_size, f"must divide the {heads} attention heads of {target.name}")
    schedules: Weighted = ((1.0, own),) if own is not None else ()
    used: dict[str, Any] = {}
    if own is None:
        schedules, used = mixture(names, keep, dict(settings), target)
    return Setting(
        model=target,
        gpu=device,
        precision=Precision(chosen.weight_bits, chosen.activation_bits, kv_bits(kv_dtype, chosen), tp_size),
        model_arrays=model_arrays(target),
        gpu_arrays=gpu_arrays(device, chosen, server),
        schedules=tuple((share, schedule_arrays(schedule, target)) for share, schedule in schedules),
        correlation=correlation(device, chosen),
        dense=schedule_arrays(IDENTITY, target),
        masking=any(schedule.masking for _, schedule in schedules),
        settings=used,
    )


def estimate(scenario: Scenario, *, operators: bool = False) -> report.Estimate:
    """Predict what a scenario costs and what its schedule saves.

    Parameters
    ----------
    scenario : Scenario
    operators : bool
        Whether to list the operator rows; of the likeliest schedule where the budget adapts.

    Returns
    -------
    Estimate

    Raises
    ------
    AsymsimError
        If a name is unknown or a value out of range; the message names field, value and remedy.
    """
    convention(scenario.convention)
    bound = setting(scenario)
    load = load_of(scenario, bound.model)
    check_countable(bound, load)
    tables = [(share, _table(bound, arrays, load)) for share, arrays in bound.schedules]
    costs = _costs(bound, load, tables, scenario.convention)
    dense = costs
    if not (len(bound.schedules) == 1 and _is_dense(bound.schedules[0][1])):
        dense = _costs(bound, load, [(1.0, _table(bound, bound.dense, load))], scenario.convention)
    likeliest = max(tables, key=lambda each: each[0])[1]
    rows = likeliest.timed_records(bound.gpu_arrays, bound.precision.tp_size) if operators else None
    return report.Estimate(
        model=bound.model.name,
        gpu=bound.gpu.name,
        convention=scenario.convention,
        workload=report.WorkloadCounts(
            num_images=load.num_images,
            visual_tokens=load.visual_tokens,
            text_tokens=load.text_tokens,
            prompt_tokens=load.visual_tokens * bound.model_arrays.visual_in_sequence + load.text_tokens,
            output_tokens=load.output_tokens,
            batch_size=load.batch_size,
        ),
        schedule=_schedule_counts(scenario, bound, tables),
        parameters=report.Parameters(**bound.model.parameters),
        flops=costs.flops,
        kv_cache=costs.kv_cache,
        memory=costs.memory,
        latency=costs.latency,
        savings=savings(costs[:4], dense[:4]),
        savings_interval=savings_interval(costs.seconds, dense.seconds, bound.correlation),
        operators=rows,
    )


def load_of(scenario: Scenario, target: VlmModel) -> Workload:
    """The token counts that a scenario's images, text and output make on a model."""
    return workload(
        target,
        num_images=scenario.num_images,
        image_height=scenario.image_height,
        image_width=scenario.image_width,
        visual_tokens=scenario.visual_tokens,
        text_tokens=scenario.text_tokens,
        output_tokens=scenario.output_tokens,
        batch_size=scenario.batch_size,
    )


def check_countable(bound: Setting, load: Workload) -> None:
    """Refuse what would leave 64-bit integers.

    Raises
    ------
    InputError
        If the scenario's FLOPs or bytes could pass 2**62.
    """
    arrays = bound.model_arrays
    tokens = float(load.visual_tokens + load.text_tokens + load.output_tokens)
    parameters = float(bound.model.parameters["total"])
    widest = float(max((kind["heads"] * max(kind["head_size"], 4) for kind in arrays.lm_kinds), default=1))
    pairs = 4.0 * tokens * tokens * widest * len(arrays.lm_prefix)
    if load.image is not None:
        tower = bound.model.vision_tower
        assert tower is not None
        seen = float(load.num_images * load.image.sequences * load.image.sequence_tokens)
        kind = tower.layer_kinds[0]
        pairs += 4.0 * seen * load.image.sequence_tokens * kind.heads * kind.head_size * len(tower.layer_pattern)
        tokens += seen
    # FLOPs are the largest counts: a byte count is never more than four times as many, in any format.
    if load.batch_size * (2.0 * parameters * tokens + pairs) > 2.0**60:
        raise InputError(
            "batch_size x tokens", f"{load.batch_size} x {int(tokens)}", "give less: the counts would pass 64 bits"
        )


def _table(bound: Setting, arrays: ScheduleArrays, load: Workload) -> OperatorTable:
    return operator_table(bound.model_arrays, arrays, load.load(), bound.precision, bound.gpu_arrays)


def _is_dense(arrays: ScheduleArrays) -> bool:
    return (
        len(arrays.lm_starts) <= 2
        and len(arrays.tower_starts) <= 2
        and len(arrays.steps) + len(arrays.operations) == 0
        and arrays.threshold < 0
        and bool((arrays.kv_rule["num"] == arrays.kv_rule["den"]).all())
        and not arrays.hold
    )


def _costs(bound: Setting, load: Workload, tables: list[tuple[float, OperatorTable]], counting: str) -> Costs:
    """Costs of the mixture: expectations over its schedules."""
    flops = literature_flops(counting, bound.model, load.batch_size, tables) or _counted(tables, counting)
    kv = report.KvCache(
        bytes_per_token=kv_bytes_per_token(bound.model, bound.precision.kv_bits),
        prefill_bytes=_mean(tables, lambda table: int(table.totals[layout.KV_PREFILL_BYTES])),
        peak_bytes=_mean(
            tables,
            lambda table: max(int(table.totals[layout.KV_PREFILL_BYTES]), int(table.totals[layout.KV_FINAL_BYTES])),
        ),
    )
    return Costs(
        flops=flops,
        kv_cache=kv,
        memory=memory(bound.model, bound.gpu, bound.precision, load.batch_size, tables),
        latency=latency(tables, load.output_tokens),
        seconds=np.sum([share * table.seconds for share, table in tables], axis=0),
    )


def _mean(tables: list[tuple[float, OperatorTable]], figure: Callable[[OperatorTable], int]) -> int:
    """Expectation of a whole-number figure; exact where there is one schedule."""
    if len(tables) == 1:
        return figure(tables[0][1])
    return round(sum(share * figure(table) for share, table in tables))


def _counted(tables: list[tuple[float, OperatorTable]], counting: str) -> report.Flops:
    column = "torch_flops" if counting == "torch" else "flops"
    first = layout.FIRST_STEP_TORCH_FLOPS if counting == "torch" else layout.FIRST_STEP_FLOPS

    def phase(*codes: int) -> int:
        return _mean(tables, lambda table: sum(table.flops(code, column) for code in codes))

    counts = {
        "vision_tower": phase(layout.VISION),
        "projector": phase(layout.PROJECTOR),
        "selection": phase(layout.SELECTION, layout.DECODE_SELECTION),
        "prefill": phase(layout.PREFILL),
        "decode": phase(layout.DECODE),
    }
    return report.Flops(
        **counts, decode_step_first=_mean(tables, lambda table: int(table.totals[first])), total=sum(counts.values())
    )


def _schedule_counts(
    scenario: Scenario, bound: Setting, tables: list[tuple[float, OperatorTable]]
) -> report.ScheduleCounts:
    def by_layer(name: str) -> list[int] | list[float]:
        if len(tables) == 1:
            return list(getattr(tables[0][1], name).tolist())
        return list(np.sum([share * getattr(table, name) for share, table in tables], axis=0).tolist())

    visual = by_layer("visual")
    return report.ScheduleCounts(
        method=scenario.method if scenario.schedule is None else scenario.schedule,
        settings=bound.settings,
        masking=bound.masking,
        mean_visual_tokens=sum(visual) / len(visual),
        visual_tokens_by_layer=visual,
        text_tokens_by_layer=by_layer("text"),
        kv_tokens_by_layer=by_layer("kv"),
        final_kv_tokens_by_layer=by_layer("final_kv"),
    )
