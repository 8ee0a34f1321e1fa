"""Predicted against counted: the closed-form cost of every kernel beside what Triton's interpreter executes.

    python -m asymsim_kernels.tools.proof [--kernel prefill] [--json]

FLOPs, loaded and stored bytes must agree to the integer; the exit code is 1 if any differs. Needs no GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from math import prod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asymsim_kernels.tools.proof_cases import Case

KERNELS = ("prefill", "decode", "column_mass", "scorer", "similarity", "top_k", "merge_tokens", "compact")
"""The operators proved; decode includes the merge of its splits."""

FIGURES = ("flops", "load_bytes", "store_bytes")


@dataclass(frozen=True, kw_only=True)
class Result:
    """One case predicted and counted.

    Attributes
    ----------
    kernel, shape, dtype : str
        The case; shape as `shapes` writes it.
    predicted, counted : dict of str to int
        FLOPs on whole tiles, bytes loaded and stored.
    instruction_flops : int
        FLOPs of the matrix instructions that the counted products take: extents rounded up to m16n8k16 in 16-bit types,
        and as they are in fp32, which multiplies on ordinary units.
    """

    kernel: str
    shape: str
    dtype: str
    predicted: dict[str, int]
    counted: dict[str, int]
    instruction_flops: int

    @property
    def equal(self) -> bool:
        """Whether all three figures agree to the integer."""
        return self.predicted == self.counted


def prove(chosen: Iterable[Case]) -> Iterator[Result]:
    """Count each case; RuntimeError if kernels of this process are compiled."""
    from asymsim_kernels.tools.count import counting

    for case in chosen:
        # The counter outside: at its first use it runs a product of its own to test itself.
        with counting() as counts, _instructions() as instructions:
            case.launch()
        yield Result(
            kernel=case.kernel,
            shape=case.shape,
            dtype=case.dtype,
            predicted=dict(zip(FIGURES, case.predicted, strict=True)),
            counted=dict(zip(FIGURES, counts.cost, strict=True)),
            instruction_flops=sum(instructions),
        )


@contextmanager
def _instructions() -> Iterator[list[int]]:
    """FLOPs of each product, its extents rounded up to those of the matrix instruction."""
    from asymsim_kernels.tools.hooks import require_interpreter, wrapped

    found: list[int] = []

    def dot(original: Callable[..., Any], a: Any, b: Any, *rest: Any) -> Any:
        extents = (a.data.shape[-2], b.data.shape[-1], a.data.shape[-1])
        steps = (16, 8, 16) if a.data.itemsize == 2 else (1, 1, 1)
        found.append(2 * prod(-(-extent // step) * step for extent, step in zip(extents, steps, strict=True)))
        return original(a, b, *rest)

    with wrapped(require_interpreter().interpreter_builder, create_dot=dot):
        yield found


def main(arguments: list[str] | None = None) -> int:
    """Print a row a case; 1 if any differs."""
    parser = argparse.ArgumentParser(prog="asymsim_kernels.tools.proof", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--kernel", action="append", choices=KERNELS, help="may be repeated; all by default")
    parser.add_argument("--json", action="store_true", help="a list of records instead of a table")
    chosen = parser.parse_args(arguments)
    # Read once, when triton is first imported.
    os.environ["TRITON_INTERPRET"] = "1"
    from asymsim_kernels.tools.proof_cases import cases

    results = []
    if not chosen.json:
        print(_HEADER)
    for result in prove(case for case in cases() if case.kernel in (chosen.kernel or KERNELS)):
        results.append(result)
        if not chosen.json:
            print(_line(result), flush=True)
    if chosen.json:
        json.dump([asdict(result) | {"equal": result.equal} for result in results], sys.stdout, indent=1)
        print()
    else:
        print(f"{sum(result.equal for result in results)} of {len(results)} cases equal to the integer")
    return 0 if all(result.equal for result in results) else 1


_HEADER = f"{'kernel':13}{'dtype':6}{'FLOPs':>10}{'loaded':>10}{'stored':>9}  {'':8}shape"


def _line(result: Result) -> str:
    flops, loaded, stored = (result.counted[name] for name in FIGURES)
    verdict = "equal" if result.equal else "DIFFERS"
    line = f"{result.kernel:13}{result.dtype:6}{flops:10,}{loaded:10,}{stored:9,}  {verdict:8}{result.shape}"
    if result.equal:
        return line
    wrong = ", ".join(f"{name} {result.predicted[name]:,} predicted" for name in FIGURES)
    return f"{line}\n{'':13}{wrong}"


if __name__ == "__main__":
    sys.exit(main())
