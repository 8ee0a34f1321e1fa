"""Which GPU serves most requests within equal latency limits, and at equal cost, and how does pruning change it?

    python studies/10_gpus_at_equal_slo.py [--prices PRICES.csv] [--out FOLDER]

For each GPU the largest batch is sought whose TTFT and TPOT stay within the limits and that fits the memory; requests
come in batches one after the other. Requests a dollar need a table of prices, a CSV with the columns gpu, usd_per_hour
and source, or `price_usd_per_hour` in the GPU's own TOML file: no prices ship.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from output import Row, legend, panels, percent, plain, run

from asymsim.catalogue.gpu import gpu_names
from asymsim.catalogue.gpu import load_gpu as gpu_of
from asymsim.estimator.estimate import estimate
from asymsim.estimator.result import Estimate
from asymsim.estimator.scenario import Scenario
from asymsim.reporting.plots.style import COLORS
from asymsim.util.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TTFT_S = 1.0
TPOT_S = 0.05
COLUMNS = ("gpu", "usd_per_hour", "source")
METHODS: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("none", {}),
    ("asymvlm", {"keep": 0.5}),
    ("visionzip", {"keep": 1 / 9}),
)


def read_prices(path: str) -> dict[str, float]:
    """Prices by GPU, US dollars an hour; bad input is refused in one line, with its row."""
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            lines = list(csv.reader(file, strict=True))
    except OSError as error:
        raise InputError("prices", path, f"cannot be read ({error.strerror or error})") from None
    except (ValueError, csv.Error) as error:
        raise InputError("prices", path, f"is no CSV ({error})") from None
    if not lines or sorted(lines[0]) != sorted(COLUMNS) or len(lines) == 1:
        raise InputError("prices", path, f"needs the first line {','.join(COLUMNS)}, and a row a GPU")
    prices: dict[str, float] = {}
    for number, cells in enumerate(lines[1:], start=2):
        where = f"{path}, row {number}"
        if len(cells) != len(COLUMNS):
            raise InputError(where, len(cells), f"must have {len(COLUMNS)} columns")
        row = dict(zip(lines[0], cells, strict=True))
        try:
            name = gpu_of(row["gpu"]).name
            price = float(row["usd_per_hour"])
        except InputError as error:
            raise InputError(f"{where}: {error.field}", error.value, error.remedy) from None
        except ValueError:
            price = math.nan
        if not 0 < price < math.inf:
            raise InputError(f"{where}: usd_per_hour", row["usd_per_hour"], "give a number above 0")
        if not row["source"].strip():
            raise InputError(f"{where}: source", row["source"], "say where the price comes from")
        prices[name] = price
    return prices


def rows(
    prices: str | None = None,
    model: str = "llava-1.5-7b",
    gpus: Sequence[str] | None = None,
    ttft_s: float = TTFT_S,
    tpot_s: float = TPOT_S,
) -> list[Row]:
    """A row for each GPU and method; None where no batch meets the limits."""
    user_prices = {} if prices is None else read_prices(prices)
    study_rows = []
    for name in gpu_names() if gpus is None else gpus:
        price = user_prices.get(gpu_of(name).name, gpu_of(name).price_usd_per_hour)
        for method, settings in METHODS:
            # fp16, because the oldest GPUs of the catalogue have no bf16.
            scenario = Scenario(model=model, gpu=name, dtype="fp16", method=method, **settings)
            best = largest(scenario, ttft_s, tpot_s)
            rate = None if best is None else best.workload.batch_size / (best.latency.e2e_s.p50 or math.inf)
            study_rows.append(
                {
                    "model": model,
                    "gpu": name,
                    "method": method,
                    "keep": settings.get("keep", 1.0),
                    "ttft_limit_s": ttft_s,
                    "tpot_limit_s": tpot_s,
                    "batch_size": best and best.workload.batch_size,
                    "ttft_s": best and best.latency.ttft_s.p50,
                    "tpot_s": best and best.latency.tpot_s.p50,
                    "source": best and best.latency.e2e_s.source,
                    "requests_per_s": rate,
                    "usd_per_hour": price,
                    "requests_per_usd": rate * 3600 / price if rate and price else None,
                }
            )
    return study_rows


def largest(scenario: Scenario, ttft_s: float, tpot_s: float) -> Estimate | None:
    """The scenario at the largest batch within the limits; None if a single request exceeds them."""

    def within(batch: int) -> Estimate | None:
        result = estimate(dataclasses.replace(scenario, batch_size=batch))
        ttft, tpot = result.latency.ttft_s.p50 or 0.0, result.latency.tpot_s.p50 or 0.0
        return result if ttft <= ttft_s and tpot <= tpot_s and result.memory.fits else None

    best = within(1)
    if best is None:
        return None
    low, high = 1, max(2, best.memory.max_batch_size + 1)
    while high - low > 1:
        middle = (low + high) // 2
        candidate = within(middle)
        if candidate is None:
            high = middle
        else:
            low, best = middle, candidate
    return best


def findings(rows: list[Row]) -> list[str]:
    """The best GPU in each respect, and the changes by pruning."""
    said = []
    for quantity, unit in (("requests_per_s", "requests a second"), ("requests_per_usd", "requests a dollar")):
        for method, _ in METHODS:
            method_rows = [row for row in rows if row["method"] == method and row[quantity] is not None]
            if method_rows:
                best = max(method_rows, key=lambda row: row[quantity])
                said.append(f"most {unit}, {method}: {best['gpu']}, {best[quantity]:.4g} (batch {best['batch_size']})")
    rates = {(row["gpu"], row["method"]): row["requests_per_s"] for row in rows}
    gains = {
        (gpu, method): rate / rates[gpu, "none"] - 1
        for (gpu, method), rate in rates.items()
        if method != "none" and rate and rates[gpu, "none"]
    }
    for method, _ in METHODS[1:]:
        gpu_gains = {gpu: gain for (gpu, name), gain in gains.items() if name == method}
        if gpu_gains:
            low, high = min(gpu_gains, key=gpu_gains.__getitem__), max(gpu_gains, key=gpu_gains.__getitem__)
            said.append(
                f"{method}: requests a second rise by {percent(gpu_gains[low])} ({low}) to {percent(gpu_gains[high])} "
                f"({high})"
            )
    none = sorted({row["gpu"] for row in rows if row["batch_size"] is None and row["method"] == "none"})
    if none:
        said.append(f"within the limits at no batch size unpruned: {', '.join(none)}")
    if all(row["usd_per_hour"] is None for row in rows):
        said.append("no prices given, so none of money: --prices takes a CSV with the columns gpu,usd_per_hour,source")
    return said


def draw(rows: list[Row]) -> Figure:
    """A line a GPU, best first: requests a second, and a dollar where prices are given."""
    quantities = [("requests_per_s", "requests a second")]
    if any(row["requests_per_usd"] is not None for row in rows):
        quantities.append(("requests_per_usd", "requests a dollar"))
    best: dict[str, float] = {}
    for row in rows:
        best[row["gpu"]] = max(best.get(row["gpu"], 0.0), row["requests_per_s"] or 0.0)
    gpus = sorted(best, key=best.__getitem__, reverse=True)
    figure, axes = panels(1, len(quantities), 5.4 * len(quantities), 1.6 + 0.24 * len(gpus), sharey=True)
    for panel, (quantity, label) in zip(axes[0], quantities, strict=True):
        for (method, settings), color, marker in zip(METHODS, COLORS, "os^", strict=False):
            points = [
                (row[quantity], gpus.index(row["gpu"])) for row in rows if row["method"] == method and row[quantity]
            ]
            name = "unpruned" if method == "none" else f"{method}, {100 * settings['keep']:.3g} % kept"
            panel.plot(
                [x for x, _ in points], [y for _, y in points], marker, color=color, markersize=5, linestyle="none",
                label=name,
            )  # fmt: skip
        panel.set_xscale("log")
        panel.set_yticks(range(len(gpus)), gpus)
        panel.set_ylim(len(gpus) - 0.5, -0.5)
        plain(panel, x=label)
    legend(figure, list(axes[0]), 3)
    first = rows[0]
    figure.suptitle(
        f"{first['model']}: TTFT up to {first['ttft_limit_s']:g} s, TPOT up to {1000 * first['tpot_limit_s']:g} ms",
        fontsize=10,
    )
    return figure


def options(parser: argparse.ArgumentParser) -> None:
    """Options: prices and latency limits."""
    parser.add_argument("--prices", metavar="CSV", help="gpu,usd_per_hour,source; none ship")
    parser.add_argument("--ttft-s", type=float, default=TTFT_S, help="limit on the time to first token")
    parser.add_argument("--tpot-s", type=float, default=TPOT_S, help="limit on the time per output token")


if __name__ == "__main__":
    sys.exit(run(__file__, rows, draw, findings, options=options))
