"""asymsim: what vision-language-model inference costs, and what any token-pruning schedule saves.

Importing the package is cheap: numba and the catalogue load with the first call that needs them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from asymsim.util.version import __version__

if TYPE_CHECKING:
    from asymsim.analysis.comparison import compare, savings_curves
    from asymsim.estimator.estimate import estimate
    from asymsim.estimator.scenario import Scenario
    from asymsim.util.errors import AsymsimError, InputError, UnknownNameError, UnsupportedError

_HOMES = {
    "AsymsimError": "util.errors",
    "InputError": "util.errors",
    "UnknownNameError": "util.errors",
    "UnsupportedError": "util.errors",
    "Scenario": "estimator.scenario",
    "compare": "analysis.comparison",
    "estimate": "estimator.estimate",
    "savings_curves": "analysis.comparison",
}

__all__ = [
    "AsymsimError",
    "InputError",
    "Scenario",
    "UnknownNameError",
    "UnsupportedError",
    "__version__",
    "compare",
    "estimate",
    "savings_curves",
]


def __getattr__(name: str) -> Any:
    """Import a public name from its module on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
