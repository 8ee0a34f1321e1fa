"""What an engine's host adds to each step: measured TPOT less the operators' time, over half of the runs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from asymsim.catalogue.engine import Engine, load_engine
from asymsim.core.times.parameters import HOST_TIME
from asymsim.validation.serving_runs.deployment import Prediction, Work
from asymsim.validation.serving_runs.loader import PACKAGE


def host_work(server: Engine) -> Work:
    """The host's share of one step as a class of its own."""
    work = Work.none()
    work.seconds[HOST_TIME] = server.host_p05_s, server.host_s, server.host_p95_s
    return work


def fit_hosts(predictions: Sequence[Prediction], fitting: Sequence[bool]) -> dict[str, Engine]:
    """Median, 5 % and 95 % of the residual of each engine, none below 0.

    The median is over all runs of the half; the quantiles are over the shorter half of their steps, because in
    a long step the operators' own error, which has its interval already, is larger than anything the host adds.

    Parameters
    ----------
    predictions : sequence of Prediction
    fitting : sequence of bool
        Which of them may be looked at. Of these, runs that are impossible or queue are left out.

    Returns
    -------
    dict of str to Engine
        By name, as the catalogue keeps them.
    """
    used = [each for each, chosen in zip(predictions, fitting, strict=True) if chosen and each.judged]
    found = {}
    for name in sorted({each.run.engine for each in used}):
        own = sorted((each for each in used if each.run.engine == name), key=lambda each: each.run.tpot_s)
        rest = np.array([each.run.tpot_s - each.step.interval().p50 for each in own])
        median = max(0.0, float(np.median(rest)))
        low, high = np.quantile(rest[: -(-len(rest) // 2)], (0.05, 0.95)).tolist()
        known = load_engine(name)
        found[name] = Engine(
            name=name,
            host_s=_microseconds(median),
            host_p05_s=_microseconds(min(max(0.0, low), median)),
            host_p95_s=_microseconds(max(high, median)),
            source=f"{PACKAGE}, systems/silicon_sample.csv: TPOT less operator times, median of {len(own)} runs",
            fused_quantisation=known is not None and known.fused_quantisation,
        )
    return found


def _microseconds(seconds: float) -> float:
    """No run of these tells less than a microsecond."""
    return round(seconds, 6)


def engines_text(hosts: dict[str, Engine]) -> str:
    """The catalogue's ``engines.toml``."""
    lines = [
        "# What the host adds to a step: median, 5 % and 95 % of measured TPOT less the predicted operator times, over",
        f"# half of the dense, aggregated, one-GPU rows of systems/silicon_sample.csv of {PACKAGE} (NVIDIA,",
        "# Apache-2.0). Made again by: asymsim validate latency --part end-to-end --engines FILE",
    ]
    for name, server in hosts.items():
        lines += ["", f"[{name}]"]
        lines += [f"{key} = {getattr(server, key):.6f}" for key in ("host_s", "host_p05_s", "host_p95_s")]
        lines += [f'source = "{server.source}"']
        if server.fused_quantisation:
            lines += ["fused_quantisation = true"]
    return "\n".join(lines) + "\n"
