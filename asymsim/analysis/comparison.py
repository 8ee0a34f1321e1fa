"""Pruning methods side by side at one budget, and their savings as the budget varies.

Methods spell their main parameter differently: FastV's ``keep`` holds from one layer on, VisionZip's
before the first. They are comparable at equal cost to the language model, so the budget is the papers'
"retain N": the mean share of visual tokens over its layers. Each method's ``keep`` is solved for it.
KV methods prune no visual tokens; their budget is the share of the cache left after prefill.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

from asymsim.analysis.break_even import pruning_cost
from asymsim.analysis.budget_search import Match, family_of, kept_share, solve_keep, with_method
from asymsim.estimator.estimate import estimate
from asymsim.estimator.result import Estimate
from asymsim.estimator.scenario import Scenario, unpruned
from asymsim.methods.base import registered_methods as registry
from asymsim.util.arguments import checked_arguments
from asymsim.util.errors import InputError, UnknownNameError
from asymsim.util.units import human_seconds

BUDGETS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
Row = dict[str, Any]


def vision_methods() -> list[str]:
    """Names of all methods that prune visual tokens."""
    return [name for name, kind in registry().items() if kind.family == "vision" and name != "none"]


@checked_arguments
def compare(
    scenario: Scenario,
    methods: Sequence[str] | None = None,
    *,
    budget: float = 0.5,
    match: Match = "budget",
    settings: Mapping[str, Any] | None = None,
) -> list[Row]:
    """Methods side by side; the unpruned model comes first.

    Parameters
    ----------
    scenario : Scenario
        Model, GPU and token counts; its method or schedule plays no part.
    methods : sequence of str, optional
        All vision methods by default; two joined by "+" go together.
    budget : float
        Mean share of visual tokens over the language model's layers, in [0, 1]; for KV methods the
        share of the cache after prefill.
    match : {"budget", "keep"}
        Whether ``keep`` is solved for the budget, or is the budget.
    settings : mapping, optional
        Further settings of the methods, written ``method.setting``.

    Returns
    -------
    list of dict
        One row a method. ``note`` says where the budget is out of reach or the method has no meaning
        on this model; its figures are None then. ``slower`` names the cost of pruning where the method takes
        longer to the first token than the dense baseline.

    Raises
    ------
    AsymsimError
        If the scenario, a name, a setting or the budget is wrong.
    """
    if match not in get_args(Match):
        raise InputError("match", match, f"give one of {', '.join(get_args(Match))}")
    settings = settings or {}
    names = check_methods(methods, (budget,), settings)
    dense = _dense(scenario, names)
    rows = [_row(dense, dense, "none", None, 1.0, "")]
    for name in names:
        (solved,) = solve_keep(scenario, name, settings, dense, (budget,), match)
        row = _row(solved.result, dense, name, budget, solved.keep, solved.note)
        rows.append(row | {"slower": _slower(row, with_method(scenario, name, settings, solved.keep))})
    return rows


def _slower(row: Row, scenario: Scenario) -> str:
    """Cost of pruning where it takes longer to the first token than the dense baseline; else empty."""
    if not row["ttft_saved"] or row["ttft_saved"] > 0:
        return ""
    cost = pruning_cost(scenario)
    note = f"slower to the first token than unpruned; selection takes {human_seconds(cost.selection_s)}"
    if cost.unfused_s:
        note += f", attention with stored weights {human_seconds(cost.unfused_s)}"
    return note


@checked_arguments
def savings_curves(
    models: Sequence[str],
    gpus: Sequence[str] = ("h100_sxm",),
    methods: Sequence[str] | None = None,
    budgets: Sequence[float] = BUDGETS,
    *,
    settings: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
    **fields: Any,
) -> list[Row]:
    """Savings of methods on models and GPUs as the budget varies: one row for each combination.

    Parameters
    ----------
    models, gpus, methods : sequence of str
    budgets : sequence of float
    settings : mapping, optional
        As for `compare`.
    progress : callable, optional
        Called with the number of curves done and their total.
    **fields
        Other fields of the scenarios, such as ``text_tokens``.

    Raises
    ------
    AsymsimError
        As for `compare`.
    """
    # A wrong name in the last place should not cost the work before it.
    scenarios = {(model, gpu): Scenario(model=model, gpu=gpu, **fields) for model in models for gpu in gpus}
    settings = settings or {}
    names = check_methods(methods, budgets, settings)
    dense = {key: _dense(scenario, names) for key, scenario in scenarios.items()}
    rows: list[Row] = []
    total = len(models) * len(names)
    for done, (model, name) in enumerate((model, name) for model in models for name in names):
        if progress:
            progress(done, total)
        # Token counts are the same on every GPU, so the first one's search serves all.
        points = solve_keep(scenarios[model, gpus[0]], name, settings, dense[model, gpus[0]], budgets, "budget")
        for gpu in gpus:
            for budget, point in zip(budgets, points, strict=True):
                result = point.result
                if result is not None and gpu != gpus[0]:
                    result = estimate(with_method(scenarios[model, gpu], name, settings, point.keep))
                row = _row(result, dense[model, gpu], name, budget, point.keep, point.note)
                slower = _slower(row, with_method(scenarios[model, gpu], name, settings, point.keep))
                rows.append(row | {"slower": slower})
    if progress:
        progress(total, total)
    return rows


def check_methods(methods: Sequence[str] | None, budgets: Sequence[float], settings: Mapping[str, Any]) -> list[str]:
    names = list(dict.fromkeys(vision_methods() if methods is None else methods))
    for budget in budgets:
        if not 0 <= budget <= 1:
            raise InputError("budget", budget, "give a share between 0 and 1")
    for part in (part for name in names for part in name.split("+")):
        if part not in registry():
            raise UnknownNameError("method", part, registry())
    for key in settings:
        if key.split(".")[0] not in {part for name in names for part in name.split("+")} or "." not in key:
            raise InputError("settings", key, f"write it as method.setting, of one of {', '.join(names)}")
    return names


def _dense(scenario: Scenario, names: Sequence[str]) -> Estimate:
    dense = estimate(unpruned(scenario))
    if dense.workload.visual_tokens == 0 and all(family_of(name) == "vision" for name in names):
        raise InputError("num_images", dense.workload.num_images, f"{dense.model} is given no visual tokens to prune")
    return dense


def _row(
    result: Estimate | None, dense: Estimate, name: str, budget: float | None, keep: float | None, note: str
) -> Row:
    family = family_of(name)
    row: Row = {
        "model": dense.model,
        "gpu": dense.gpu,
        "method": name,
        "family": family,
        "budget": budget,
        "keep": keep,
        "kept_share": None,
        "mean_visual_tokens": None,
        "prefill_flops_saved": None,
        "flops_saved": None,
        "kv_saved": None,
        "peak_memory_saved": None,
        "ttft_s": None,
        "ttft_saved": None,
        "tpot_s": None,
        "tpot_saved": None,
        "e2e_s": None,
        "e2e_saved": None,
        "selection_share_of_ttft": None,
        "fits": None,
        "note": note,
        "slower": "",
    }
    if result is not None:
        row.update(_figures(result, dense, family))
    return row


def _figures(result: Estimate, dense: Estimate, family: str) -> Mapping[str, Any]:
    saved, latency = result.savings, result.latency
    ttft, selection = latency.ttft_s.p50, latency.selection_s.p50
    return {
        "kept_share": kept_share(result, dense, family),
        "mean_visual_tokens": result.schedule.mean_visual_tokens,
        "prefill_flops_saved": saved.prefill_flops,
        "flops_saved": saved.flops,
        "kv_saved": saved.kv_bytes,
        "peak_memory_saved": saved.peak_bytes,
        "ttft_s": ttft,
        "ttft_saved": saved.ttft,
        "tpot_s": latency.tpot_s.p50,
        "tpot_saved": saved.tpot,
        "e2e_s": latency.e2e_s.p50,
        "e2e_saved": saved.e2e,
        "selection_share_of_ttft": selection / ttft if ttft and selection is not None else None,
        "fits": result.memory.fits,
    }
