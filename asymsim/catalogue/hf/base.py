"""Reader of ``config.json`` fields with checks, and registry of the adapters by model type."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from asymsim.catalogue.model import VlmModel
from asymsim.util.errors import InputError, UnknownNameError

Adapter = Callable[[str, "Fields"], VlmModel]
_ADAPTERS: dict[str, Adapter] = {}

# Above this a dimension is a typing error, not a model, and products of dimensions would leave 64 bits.
LARGEST_DIMENSION = 2**24


class Fields:
    """Read access to one (sub-)dictionary of a ``config.json``, with class defaults behind it.

    Parameters
    ----------
    values : Mapping
        Entries of the file, which take precedence over the defaults. An explicit null removes a default, as in
        ``transformers`` (``"sliding_window": null`` is no window, whatever the class default).
    defaults : Mapping
        Class defaults of the ``model_type``: files on the Hub leave out entries that equal them.
    path : str
        Path of the dictionary for error messages, such as ``text_config``.
    """

    def __init__(self, values: Mapping[str, Any], defaults: Mapping[str, Any] | None = None, path: str = "") -> None:
        merged = {**(defaults or {}), **values}
        self._values = {key: value for key, value in merged.items() if value is not None}
        self._nulls = {key: None for key, value in merged.items() if value is None}
        self.path = path

    def with_defaults(self, defaults: Mapping[str, Any]) -> Fields:
        """The same entries with (other) class defaults behind them."""
        return Fields({**self._nulls, **self._values}, defaults, self.path)

    def replace(self, **values: Any) -> Fields:
        """The same entries with some of them set, for files that state one thing under other names."""
        return Fields({**self._nulls, **self._values, **values}, None, self.path)

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def _name(self, key: str) -> str:
        return f"config.json: {self.path}.{key}" if self.path else f"config.json: {key}"

    def error(self, key: str, remedy: str) -> InputError:
        """Error for an entry of the right type that is out of place."""
        return InputError(self._name(key), self._values.get(key), remedy)

    def get(self, key: str, default: Any = None) -> Any:
        """The raw entry, unchecked."""
        return self._values.get(key, default)

    def integer(self, key: str, default: int | None = None, minimum: int = 1, maximum: int = LARGEST_DIMENSION) -> int:
        """A whole number between ``minimum`` and ``maximum``; ``default`` where the file has none."""
        value = self._values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not minimum <= value <= maximum:
            raise InputError(self._name(key), value, f"give a whole number from {minimum} to {maximum}")
        return value

    def flag(self, key: str, default: bool = False) -> bool:
        """A boolean entry."""
        value = self._values.get(key, default)
        if not isinstance(value, bool):
            raise InputError(self._name(key), value, "give true or false")
        return value

    def integers(self, key: str, default: tuple[int, ...] = (), minimum: int = 0) -> tuple[int, ...]:
        """A list of whole numbers."""
        values = self._values.get(key, default)
        if not isinstance(values, list | tuple):
            raise InputError(self._name(key), values, "give a list of whole numbers")
        for value in values:
            if isinstance(value, bool) or not isinstance(value, int) or not minimum <= value <= LARGEST_DIMENSION:
                raise InputError(self._name(key), value, f"give whole numbers from {minimum} to {LARGEST_DIMENSION}")
        return tuple(values)

    def choice(self, key: str, choices: tuple[str, ...], default: str) -> str:
        """One of a few words."""
        value = self._values.get(key, default)
        if value not in choices:
            raise InputError(self._name(key), value, f"give one of {', '.join(choices)}")
        return str(value)

    def part(self, key: str, defaults: Mapping[str, Any] | None = None) -> Fields:
        """A nested dictionary; where the file has none, the defaults alone."""
        value = self._values.get(key, {})
        if not isinstance(value, Mapping):
            raise InputError(self._name(key), value, "give an object")
        path = f"{self.path}.{key}" if self.path else key
        return Fields(value, defaults, path)


def adapter(*model_types: str) -> Callable[[Adapter], Adapter]:
    """Decorator that registers a function of name and fields for one or more ``model_type`` values."""

    def register(function: Adapter) -> Adapter:
        for model_type in model_types:
            _ADAPTERS[model_type] = function
        return function

    return register


@cache
def adapters() -> Mapping[str, Adapter]:
    """All adapters by ``model_type``; importing a module of this package registers its adapter."""
    package = importlib.import_module("asymsim.catalogue.hf")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    return _ADAPTERS


def from_config(name: str, config: Mapping[str, Any]) -> VlmModel:
    """Model from the content of a ``config.json``.

    Raises
    ------
    UnknownNameError
        If no adapter has the ``model_type``; the message lists similar ones, or all.
    InputError
        If a field is missing, of the wrong kind or out of range.
    """
    model_type = config.get("model_type")
    if not isinstance(model_type, str):
        raise InputError("config.json: model_type", model_type, "give the model's type, such as 'llava'")
    by_type = adapters()
    if model_type not in by_type:
        raise UnknownNameError("config.json: model_type", model_type, by_type)
    return by_type[model_type](name, Fields(config))
