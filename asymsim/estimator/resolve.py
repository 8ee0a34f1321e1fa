"""Names of a scenario resolved to model, GPU, number formats and schedules, and these to arrays, once for all calls."""

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
from asymsim.methods.schedule import IDENTITY, Mixture, Schedule, compose
from asymsim.methods.schedule_file import read_schedule
from asymsim.util.errors import InputError


@dataclass(frozen=True)
class ResolvedScenario:
    """The parts of a scenario that do not depend on its token counts, as objects and as arrays.

    Attributes
    ----------
    model : VlmModel
    gpu : Gpu
    precision : Precision
        Bits of weights, activations and cache, and the GPUs that share the model.
    model_arrays, gpu_arrays : ModelArrays, GpuArrays
        The same as the kernels read them; ``gpu_arrays`` at the scenario's number format.
    schedules : tuple of (float, ScheduleArrays)
        Schedules of the pruning method with their shares of the samples, which add up to 1.
    dense_schedule : ScheduleArrays
        Schedule of the dense baseline.
    error_correlation : array, shape (classes,)
        Correlation of the time's errors with and without pruning, by operator class.
    masking : bool
        Whether a schedule masks scores, so that nothing gets shorter.
    settings : dict
        All settings of the method, defaults included.
    """

    model: VlmModel
    gpu: Gpu
    precision: Precision
    model_arrays: ModelArrays
    gpu_arrays: GpuArrays
    schedules: tuple[tuple[float, ScheduleArrays], ...]
    dense_schedule: ScheduleArrays
    error_correlation: Array
    masking: bool
    settings: dict[str, Any]


def method_mixture(
    names: str, keep: float | None, settings: Mapping[str, Any], model: VlmModel
) -> tuple[Mixture, dict[str, Any]]:
    """The weighted schedules of one method, or of two joined by "+", and all their settings.

    Raises
    ------
    InputError
        If a name or setting is unknown, out of range, or the methods do not go together.
    """
    parts = names.split("+")
    mixture: Mixture = ((1.0, IDENTITY),)
    all_settings: dict[str, Any] = {}
    for index, name in enumerate(parts):
        prefix = f"{name}."
        given = {key.removeprefix(prefix): value for key, value in settings.items() if key.startswith(prefix)}
        if index == 0:
            given.update((key, value) for key, value in settings.items() if key.split(".")[0] not in parts)
        method = make_method(name, keep if index == 0 else None, given)
        values = {field.name: getattr(method, field.name) for field in dataclasses.fields(method)}
        all_settings.update(values if index == 0 else {f"{prefix}{key}": value for key, value in values.items()})
        mixture = tuple(
            (share * method_share, compose(schedule, method_schedule))
            for share, schedule in mixture
            for method_share, method_schedule in method.mixture(model)
        )
    return mixture, all_settings


def resolve(scenario: Scenario) -> ResolvedScenario:
    """Objects and arrays behind the names of a scenario; the same objects give the same result again."""
    settings = tuple(sorted((key, _hashable(key, value)) for key, value in scenario.settings.items()))
    model = load_model(scenario.model)
    user_schedule = None if scenario.schedule is None else read_schedule(scenario.schedule)
    return _resolve_cached(
        _ByIdentity(model),
        _ByIdentity(load_gpu(scenario.gpu)),
        scenario.tp_size,
        scenario.dtype,
        scenario.kv_dtype,
        load_engine(scenario.engine),
        scenario.method,
        scenario.keep,
        settings,
        user_schedule,
    )


def _hashable(name: str, value: Any) -> Any:
    """A setting's value as part of a cache's key."""
    if isinstance(value, list):
        return tuple(_hashable(name, item) for item in value)
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


@lru_cache(maxsize=4096)
def _resolve_cached(
    model_key: _ByIdentity,
    gpu_key: _ByIdentity,
    tp_size: int,
    dtype_name: str,
    kv_dtype: str,
    engine: Engine | None,
    method_names: str,
    keep: float | None,
    settings: tuple[tuple[str, Any], ...],
    user_schedule: Schedule | None,
) -> ResolvedScenario:
    model: VlmModel = model_key.value
    gpu: Gpu = gpu_key.value
    dtype = number_format(dtype_name)
    heads = model.language_model.layer_kinds[0].heads
    if heads % tp_size:
        raise InputError("tp_size", tp_size, f"must divide the {heads} attention heads of {model.name}")
    mixture: Mixture
    all_settings: dict[str, Any]
    if user_schedule is not None:
        mixture, all_settings = ((1.0, user_schedule),), {}
    else:
        mixture, all_settings = method_mixture(method_names, keep, dict(settings), model)
    return ResolvedScenario(
        model=model,
        gpu=gpu,
        precision=Precision(dtype.weight_bits, dtype.activation_bits, kv_bits(kv_dtype, dtype), tp_size),
        model_arrays=model_arrays(model),
        gpu_arrays=gpu_arrays(gpu, dtype, engine),
        schedules=tuple((share, schedule_arrays(schedule, model)) for share, schedule in mixture),
        dense_schedule=schedule_arrays(IDENTITY, model),
        error_correlation=error_correlation(gpu, dtype),
        masking=any(schedule.masking for _, schedule in mixture),
        settings=all_settings,
    )
