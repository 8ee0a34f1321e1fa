"""What a sweep can put out: the figures of a block, totals, throughput, and savings against the unpruned twin."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from asymsim.core.arrays import Array
from asymsim.core.estimate import COUNT_COLUMNS
from asymsim.core.token_counts import TokenCounts
from asymsim.estimator.resolve import ResolvedScenario
from asymsim.sweep import block
from asymsim.sweep.block import Evaluator

# Saved share of each, as in the section savings of an estimate.
SAVED = {
    "flops_saved": "total_flops",
    "prefill_flops_saved": "prefill_flops",
    "kv_saved": "kv_peak_bytes",
    "peak_saved": "peak_bytes",
    "ttft_saved": "ttft_s",
    "tpot_saved": "tpot_s",
    "e2e_saved": "e2e_s",
}
_SUMMED = ("vision_tower_flops", "projector_flops", "selection_flops", "prefill_flops", "decode_flops")
THROUGHPUT = ("requests_per_s", "output_tokens_per_s")
FIGURES = (*block.FIGURES, "total_flops", "fits", *THROUGHPUT, *SAVED)
WHOLE = (*COUNT_COLUMNS, "peak_bytes", "max_batch_size", "total_flops")


class Figures:
    """Some figures of a setting's rows, equal to those of single estimates."""

    def __init__(self, bound: ResolvedScenario, names: Sequence[str], rows: int) -> None:
        self._names = tuple(names)
        self._own = Evaluator(bound, rows)
        twin = any(name in SAVED for name in names)
        self._twin = Evaluator(bound, rows, dense=True) if twin else None

    def of(self, loads: Array) -> dict[str, Array]:
        """The figures by name, each of shape (rows,); good until the next call."""
        own = self._whole(self._own.figures(loads))
        twin = self._whole(self._twin.figures(loads)) if self._twin is not None else {}
        result: dict[str, Array] = {}
        for name in self._names:
            if name in SAVED:
                result[name] = _saved(own[SAVED[name]], twin[SAVED[name]])
            elif name in THROUGHPUT:
                batch = loads[:, TokenCounts._fields.index("batch_size")]
                tokens = loads[:, TokenCounts._fields.index("output_tokens")] if name == "output_tokens_per_s" else 1
                result[name] = batch * tokens / own["e2e_s"]
            else:
                result[name] = own[name]
        return result

    def _whole(self, figures: dict[str, Array]) -> dict[str, Array]:
        """Counts as whole numbers, also where they are expectations, as single estimates give them."""
        if len(self._own.schedules) > 1:
            figures.update({name: np.rint(figures[name]) for name in COUNT_COLUMNS})
        if "total_flops" in self._names or "flops_saved" in self._names:
            figures["total_flops"] = sum((figures[name] for name in _SUMMED[1:]), figures[_SUMMED[0]])
        if "fits" in self._names:
            figures["fits"] = figures["worst_bytes"] <= self._own.free_bytes
        return figures


def _saved(pruned: Array, dense: Array) -> Array:
    """1 - pruned / dense; 0 where the dense cost is 0, nan where either is not defined."""
    return np.where(dense != 0, 1.0 - pruned / np.where(dense != 0, dense, 1), 0.0)
