"""Where does each operator lie under the GPU's roofline, before and after pruning?

    python studies/09_roofline.py [--out FOLDER]

FLOP a byte of memory traffic against FLOP/s achieved, by the time that asymsim predicts, for the operators of the
encoder, of prefill and of decoding. Pruning moves prefill down the slope and leaves decoding where it was.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from output import Row, legend, panels, percent, plain, run

from asymsim.catalogue.gpu import load_gpu as gpu_of
from asymsim.estimator.estimate import estimate
from asymsim.estimator.scenario import Scenario
from asymsim.reporting.plots.style import COLORS, MARKERS
from asymsim.util.units import TERA

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BATCH_SIZES = (1, 32)
KEEP = 1 / 9
BYTES = ("weight_bytes", "read_bytes", "write_bytes", "kv_read_bytes", "kv_write_bytes")
PHASES = ("vision_tower", "prefill", "decode")
NAMES = ("qkv_projection", "output_projection", "ffn_up", "ffn_down", "attention", "lm_head")
JUDGED = tuple((phase, operator) for phase in ("prefill", "decode") for operator in ("ffn_up", "attention"))


def rows(
    model: str = "llava-1.5-7b",
    gpu: str = "h100_sxm",
    method: str = "visionzip",
    keep: float = KEEP,
    batch_sizes: Sequence[int] = BATCH_SIZES,
) -> list[Row]:
    """A row for each batch size, pruned or not, phase and operator, over all layers."""
    peak, bandwidth = gpu_of(gpu).peak_flops_per_s["bf16"], gpu_of(gpu).bandwidth_bytes_per_s
    study_rows = []
    for batch in batch_sizes:
        for name, settings in (("none", {}), (method, {"keep": keep})):
            scenario = Scenario(model=model, gpu=gpu, batch_size=batch, method=name, **settings)
            operators = estimate(scenario, operators=True).operators or []
            for phase, operator in ((phase, operator) for phase in PHASES for operator in NAMES):
                executions = [row for row in operators if (row["phase"], row["name"]) == (phase, operator)]
                flops, seconds = sum(row["flops"] for row in executions), sum(row["seconds"] for row in executions)
                traffic = sum(row[kind] for row in executions for kind in BYTES)
                if not flops:
                    continue
                bound = min(peak, bandwidth * flops / traffic)
                study_rows.append(
                    {
                        "model": model,
                        "gpu": gpu,
                        "batch_size": batch,
                        "method": name,
                        "keep": settings.get("keep", 1.0),
                        "phase": phase,
                        "operator": operator,
                        "flops": flops,
                        "bytes": traffic,
                        "seconds": seconds,
                        "flop_per_byte": flops / traffic,
                        "flops_per_s": flops / seconds,
                        "share_of_roof": flops / seconds / bound,
                        "bound": "compute" if bound == peak else "memory",
                    }
                )
    return study_rows


def findings(rows: list[Row]) -> list[str]:
    """Moves of the matrix products of each phase along the roof, and their rates."""
    said = []
    roof = gpu_of(rows[0]["gpu"])
    ridge = roof.peak_flops_per_s["bf16"] / roof.bandwidth_bytes_per_s
    said.append(f"{rows[0]['gpu']}: the roof's ridge is at {ridge:.0f} FLOP a byte")
    for batch in dict.fromkeys(row["batch_size"] for row in rows):
        for phase, operator in JUDGED:
            key = (batch, phase, operator)
            dense, pruned = (row for row in rows if (row["batch_size"], row["phase"], row["operator"]) == key)
            said.append(
                f"batch {batch}, {phase} {operator}: {dense['flop_per_byte']:.4g} to {pruned['flop_per_byte']:.4g} "
                f"FLOP a byte, {dense['flops_per_s'] / TERA:.4g} to {pruned['flops_per_s'] / TERA:.4g} TFLOP/s "
                f"({percent(dense['share_of_roof'])} to {percent(pruned['share_of_roof'])} of the roof); its time "
                f"falls by {percent(1 - pruned['seconds'] / dense['seconds'])}, its FLOPs by "
                f"{percent(1 - pruned['flops'] / dense['flops'])}"
            )
    return said


def draw(rows: list[Row]) -> Figure:
    """A panel a batch size: the roof, and an arrow from each unpruned operator to the pruned one."""
    batches = list(dict.fromkeys(row["batch_size"] for row in rows))
    roof = gpu_of(rows[0]["gpu"])
    peak, bandwidth = roof.peak_flops_per_s["bf16"], roof.bandwidth_bytes_per_s
    figure, axes = panels(1, len(batches), max(5.0, 4.5 * len(batches)), 5.2, sharex=True, sharey=True)
    at = [0.5, peak / bandwidth, 4000.0]
    for panel, batch in zip(axes[0], batches, strict=True):
        panel.plot(at, [min(peak, bandwidth * x) / TERA for x in at], color="black", linewidth=1.2, label="roofline")
        for row in rows:
            if row["batch_size"] != batch:
                continue
            pruned = row["method"] != "none"
            color = dict(zip(PHASES, (COLORS[6], COLORS[0], COLORS[1]), strict=True))[row["phase"]]
            panel.plot(
                row["flop_per_byte"], row["flops_per_s"] / TERA, MARKERS[NAMES.index(row["operator"])], color=color,
                markersize=6, markerfacecolor=color if pruned else "white", markeredgewidth=1.1,
            )  # fmt: skip
            if pruned:
                key = ("batch_size", "phase", "operator")
                start = next(r for r in rows if r["method"] == "none" and all(r[name] == row[name] for name in key))
                panel.annotate(
                    "", (row["flop_per_byte"], row["flops_per_s"] / TERA),
                    (start["flop_per_byte"], start["flops_per_s"] / TERA),
                    arrowprops={"arrowstyle": "->", "color": color, "linewidth": 0.8, "shrinkA": 4, "shrinkB": 4},
                )  # fmt: skip
        panel.set(xscale="log", yscale="log")
        plain(
            panel, f"batch {batch}", "FLOP a byte of memory traffic", "TFLOP/s achieved" if panel is axes[0][0] else ""
        )
    keys = axes[0][0]
    for phase, color in zip(PHASES, (COLORS[6], COLORS[0], COLORS[1]), strict=True):
        keys.plot([], [], "-", color=color, linewidth=4, label=phase.replace("_", " "))
    for operator, marker in zip(NAMES, MARKERS, strict=False):
        keys.plot([], [], marker, color="0.3", markerfacecolor="white", label=operator.replace("_", " "))
    keys.plot([], [], "o", color="0.3", label="filled: pruned")
    legend(figure, [keys], 4)
    method = next(row for row in rows if row["method"] != "none")
    figure.suptitle(
        f"{rows[0]['model']} on {rows[0]['gpu']}, unpruned and with {method['method']} at {100 * method['keep']:.3g} %",
        fontsize=10,
    )
    return figure


if __name__ == "__main__":
    sys.exit(run(__file__, rows, draw, findings))
