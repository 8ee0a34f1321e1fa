"""Columns of a sweep's output: figures of a block, totals, throughput, and savings against the dense baseline."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from asymsim.core.arrays import Array
from asymsim.core.estimate import COUNT_COLUMNS
from asymsim.core.token_counts import TokenCounts
from asymsim.estimator.resolve import ResolvedScenario
from asymsim.sweep import evaluator
from asymsim.sweep.evaluator import Evaluator

# Figure whose saved share each column is, as in the section savings of an estimate.
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
FIGURES = (*evaluator.FIGURES, "total_flops", "fits", *THROUGHPUT, *SAVED)
WHOLE = (*COUNT_COLUMNS, "peak_bytes", "max_batch_size", "total_flops")


class RowFigures:
    """Figures of the rows of one configuration, equal to the figures of single estimates."""

    def __init__(self, resolved: ResolvedScenario, names: Sequence[str], rows: int) -> None:
        self._names = tuple(names)
        self._pruned = Evaluator(resolved, rows)
        needs_dense = any(name in SAVED for name in names)
        self._dense = Evaluator(resolved, rows, dense=True) if needs_dense else None

    def evaluate(self, token_counts: Array) -> dict[str, Array]:
        """The figures by name, each of shape (rows,); good until the next call."""
        pruned = self._completed(self._pruned.figures(token_counts))
        dense = self._completed(self._dense.figures(token_counts)) if self._dense is not None else {}
        result: dict[str, Array] = {}
        for name in self._names:
            if name in SAVED:
                result[name] = _saved_share(pruned[SAVED[name]], dense[SAVED[name]])
            elif name in THROUGHPUT:
                batch_size = token_counts[:, TokenCounts._fields.index("batch_size")]
                output_tokens = token_counts[:, TokenCounts._fields.index("output_tokens")]
                units = batch_size * output_tokens if name == "output_tokens_per_s" else batch_size
                result[name] = units / pruned["e2e_s"]
            else:
                result[name] = pruned[name]
        return result

    def _completed(self, figures: dict[str, Array]) -> dict[str, Array]:
        """The figures with counts as whole numbers, as single estimates have them, and with the derived ones."""
        if len(self._pruned.schedules) > 1:
            figures.update({name: np.rint(figures[name]) for name in COUNT_COLUMNS})
        if "total_flops" in self._names or "flops_saved" in self._names:
            figures["total_flops"] = sum((figures[name] for name in _SUMMED[1:]), figures[_SUMMED[0]])
        if "fits" in self._names:
            figures["fits"] = figures["worst_bytes"] <= self._pruned.free_bytes
        return figures


def _saved_share(pruned: Array, dense: Array) -> Array:
    """1 - pruned / dense; 0 where the dense cost is 0, nan where either is not defined."""
    return np.where(dense != 0, 1.0 - pruned / np.where(dense != 0, dense, 1), 0.0)
