"""What the tests of the selection kernels share: odd strides, tolerance, compilation."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from asymsim_kernels.tiles import ARCHITECTURES, Blocks
from asymsim_kernels.top_k import Kept, top_k
from oracles.kernel_cases import cumulative

DTYPES = {"fp32": torch.float32, "fp16": torch.float16}
"""What the interpreter computes rightly; it does not bf16."""

SMALL_ROWS = Blocks(1, 16)
"""Tiles of `top_k` that rows of tens of tokens span several of."""

LAYOUTS = ("contiguous", "transposed", "sliced", "offset")


def laid_out(values: Tensor, layout: str) -> Tensor:
    """The same values of a matrix with other strides, NaN (or the least integer) in the gaps."""
    gap = float("nan") if values.is_floating_point() else 0 if values.dtype == torch.bool else -(2**31)
    rows, columns = values.shape
    if layout == "transposed":
        return values.T.contiguous().T
    if layout == "sliced":
        wide = torch.full((2 * rows + 1, 3 * columns + 2), gap, dtype=values.dtype)
        view = wide[1::2, 2::3][:rows, :columns]
    elif layout == "offset":
        wide = torch.full((rows + 2, columns + 5), gap, dtype=values.dtype)
        view = wide[1 : rows + 1, 3 : columns + 3]
    else:
        return values.contiguous()
    view.copy_(values)
    return view


def far_apart(values: Tensor, axis: int) -> Tensor:
    """The same values at a stride of 2^30 elements along one axis of up to 3, past 2^31 in virtual memory alone."""
    extent = values.shape[axis]
    assert extent <= 3
    shape = [size for at, size in enumerate(values.shape) if at != axis]
    strides = list(torch.empty(shape).stride())
    strides.insert(axis, 2**30)
    needed = 2**30 * (extent - 1) + values.numel()
    view = torch.empty(needed, dtype=values.dtype).as_strided(values.shape, strides)
    view.copy_(values)
    return view


def assert_close(result: Tensor, reference: Tensor, plain: Tensor, *, unit: float | None = None) -> None:
    """At most twice the error of the same-precision plain computation, plus one unit in the last place of `unit`.

    `unit` is the magnitude that was rounded: that of the largest result, unless larger terms cancel on the way to it.
    """
    assert result.shape == reference.shape
    if not reference.numel():
        return
    assert bool(plain.isfinite().all()), "the plain computation overflows: the case says nothing"
    allowed = 2 * (plain.double() - reference).abs().max()
    allowed += torch.finfo(plain.dtype).eps * (reference.abs().max() if unit is None else unit)
    error = (result.double() - reference).abs().max()
    assert bool(error <= allowed), f"error {error:.3g}, {allowed:.3g} allowed"


def kept_rows(result: Kept) -> dict[tuple[int, int], list[int]]:
    """The kept indices of every (sequence, row), without the filling, which is checked."""
    kept = {}
    for b, counts in enumerate(result.counts.tolist()):
        for g, n in enumerate(counts):
            assert bool((result.indices[b, g, n:] == -1).all())
            kept[b, g] = result.indices[b, g, :n].tolist()
    return kept


def chosen(scores: Any, k: Any, protected: list[bool] | None = None, **options: Any) -> list[int]:
    """Kept indices of one row."""
    row = torch.as_tensor(scores, dtype=torch.float32)
    flags = None if protected is None else torch.tensor(protected)
    result = top_k(row, cumulative([len(row)]), k, flags, **{"blocks": SMALL_ROWS, **options})
    return kept_rows(result)[0, 0]


def compiled(kernel: str, *words: str) -> list[dict[str, Any]]:
    """Resource rows, on every target, of a kernel's builds whose label holds the words; from a process of its own."""
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": str(root / "kernels")}
    environment.pop("TRITON_INTERPRET", None)
    command = [sys.executable, "-m", "asymsim_kernels.tools.resources", "--kernel", kernel, "--format", "json"]
    command += [argument for word in words for argument in ("--match", word)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    rows: list[dict[str, Any]] = json.loads(run.stdout)
    assert {row["target"] for row in rows} == set(ARCHITECTURES)
    return rows
