"""What a method is, and the registry: the only list of methods anywhere."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, ClassVar, Literal, TypeVar

from asymsim.catalogue.model import VlmModel
from asymsim.methods.schedule import Schedule
from asymsim.util.errors import FieldError, InputError, UnknownNameError, UnsupportedError
from asymsim.util.strict import strict_dataclass

Family = Literal["vision", "kv"]
M = TypeVar("M", bound="Method")
_METHODS: dict[str, type[Method]] = {}


@strict_dataclass
class Method(ABC):
    """Settings of one pruning method, as fields of a frozen dataclass.

    Attributes
    ----------
    keep : float
        The method's main parameter as a share: of the visual tokens it keeps (the mean over the
        language model's layers where it prunes in steps), or of the KV entries. In [0, 1].
    """

    name: ClassVar[str]
    family: ClassVar[Family] = "vision"
    source: ClassVar[str]

    keep: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.keep <= 1:
            raise InputError("keep", self.keep, "give a share between 0 and 1")

    @abstractmethod
    def schedule(self, model: VlmModel) -> Schedule:
        """The schedule of these settings on a model.

        Raises
        ------
        UnsupportedError
            If the method has no meaning on this model.
        """

    def mixture(self, model: VlmModel) -> tuple[tuple[float, Schedule], ...]:
        """The schedules that samples meet, with their shares, which add up to 1.

        More than one where the budget adapts to the sample; a cost is then the expectation over them.
        """
        return ((1.0, self.schedule(model)),)


def register(name: str) -> Callable[[type[M]], type[M]]:
    """Give a method its name on the command line."""

    def enter(method: type[M]) -> type[M]:
        method.name = name
        _METHODS[name] = method
        return method

    return enter


@cache
def registered_methods() -> Mapping[str, type[Method]]:
    """All methods by name; importing a file of this package is what registers it."""
    package = importlib.import_module("asymsim.methods")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    return dict(sorted(_METHODS.items()))


def list_methods() -> list[str]:
    """Names of all pruning methods, sorted."""
    return list(registered_methods())


def make_method(name: str, keep: float | None = None, settings: Mapping[str, Any] | None = None) -> Method:
    """Make a method from its name, its kept share and further settings.

    Raises
    ------
    UnknownNameError
        If there is no such method or setting.
    InputError
        If a setting has the wrong kind or range.
    """
    known = registered_methods()
    if name not in known:
        raise UnknownNameError("method", name, known)
    kind = known[name]
    values = dict(settings or {})
    fields = [field.name for field in dataclasses.fields(kind)]
    for key in values:
        if key not in fields:
            raise UnknownNameError(f"setting of {name}", key, fields)
    if keep is not None:
        values["keep"] = keep
    try:
        return kind(**values)
    except FieldError as error:
        raise InputError(f"{name}: {error.field}", error.value, error.remedy) from None


def lm_layers(model: VlmModel) -> int:
    """Number of language-model layers."""
    return len(model.language_model.layer_pattern)


def tower_layers(model: VlmModel, method_name: str) -> int:
    """Number of encoder layers.

    Raises
    ------
    UnsupportedError
        If the model has no vision tower.
    """
    if model.vision_tower is None:
        raise UnsupportedError("method", method_name, f"{model.name} has no vision tower to prune")
    return len(model.vision_tower.layer_pattern)
