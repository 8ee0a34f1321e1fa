"""Names of a scenario resolved to model, GPU, number formats and schedules, bound to arrays once."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from asymsim.catalogue.engine import Engine, load_engine
from asymsim.catalogue.gpu import Gpu, load_gpu
from asymsim.catalogue.load import load_model
from asymsim.catalogue.model import VlmModel
from asymsim.catalogue.number_format import kv_bits, number_format
from asymsim.core.arrays import Array
from asymsim.core.model_arrays import ModelArrays, Precision
from asymsim.core.schedule_arrays import ScheduleArrays
from asymsim.core.times.gpu_arrays import GpuArrays
from asymsim.estimator.gpu_arrays import error_correlation, gpu_arrays
from asymsim.estimator.model_arrays import model_arrays
from asymsim.estimator.scenario import Scenario
from asymsim.estimator.schedule_arrays import schedule_arrays
from asymsim.methods.base import make_method
from asymsim.methods.schedule import IDENTITY, Schedule, compose
from asymsim.util.errors import InputError

Mixture = tuple[tuple[float, Schedule], ...]


@dataclass(frozen=True)
class ResolvedScenario:
    """A scenario's parts that many scenarios share, bound to arrays once."""

    model: VlmModel
    gpu: Gpu
    precision: Precision
    model_arrays: ModelArrays
    gpu_arrays: GpuArrays
    schedules: tuple[tuple[float, ScheduleArrays], ...]
    error_correlation: Array
    dense_schedule: ScheduleArrays
    masking: bool
    settings: dict[str, Any]


def method_mixture(
    names: str, keep: float | None, settings: Mapping[str, Any], target: VlmModel
) -> tuple[Mixture, dict[str, Any]]:
    """The weighted schedules of one method, or of two joined by "+", and all their settings.

    Raises
    ------
    InputError
        If a name or setting is unknown, out of range, or the methods do not go together.
    """
    parts = names.split("+")
    result: Mixture = ((1.0, IDENTITY),)
    used: dict[str, Any] = {}
    for index, name in enumerate(parts):
        own = {key.removeprefix(f"{name}."): value for key, value in settings.items() if key.startswith(f"{name}.")}
        if index == 0:
            own.update((key, value) for key, value in settings.items() if key.split(".")[0] not in parts)
        part = make_method(name, keep if index == 0 else None, own)
        chosen = {field.name: getattr(part, field.name) for field in dataclasses.fields(part)}
        used.update(chosen if index == 0 else {f"{name}.{key}": value for key, value in chosen.items()})
        result = tuple(
            (share * part_share, compose(schedule, part_schedule))
            for share, schedule in result
            for part_share, part_schedule in part.mixture(target)
        )
    return result, used


def resolve(scenario: Scenario) -> ResolvedScenario:
    """Resolve the names of a scenario and bind its schedule."""
    settings = tuple(sorted((key, _hashable(key, value)) for key, value in scenario.settings.items()))
    target = load_model(scenario.model)
    own = None
    if scenario.schedule is not None:
        from asymsim.methods.schedule_file import read_schedule

        own = read_schedule(scenario.schedule)
    return _resolve(
        target,
        load_gpu(scenario.gpu),
        scenario.tp_size,
        scenario.dtype,
        scenario.kv_dtype,
        load_engine(scenario.engine),
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


class _ByIdentity:
    """An object as a cache key by identity: hashing a whole model costs more than the estimate."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __hash__(self) -> int:
        return id(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ByIdentity) and self.value is other.value


def _resolve(target: VlmModel, device: Gpu, *rest: Any) -> ResolvedScenario:
    return _resolve_cached(_ByIdentity(target), _ByIdentity(device), *rest)


@lru_cache(maxsize=4096)
def _resolve_cached(
    target_key: _ByIdentity,
    device_key: _ByIdentity,
    tp_size: int,
    dtype_name: str,
    kv_dtype: str,
    server: Engine | None,
    names: str,
    keep: float | None,
    settings: tuple[tuple[str, Any], ...],
    own: Schedule | None,
) -> ResolvedScenario:
    target, device = target_key.value, device_key.value
    chosen = number_format(dtype_name)
    heads = target.language_model.layer_kinds[0].heads
    if heads % tp_size:
        raise InputError("tp_size", tp_size, f"must divide the {heads} attention heads of {target.name}")
    schedules: Mixture = ((1.0, own),) if own is not None else ()
    used: dict[str, Any] = {}
    if own is None:
        schedules, used = method_mixture(names, keep, dict(settings), target)
    return ResolvedScenario(
        model=target,
        gpu=device,
        precision=Precision(chosen.weight_bits, chosen.activation_bits, kv_bits(kv_dtype, chosen), tp_size),
        model_arrays=model_arrays(target),
        gpu_arrays=gpu_arrays(device, chosen, server),
        schedules=tuple((share, schedule_arrays(schedule, target)) for share, schedule in schedules),
        error_correlation=error_correlation(device, chosen),
        dense_schedule=schedule_arrays(IDENTITY, target),
        masking=any(schedule.masking for _, schedule in schedules),
        settings=used,
    )
