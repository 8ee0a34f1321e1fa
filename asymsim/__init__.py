"""Cost of vision-language-model inference, and the savings of any token-pruning schedule.

All that a user calls is imported from here. The import itself is cheap: numba and the catalogue load with the first
call that needs them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from asymsim.util.version import __version__

if TYPE_CHECKING:
    from asymsim.analysis.comparison import compare, savings_curves
    from asymsim.catalogue.gpu import load_gpu
    from asymsim.catalogue.load import load_model
    from asymsim.estimator.estimate import estimate
    from asymsim.estimator.result import Estimate
    from asymsim.estimator.scenario import Scenario
    from asymsim.methods.base import list_methods
    from asymsim.serving.config import ClusterConfig, EngineConfig
    from asymsim.serving.metrics import serving_metrics
    from asymsim.serving.planning.plan import plan
    from asymsim.serving.planning.query import PlanQuery
    from asymsim.serving.power import Tariff
    from asymsim.serving.simulate import simulate
    from asymsim.serving.slo import Slo, SloTarget
    from asymsim.serving.workload.spec import WorkloadSpec
    from asymsim.sweep.evaluate import evaluate
    from asymsim.util.errors import AsymsimError, InputError, MissingExtraError, UnknownNameError, UnsupportedError

# The module of each public name, below the package.
_MODULES = {
    "AsymsimError": "util.errors",
    "ClusterConfig": "serving.config",
    "EngineConfig": "serving.config",
    "Estimate": "estimator.result",
    "InputError": "util.errors",
    "MissingExtraError": "util.errors",
    "PlanQuery": "serving.planning.query",
    "Scenario": "estimator.scenario",
    "Slo": "serving.slo",
    "SloTarget": "serving.slo",
    "Tariff": "serving.power",
    "UnknownNameError": "util.errors",
    "UnsupportedError": "util.errors",
    "WorkloadSpec": "serving.workload.spec",
    "compare": "analysis.comparison",
    "estimate": "estimator.estimate",
    "evaluate": "sweep.evaluate",
    "list_methods": "methods.base",
    "load_gpu": "catalogue.gpu",
    "load_model": "catalogue.load",
    "plan": "serving.planning.plan",
    "savings_curves": "analysis.comparison",
    "serving_metrics": "serving.metrics",
    "simulate": "serving.simulate",
}

__all__ = [
    "AsymsimError",
    "ClusterConfig",
    "EngineConfig",
    "Estimate",
    "InputError",
    "MissingExtraError",
    "PlanQuery",
    "Scenario",
    "Slo",
    "SloTarget",
    "Tariff",
    "UnknownNameError",
    "UnsupportedError",
    "WorkloadSpec",
    "__version__",
    "compare",
    "estimate",
    "evaluate",
    "list_methods",
    "load_gpu",
    "load_model",
    "plan",
    "savings_curves",
    "serving_metrics",
    "simulate",
]


def __getattr__(name: str) -> Any:
    """Import a public name from its module on first use."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
