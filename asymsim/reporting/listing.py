"""Listings of the catalogue and of the registry of methods, one row an entry."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from asymsim.reporting.tables import DASH, Rows, plain, table
from asymsim.util.units import GIGA, TERA, human_bytes

if TYPE_CHECKING:
    from rich.table import Table


def model_rows() -> list[dict[str, Any]]:
    """Models, with the visual tokens of their typical image."""
    from asymsim.catalogue.load import load_model, model_names

    rows = []
    for name in model_names():
        entry = load_model(name)
        rule = entry.image_rule
        height, width = rule.default_size() if rule else (None, None)
        rows.append(
            {
                "model": name,
                "model_type": entry.model_type,
                "parameters": entry.parameters["total"],
                "lm_layers": len(entry.language_model.layer_pattern),
                "tower_layers": len(entry.vision_tower.layer_pattern) if entry.vision_tower else None,
                "image_height": height,
                "image_width": width,
                "image_tokens": rule.tokens(height, width).visual_tokens if rule and height and width else None,
            }
        )
    return rows


def gpu_rows() -> list[dict[str, Any]]:
    """GPUs, with their dense peaks and the source of their times."""
    from asymsim.catalogue.fitted_parameters import donors
    from asymsim.catalogue.gpu import gpu_names, load_gpu

    rows = []
    for name in gpu_names():
        entry = load_gpu(name)
        times = "fitted" if entry.efficiency else "transferred" if donors(entry.architecture) else "roofline"
        rows.append(
            {
                "gpu": name,
                "fp16_flops_per_s": entry.peak_flops_per_s.get("fp16"),
                "bf16_flops_per_s": entry.peak_flops_per_s.get("bf16"),
                "fp8_flops_per_s": entry.peak_flops_per_s.get("fp8"),
                "bandwidth_bytes_per_s": entry.bandwidth_bytes_per_s,
                "capacity_bytes": entry.capacity_bytes,
                "times": times,
                "aliases": list(entry.aliases),
            }
        )
    return rows


def method_rows() -> list[dict[str, Any]]:
    """Pruning methods, with their defaults."""
    from asymsim.methods.base import registered_methods

    rows = []
    for name, kind in registered_methods().items():
        defaults = {field.name: field.default for field in dataclasses.fields(kind)}
        keep = defaults.pop("keep")
        rows.append(
            {
                "method": name,
                "family": kind.family,
                "keep": keep,
                "settings": [f"{field}={default}" for field, default in defaults.items()],
                "source": kind.source,
            }
        )
    return rows


def convention_rows() -> list[dict[str, Any]]:
    """Ways to count FLOPs."""
    from asymsim.estimator.flop_conventions import CONVENTIONS

    return [{"convention": name, "source": convention.source} for name, convention in CONVENTIONS.items()]


def accuracy_rows(user_table: str | None = None) -> list[dict[str, Any]]:
    """Printed accuracy of pruned models, then the measurements of a user's CSV."""
    from asymsim.catalogue.accuracy import published_accuracy, read_accuracy

    entries = published_accuracy() + (read_accuracy(user_table) if user_table is not None else [])
    return [dataclasses.asdict(entry) | {"share_kept": entry.share_kept} for entry in entries]


def accuracy_table(rows: Rows) -> Table:
    """Accuracy with budgets and shares in per cent."""
    columns = [("method", "left"), ("model", "left"), ("benchmark", "left"), ("budget %", "right"), ("of", "left")]
    columns += [("accuracy", "right"), ("unpruned", "right"), ("kept %", "right"), ("source", "left")]
    lines = [
        [
            f"{row['method']} ({row['variant']})" if row["variant"] else row["method"],
            row["model"],
            row["benchmark"],
            f"{100 * row['budget']:.3g}",
            row["meaning"],
            f"{row['accuracy']:g}",
            plain(row["dense"]),
            DASH if row["share_kept"] is None else f"{100 * row['share_kept']:.1f}",
            row["source"],
        ]
        for row in rows
    ]
    return table(columns, lines)


def gpu_table(rows: Rows) -> Table:
    """GPUs in TFLOP/s, GB/s and GiB."""
    columns = [("gpu", "left"), ("fp16", "right"), ("bf16", "right"), ("fp8 TFLOP/s", "right"), ("GB/s", "right")]
    columns += [("memory", "right"), ("times", "left"), ("aliases", "left")]
    lines = [
        [
            row["gpu"],
            _in_units(row["fp16_flops_per_s"], TERA),
            _in_units(row["bf16_flops_per_s"], TERA),
            _in_units(row["fp8_flops_per_s"], TERA),
            _in_units(row["bandwidth_bytes_per_s"], GIGA),
            human_bytes(row["capacity_bytes"]),
            row["times"],
            ", ".join(row["aliases"]),
        ]
        for row in rows
    ]
    return table(columns, lines)


def _in_units(value: float | None, unit: int) -> str:
    return DASH if value is None else f"{value / unit:,.5g}"


def model_table(rows: Rows) -> Table:
    """Models with sizes in billions of parameters."""
    columns = [("model", "left"), ("type", "left"), ("parameters", "right"), ("LM layers", "right")]
    columns += [("encoder layers", "right"), ("typical image", "right"), ("its tokens", "right")]
    lines = [
        [
            row["model"],
            row["model_type"],
            f"{row['parameters'] / GIGA:.2f} B",
            plain(row["lm_layers"]),
            plain(row["tower_layers"]),
            f"{row['image_height']} x {row['image_width']}" if row["image_height"] else DASH,
            plain(row["image_tokens"]),
        ]
        for row in rows
    ]
    return table(columns, lines)
