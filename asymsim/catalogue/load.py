"""Models by catalogue name, or from a ``config.json`` anywhere."""

from __future__ import annotations

import json
from functools import cache, lru_cache
from pathlib import Path

from asymsim.catalogue.hf.base import from_config
from asymsim.catalogue.model import VlmModel
from asymsim.util.arguments import checked_arguments
from asymsim.util.errors import InputError, UnknownNameError

_FOLDER = Path(__file__).parent / "data" / "models"


@cache
def model_names() -> tuple[str, ...]:
    """Names of the catalogue's models."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.json")))


@checked_arguments
def load_model(name_or_path: str) -> VlmModel:
    """A model by catalogue name, or from a ``config.json`` or its folder.

    Raises
    ------
    UnknownNameError
        If it is neither a catalogue name nor an existing path, or of an unknown ``model_type``.
    InputError
        If the file cannot be read or a field is missing or out of range.
    """
    if name_or_path.lower() in model_names():
        return _read(_FOLDER / f"{name_or_path.lower()}.json", name_or_path.lower(), 0)
    path = Path(name_or_path)
    try:
        if path.is_dir():
            path = path / "config.json"
        if path.is_file():
            return _read(path, name_or_path, path.stat().st_mtime_ns)
    except (OSError, ValueError) as error:
        raise InputError("model", name_or_path, f"the path cannot be read ({error})") from error
    if path.suffix == ".json" or path.name != name_or_path:
        raise InputError("model", name_or_path, "no such file; give a config.json, its folder or a catalogue name")
    raise UnknownNameError("model", name_or_path, model_names())


@lru_cache(maxsize=256)
def _read(path: Path, name: str, _changed: int) -> VlmModel:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise InputError("model", name, f"the file is no readable JSON ({error})") from error
    if not isinstance(config, dict):
        raise InputError("model", name, "the file must hold a JSON object, as config.json on the Hub does")
    return from_config(name, config)
