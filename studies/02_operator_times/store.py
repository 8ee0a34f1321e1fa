"""Fitted numbers on disk: one TOML a GPU, a section ``efficiency.<class>`` each."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import numpy as np

PARAMETERS = Path(__file__).parent / "parameters"
HEADER = """\
# Operator times of {gpu}: numbers fitted by studies/02_operator_times (see its README.md).
# Fitted on tables of aiconfigurator-core 0.12.0, Copyright NVIDIA Corporation & affiliates, Apache-2.0,
# https://github.com/ai-dynamo/aiconfigurator; the tables themselves are not copied here. `source` names each.
# Meaning and units of a number stand in the named tuple of its class (gemm.GemmEfficiency and so on).
# ratio_p05, ratio_p95: measured / predicted on the training sites, by band of predicted seconds.
# fitted_head_sizes: launch_s, tile_efficiency and sm_bytes_per_s of a class of head sizes without one are not fitted.
# held_out_*: sites that the fit never saw, seed 4, a quarter of all; shares, 0.05 is 5 %.
# Made again by: {command}
"""
COMMAND = "python studies/02_operator_times/fit.py fit --gpu {gpu}"
OTHERS = "studies/02_operator_times/fit_small.py"


def stored(gpu: str, kind: str, folder: Path = PARAMETERS) -> dict[str, Any] | None:
    """The section of a class, or None where it has not been fitted."""
    return read(gpu, folder).get(kind)


def read(gpu: str, folder: Path = PARAMETERS) -> dict[str, Any]:
    """All sections of a GPU."""
    path = folder / f"{gpu}.toml"
    return tomllib.loads(path.read_text())["efficiency"] if path.exists() else {}


def save(gpu: str, kind: str, record: dict[str, Any], folder: Path = PARAMETERS) -> None:
    """Put a section in its GPU's file, in place of the one that was there."""
    folder.mkdir(parents=True, exist_ok=True)
    sections = {**read(gpu, folder), kind: record}
    command = COMMAND.format(gpu=gpu) + f"; [memory] and [all_reduce] by {OTHERS}"
    lines = [HEADER.format(gpu=gpu, command=command)]
    for name, section in sections.items():
        lines.append(f"[efficiency.{name}]")
        lines += [f"{key} = {_text(value)}" for key, value in section.items()]
        lines.append("")
    (folder / f"{gpu}.toml").write_text("\n".join(lines).rstrip() + "\n")


def _text(value: Any) -> str:
    """A TOML value; floats to nine digits, since a split or a band may begin at a number exactly."""
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_text(item)}" for key, item in value.items()) + " }"
    if np.ndim(value):
        return "[" + ", ".join(_text(item) for item in value) + "]"
    return str(value) if isinstance(value, int) else f"{value:.9g}"
