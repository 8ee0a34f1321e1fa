"""Methods: the class that each derives from, and the registry, the only list of methods anywhere."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, ClassVar, Literal, TypeVar

from asymsim.catalogue.model import VisionTower, VlmModel
from asymsim.methods.schedule import Mixture, Schedule
from asymsim.util.errors import FieldError, InputError, UnknownNameError
from asymsim.util.strict import strict_dataclass

Family = Literal["vision", "kv"]
# Refuses a model, given the method's name, by raising UnsupportedError.
Requirement = Callable[[VlmModel, str], None]
Requirements = tuple[Requirement, ...]
Examples = tuple[Mapping[str, Any], ...]
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
    family : {"vision", "kv"}
        Whether visual tokens leave, or KV entries.
    source : str
        Publication with section, or released code.
    requires : tuple of Requirement
        Properties without which the method has no meaning on a model, from ``methods.common.requirements``.
    refused_settings : tuple of mappings
        Examples of settings out of range, at least one where the method has settings besides ``keep``; tests try them.
    tokens_at_zero : int or None
        Most visual tokens of an encoder sequence that ``keep = 0`` leaves; None where it leaves more or is refused.
    """

    name: ClassVar[str]
    family: ClassVar[Family] = "vision"
    source: ClassVar[str]
    requires: ClassVar[Requirements] = ()
    refused_settings: ClassVar[Examples] = ()
    tokens_at_zero: ClassVar[int | None] = 0

    keep: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.keep <= 1:
            raise InputError("keep", self.keep, "give a share between 0 and 1")

    @abstractmethod
    def build_schedule(self, model: VlmModel) -> Schedule:
        """The schedule of these settings on a model that has all that the method requires.

        Raises
        ------
        InputError
            If a setting is out of range on this model.
        """

    def build_mixture(self, model: VlmModel) -> Mixture:
        """The schedules of a budget that adapts to the sample, with their shares of the samples."""
        return ((1.0, self.build_schedule(model)),)

    def schedule(self, model: VlmModel) -> Schedule:
        """The schedule of these settings on a model.

        Raises
        ------
        UnsupportedError
            If the method has no meaning on this model.
        InputError
            If a setting is out of range on this model.
        """
        self._check_requirements(model)
        return self.build_schedule(model)

    def mixture(self, model: VlmModel) -> Mixture:
        """The schedules that samples get, with their shares, which add up to 1.

        More than one where the budget adapts to the sample; a cost is then the expectation over them. Raises as
        ``schedule`` does.
        """
        self._check_requirements(model)
        return self.build_mixture(model)

    def _check_requirements(self, model: VlmModel) -> None:
        for requirement in self.requires:
            requirement(model, self.name)


def register(name: str) -> Callable[[type[M]], type[M]]:
    """Give a method its name on the command line."""

    def enter(method: type[M]) -> type[M]:
        method.name = name
        _METHODS[name] = method
        return method

    return enter


@cache
def registered_methods() -> Mapping[str, type[Method]]:
    """All methods by name; importing a file of this package registers it."""
    package = importlib.import_module("asymsim.methods")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    return dict(sorted(_METHODS.items()))


def list_methods() -> list[str]:
    """Names of all pruning methods, sorted."""
    return list(registered_methods())


def make_method(name: str, keep: float | None = None, settings: Mapping[str, Any] | None = None) -> Method:
    """A method with its kept share and further settings.

    Raises
    ------
    UnknownNameError
        If there is no such method or setting.
    InputError
        If a setting has the wrong kind or range.
    """
    methods = registered_methods()
    if name not in methods:
        raise UnknownNameError("method", name, methods)
    method_class = methods[name]
    values = dict(settings or {})
    fields = [field.name for field in dataclasses.fields(method_class)]
    for key in values:
        if key not in fields:
            raise UnknownNameError(f"setting of {name}", key, fields)
    if keep is not None:
        values["keep"] = keep
    try:
        return method_class(**values)
    except FieldError as error:
        raise InputError(f"{name}: {error.field}", error.value, error.remedy) from None


def lm_layers(model: VlmModel) -> int:
    """Number of language-model layers."""
    return len(model.language_model.layer_pattern)


def tower_of(model: VlmModel) -> VisionTower:
    """The vision tower of a model whose method requires one."""
    assert model.vision_tower is not None
    return model.vision_tower
