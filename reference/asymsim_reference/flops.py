"""FLOPs by phase, as ``torch.utils.flop_counter.FlopCounterMode`` counts them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from torch.utils.flop_counter import FlopCounterMode


class Meter:
    """Charges every counted matrix product to the phase in which it runs.

    Use it as a context manager; outside of one it counts nothing. The counter sees ``mm``, ``bmm``,
    ``addmm`` and convolutions, not a product of a matrix and a vector, so all code here keeps both
    operands of a product two-dimensional or more.

    Attributes
    ----------
    flops : dict
        FLOPs by phase, 2 a multiply-accumulate; "" holds products outside all phases.
    """

    def __init__(self) -> None:
        self.flops: dict[str, int] = defaultdict(int)
        self._counter: FlopCounterMode | None = None
        self._phase = ""
        self._charged = 0

    def __enter__(self) -> Meter:
        self._counter = FlopCounterMode(display=False)
        self._counter.__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._charge()
        assert self._counter is not None
        self._counter.__exit__(kind, error, trace)  # type: ignore[no-untyped-call]
        self._counter = None

    def _charge(self) -> None:
        if self._counter is not None:
            total = int(self._counter.get_total_flops())
            self.flops[self._phase] += total - self._charged
            self._charged = total

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Charge the products inside to ``name``, and none of them to the phase around."""
        self._charge()
        outer, self._phase = self._phase, name
        try:
            yield
        finally:
            self._charge()
            self._phase = outer
