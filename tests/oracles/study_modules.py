"""Studies imported as modules, beside the modules that they share, as they are when run."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

STUDIES = Path(__file__).parents[2] / "studies"


@contextmanager
def imported_studies(paths: Sequence[Path], shared: str) -> Iterator[dict[str, ModuleType]]:
    """Studies by name, without their number, while the folder of studies is on the path.

    Parameters
    ----------
    paths : sequence of pathlib.Path
    shared : str
        The module that they share, forgotten at the end as they are.
    """
    sys.path.insert(0, str(STUDIES))
    modules: dict[str, ModuleType] = {}
    try:
        for path in paths:
            spec = importlib.util.spec_from_file_location(path.stem.lstrip("0123456789_"), path)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            # Dataclasses look their module up by its name.
            sys.modules[spec.name] = modules[spec.name] = module
            spec.loader.exec_module(module)
        yield modules
    finally:
        sys.path.remove(str(STUDIES))
        for name in [*modules, shared]:
            sys.modules.pop(name, None)
