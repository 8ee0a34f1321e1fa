"""Programs that check the simulator against reference code and kernels, each run in its own process.

The simulator imports neither torch nor triton, and kernels that are interpreted and kernels that are compiled cannot
share a process, so a check is a program whose JSON output is read.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

from asymsim.calibration.kernel_operators import kernel_rows
from asymsim.calibration.launch_shape import Shape
from asymsim.catalogue.number_format import number_format
from asymsim.util.errors import AsymsimError, InputError, MissingExtraError, UnknownNameError

Row = dict[str, Any]
Progress = Callable[[int, int], None] | None

TARGETS = ("sm_80", "sm_90", "sm_100", "gfx942")
KERNELS = ("prefill", "decode", "column_mass", "scorer", "similarity", "top_k", "merge_tokens", "compact")
# Decoding splits the keys, and a separate kernel joins the parts.
BUILT_KERNELS = (*KERNELS, "merge_states")
FIGURES = ("flops", "load_bytes", "store_bytes")


def _program(module: str, *arguments: str) -> Any:
    """The JSON that a program prints; exit code 1 means that a case fails.

    Raises
    ------
    MissingExtraError
        If torch or triton is not installed.
    AsymsimError
        If the program fails.
    """
    missing = [name for name in ("torch", "triton", module.partition(".")[0]) if find_spec(name) is None]
    if missing:
        raise MissingExtraError(f"{module} needs {' and '.join(missing)}: pip install 'asymsim[kernels]'")
    # Each program sets whether kernels are interpreted.
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", module, *arguments]
    process = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    last_message = (process.stderr.strip().splitlines() or ["no message"])[-1]
    try:
        if process.returncode not in (0, 1):
            raise ValueError
        return json.loads(process.stdout)
    except ValueError:
        raise AsymsimError(f"{module} failed with exit code {process.returncode}: {last_message}") from None


def kernels(chosen: Sequence[str] = ()) -> list[Row]:
    """Predicted and counted costs of the kernels, with the simulator's count of the same operator.

    Parameters
    ----------
    chosen : sequence of str
        Kernels; all by default.

    Returns
    -------
    list of dict
        For each case its shape, ``algorithmic_flops`` (the simulator's), predicted and counted figures, and
        ``instruction_flops``. ``equal``: predicted = counted to the integer; ``ordered``: algorithmic <= tile <=
        instructions.

    Raises
    ------
    UnknownNameError
        If there is no such kernel.
    """
    _check_names("kernels", chosen, KERNELS)
    rows = []
    for case in _program("asymsim_kernels.tools.proof", "--json", *_repeated("--kernel", chosen)):
        # Only FLOPs are taken from the simulator, so the bytes between unfused operators do not matter.
        operators = kernel_rows(case["kernel"], Shape(case["shape"]), number_format(case["dtype"]), fused=False)
        algorithmic = int(operators["flops"].sum())
        row: Row = {name: case[name] for name in ("kernel", "shape", "dtype")} | {"algorithmic_flops": algorithmic}
        for name in FIGURES:
            row |= {f"predicted_{name}": case["predicted"][name], f"counted_{name}": case["counted"][name]}
        row["instruction_flops"] = case["instruction_flops"]
        row["equal"] = case["predicted"] == case["counted"]
        row["ordered"] = algorithmic <= row["counted_flops"] <= row["instruction_flops"]
        rows.append(row)
    return rows


def resources(
    targets: Sequence[str] = (), chosen: Sequence[str] = (), match: Sequence[str] = (), progress: Progress = None
) -> list[Row]:
    """Registers, stack and shared memory of the shipped kernels, compiled for each target.

    Parameters
    ----------
    targets, chosen, match : sequence of str
        Architectures, kernels, and words in a build's label, such as ``bf16`` and ``d128``; all of each by default.
    progress : callable, optional
        Called with the number of finished targets and the number of all.

    Returns
    -------
    list of dict
        Registers, stack, spills, shared memory and its limit, FLOPs of the matrix instructions and of the tiles, and
        ``faults``, the reasons not to ship a build.

    Raises
    ------
    InputError
        If there is no such target or kernel, or no build whose label matches.
    """
    _check_names("target", targets, TARGETS)
    _check_names("kernels", chosen, BUILT_KERNELS)
    rows: list[Row] = []
    chosen_targets = targets or TARGETS
    arguments = [*_repeated("--kernel", chosen), *_repeated("--match", match)]
    for finished, target in enumerate(chosen_targets):
        if progress is not None:
            progress(finished, len(chosen_targets))
        rows += _program("asymsim_kernels.tools.resources", "--format", "json", "--target", target, *arguments)
    if not rows:
        raise InputError("match", ",".join(match), "no build's label holds these words; such as bf16,d128")
    return rows


def outputs() -> list[Row]:
    """Errors of pruned against dense attention, by the float64 reference.

    Returns
    -------
    list of dict
        For each case the largest measured ``error`` of a row's output, the ``bound`` m max ||v_i - v_j|| beside it,
        and ``within``: whether every row is within its bound.
    """
    return list(_program("asymsim_reference.outputs", "--json"))


def _check_names(field: str, names: Sequence[str], choices: Sequence[str]) -> None:
    for name in names:
        if name not in choices:
            raise UnknownNameError(field, name, choices)


def _repeated(flag: str, values: Sequence[str]) -> list[str]:
    return [part for value in values for part in (flag, value)]
