"""The programs that check the simulator against reference code and kernels, run in processes of their own.

The simulator imports neither torch nor triton, and kernels that are interpreted and kernels that are compiled cannot
share a process, so each check is a program whose JSON is read here.
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
# Decoding splits its keys, and a kernel of its own joins them.
BUILT_KERNELS = (*KERNELS, "merge_states")
FIGURES = ("flops", "load_bytes", "store_bytes")


def _program(module: str, *arguments: str) -> Any:
    """The JSON that a program prints; it may exit with 1 to say that something it lists is wrong.

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
    # A program sets for itself whether kernels are interpreted.
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    said = (done.stderr.strip().splitlines() or ["no message"])[-1]
    try:
        if done.returncode not in (0, 1):
            raise ValueError
        return json.loads(done.stdout)
    except ValueError:
        raise AsymsimError(f"{module} failed with exit code {done.returncode}: {said}") from None


def kernels(chosen: Sequence[str] = ()) -> list[Row]:
    """Predicted beside counted costs of the kernels, with the simulator's own count of the same operator.

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
    _known("kernels", chosen, KERNELS)
    rows = []
    for each in _program("asymsim_kernels.tools.proof", "--json", *_repeated("--kernel", chosen)):
        # Bytes are not compared, so what lies between the operators of an unfused run does not matter.
        operators = kernel_rows(each["kernel"], Shape(each["shape"]), number_format(each["dtype"]), fused=False)
        algorithmic = int(operators["flops"].sum())
        row: Row = {name: each[name] for name in ("kernel", "shape", "dtype")} | {"algorithmic_flops": algorithmic}
        for name in FIGURES:
            row |= {f"predicted_{name}": each["predicted"][name], f"counted_{name}": each["counted"][name]}
        row["instruction_flops"] = each["instruction_flops"]
        row["equal"] = each["predicted"] == each["counted"]
        row["ordered"] = algorithmic <= row["counted_flops"] <= row["instruction_flops"]
        rows.append(row)
    return rows


def resources(
    targets: Sequence[str] = (), chosen: Sequence[str] = (), match: Sequence[str] = (), progress: Progress = None
) -> list[Row]:
    """What the shipped kernels need of a GPU, compiled for it.

    Parameters
    ----------
    targets, chosen, match : sequence of str
        Architectures, kernels, and words that a build's label must hold, such as ``bf16`` and ``d128``; all of each
        by default.
    progress : callable, optional
        Told how many targets are done, and of how many.

    Returns
    -------
    list of dict
        Registers, stack, spills, shared memory and its limit, FLOPs of the matrix instructions and of the tiles, and
        ``faults``, the reasons why a build must not ship.

    Raises
    ------
    InputError
        If there is no such target or kernel, or no build whose label matches.
    """
    _known("target", targets, TARGETS)
    _known("kernels", chosen, BUILT_KERNELS)
    rows: list[Row] = []
    wanted = targets or TARGETS
    arguments = [*_repeated("--kernel", chosen), *_repeated("--match", match)]
    for done, target in enumerate(wanted):
        if progress is not None:
            progress(done, len(wanted))
        rows += _program("asymsim_kernels.tools.resources", "--format", "json", "--target", target, *arguments)
    if not rows:
        raise InputError("match", ",".join(match), "no build's label holds these words; such as bf16,d128")
    return rows


def outputs() -> list[Row]:
    """Pruned against dense attention, by the float64 reference.

    Returns
    -------
    list of dict
        For each case the largest measured ``error`` of a row's output, the ``bound`` m max ||v_i - v_j|| beside it,
        and ``within``: whether no row passes its own.
    """
    return list(_program("asymsim_reference.outputs", "--json"))


def _known(field: str, given: Sequence[str], known: Sequence[str]) -> None:
    for name in given:
        if name not in known:
            raise UnknownNameError(field, name, known)


def _repeated(flag: str, values: Sequence[str]) -> list[str]:
    return [part for value in values for part in (flag, value)]
