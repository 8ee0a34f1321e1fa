"""Host time of an engine's step: measured TPOT less the predicted operator times, over half of the runs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from asymsim.catalogue.engine import Engine, load_engine
from asymsim.core.times.parameters import HOST_TIME
from asymsim.validation.serving_runs.deployment import ClassTimes, Prediction
from asymsim.validation.serving_runs.loader import PACKAGE


def host_times(engine: Engine) -> ClassTimes:
    """Host time of one engine step, as the operator class of the host."""
    times = ClassTimes.zero()
    times.seconds[HOST_TIME] = engine.host_p05_s, engine.host_s, engine.host_p95_s
    return times


def fit_hosts(predictions: Sequence[Prediction], fitting: Sequence[bool]) -> dict[str, Engine]:
    """Median, 5 % and 95 % of the host time of each engine, none below 0.

    The median is over all runs of the fitting half. The quantiles are over the half of these with the shorter engine
    steps: in a long step the error of the operator times, which have an interval, is larger than the host time.

    Parameters
    ----------
    predictions : sequence of Prediction
    fitting : sequence of bool
        Mask of the runs to fit on. Impossible and queued runs among them are left out.

    Returns
    -------
    dict of str to Engine
        Engines by name, as the catalogue has them.
    """
    usable = [prediction for prediction, fit in zip(predictions, fitting, strict=True) if fit and prediction.judged]
    hosts = {}
    for name in sorted({prediction.run.engine for prediction in usable}):
        by_tpot = sorted((each for each in usable if each.run.engine == name), key=lambda each: each.run.tpot_s)
        residual_s = np.array([each.run.tpot_s - each.engine_step.interval().p50 for each in by_tpot])
        median = max(0.0, float(np.median(residual_s)))
        low, high = np.quantile(residual_s[: -(-len(residual_s) // 2)], (0.05, 0.95)).tolist()
        catalogued = load_engine(name)
        hosts[name] = Engine(
            name=name,
            host_s=_microseconds(median),
            host_p05_s=_microseconds(min(max(0.0, low), median)),
            host_p95_s=_microseconds(max(high, median)),
            source=f"{PACKAGE}, systems/silicon_sample.csv: TPOT less operator times, median of {len(by_tpot)} runs",
            fused_quantisation=catalogued is not None and catalogued.fused_quantisation,
        )
    return hosts


def _microseconds(seconds: float) -> float:
    """Seconds to whole microseconds, the precision of the measured runs."""
    return round(seconds, 6)


def engines_text(hosts: dict[str, Engine]) -> str:
    """Text of the catalogue's ``engines.toml``."""
    lines = [
        "# Host time of an engine step: median, 5 % and 95 % of measured TPOT less the predicted operator times, over",
        f"# half of the dense, aggregated, one-GPU rows of systems/silicon_sample.csv of {PACKAGE} (NVIDIA,",
        "# Apache-2.0). Made again by: asymsim validate latency --part end-to-end --engines FILE",
    ]
    for name, engine in hosts.items():
        lines += ["", f"[{name}]"]
        lines += [f"{key} = {getattr(engine, key):.6f}" for key in ("host_s", "host_p05_s", "host_p95_s")]
        lines += [f'source = "{engine.source}"']
        if engine.fused_quantisation:
            lines += ["fused_quantisation = true"]
    return "\n".join(lines) + "\n"
