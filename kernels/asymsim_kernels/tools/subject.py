"""What is measured: one operator at one shape, in each way to compute it, and how far off the kernel may be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from asymsim_kernels.tiles import Blocks
from asymsim_kernels.tools.shapes import Value

Tensors = tuple[torch.Tensor, ...]
Call = Callable[[], object]
TORCH_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One operator at one shape, with its inputs on the device.

    Attributes
    ----------
    kernel : callable or None
        Runs the Triton kernel with the block sizes given, or the shipped ones; None for a ceiling.
    judge : callable
        Error of the kernel's outputs as a share of what is allowed: at most 1 is right.
    others : dict of str to callable
        Other ways to compute the same: "sdpa", "materialised"; "copy" and "matmul" for the ceilings.
    flops, moved_bytes : int
        Algorithmic FLOPs; bytes that must move, each input read and each output written once, or once a pass where
        the algorithm takes several.
    """

    kernel: Callable[[Blocks | None], Tensors] | None = None
    judge: Callable[[Tensors], float] = field(default=lambda outputs: 0.0)
    others: Mapping[str, Call] = field(default_factory=dict)
    flops: int = 0
    moved_bytes: int = 0


def error_share(output: torch.Tensor, exact: torch.Tensor, plain: torch.Tensor) -> float:
    """Largest error of `output` as a share of what is allowed.

    Allowed is twice the largest error of `plain`, the same computed operator by operator in the same precision, plus
    one unit in the last place of the largest value. Infinite where the output is NaN, or infinite, and `exact` is not.

    Parameters
    ----------
    output, exact, plain : Tensor
        Of one shape; `exact` in float64.
    """
    same = output.double() == exact
    finite = torch.isfinite(exact)
    wrong = ~same & ~(torch.isfinite(output) & finite)
    if bool(wrong.any()):
        return float("inf")
    exact = exact[finite]
    if exact.numel() == 0:
        return 0.0
    largest = float(exact.abs().max())
    allowed = 2 * float((plain[finite].double() - exact).abs().max()) + torch.finfo(output.dtype).eps * largest
    error = float((output[finite].double() - exact).abs().max())
    return error / allowed if allowed > 0 else (0.0 if error == 0 else float("inf"))


def exact_share(right: bool) -> float:
    """The error share of a result that must be exact."""
    return 0.0 if right else float("inf")


def integers_of(values: Mapping[str, Value], *names: str) -> list[int]:
    """Single numbers of a shape."""
    found = [values[name] for name in names]
    return [int(value) for value in found if not isinstance(value, Sequence)]


def lengths_of(values: Mapping[str, Value], name: str) -> list[int]:
    """A list of lengths of a shape."""
    value = values[name]
    return [int(length) for length in value] if isinstance(value, Sequence) else [int(value)]


class Draw:
    """Reproducible random tensors on a device.

    Parameters
    ----------
    device : torch.device
    dtype : str
        Name of the type of floating tensors.
    """

    def __init__(self, device: torch.device, dtype: str) -> None:
        self.device = device
        self.dtype = TORCH_DTYPES[dtype]
        self.generator = torch.Generator(device=device).manual_seed(0)

    def normal(self, *shape: int, dtype: torch.dtype | None = None) -> torch.Tensor:
        """Standard normal numbers."""
        return torch.randn(*shape, generator=self.generator, device=self.device).to(dtype or self.dtype)

    def sample(self, count: int, of: int) -> torch.Tensor:
        """`count` different numbers below `of`, rising, int32."""
        order = torch.randperm(of, generator=self.generator, device=self.device)
        return order[:count].sort().values.int()

    def below(self, bound: int, count: int) -> torch.Tensor:
        """`count` numbers below `bound`, int32."""
        return torch.randint(bound, (count,), generator=self.generator, device=self.device, dtype=torch.int32)

    def integers(self, values: object) -> torch.Tensor:
        """Given numbers, int32."""
        return torch.tensor(values, dtype=torch.int32, device=self.device)
