"""Evaluator of blocks of rows that share a model, GPU and schedule: all figures from one call of the compiled core."""

from __future__ import annotations

import numpy as np

from asymsim.core.arrays import Array
from asymsim.core.estimate import COUNT_COLUMNS, TIME_COLUMNS, evaluate_rows
from asymsim.core.token_counts import TokenCounts
from asymsim.core.workspace import MEMO_ENTRIES_SINGLE, MEMO_ENTRIES_SWEEP, Workspace, workspace
from asymsim.estimator.memory import WORKSPACE_BYTES, free_memory_bytes, kv_share, weights_bytes
from asymsim.estimator.resolve import ResolvedScenario

ENDS = ("_p05", "", "_p95")
DERIVED = ("peak_bytes", "max_batch_size", *(f"tpot_s{end}" for end in ENDS))
FIGURES = (*COUNT_COLUMNS, *TIME_COLUMNS, *DERIVED)
# Without the ends of intervals, which take as much memory as all the rest.
MEDIANS = tuple(name for name in FIGURES if not name.endswith(("_p05", "_p95")))
# Large enough to hide the cost of a call, small enough to stay in the cache.
BLOCK_ROWS = 1 << 14
# A sweep of fewer rows than this does not repay a large memory of matrix times.
MANY_ROWS = 1 << 10
_KV_CACHE, _ACTIVATION = COUNT_COLUMNS.index("kv_cache_bytes"), COUNT_COLUMNS.index("activation_bytes")


class Evaluator:
    """A resolved scenario with the working memory of its evaluation; each thread needs another.

    Parameters
    ----------
    resolved : ResolvedScenario
    rows : int
        Number of rows to come, all blocks together.
    dense : bool
        Evaluate the dense baseline instead.
    """

    def __init__(self, resolved: ResolvedScenario, rows: int, dense: bool = False) -> None:
        self._resolved = resolved
        self.schedules = ((1.0, resolved.dense_schedule),) if dense else resolved.schedules
        weights = weights_bytes(resolved.model, resolved.precision)
        self._fixed_bytes = weights + WORKSPACE_BYTES
        self.free_bytes = free_memory_bytes(resolved.gpu, weights)
        entries = MEMO_ENTRIES_SWEEP if rows >= MANY_ROWS else MEMO_ENTRIES_SINGLE
        self._spaces: list[Workspace] = [
            workspace(resolved.model_arrays, schedule, entries) for _, schedule in self.schedules
        ]
        size = min(rows, BLOCK_ROWS)
        self._counts, self._times = np.empty((size, len(COUNT_COLUMNS)), np.int64), np.empty((size, len(TIME_COLUMNS)))

    def figures(self, token_counts: Array) -> dict[str, Array]:
        """``FIGURES`` of up to ``BLOCK_ROWS`` rows (rows, the fields of ``TokenCounts``), and ``worst_bytes``.

        Expectations over the schedules where there are several; ``worst_bytes``, cache and activations on a
        GPU, is of the schedule that needs most. The arrays are good until the next call.
        """
        resolved = self._resolved
        counts, times = self._counts[: len(token_counts)], self._times[: len(token_counts)]
        kv_share_on_gpu = kv_share(resolved.model, resolved.precision.tp_size)
        total_counts: Array | float = 0.0
        total_times: Array | float = 0.0
        kv_bytes: Array | float = 0.0
        worst = np.zeros(len(token_counts))
        for (share, schedule), space in zip(self.schedules, self._spaces, strict=True):
            evaluate_rows(
                resolved.model_arrays,
                schedule,
                token_counts,
                resolved.precision,
                resolved.gpu_arrays,
                space,
                counts,
                times,
            )
            schedule_kv_bytes = counts[:, _KV_CACHE] * kv_share_on_gpu
            worst = np.maximum(worst, schedule_kv_bytes + counts[:, _ACTIVATION])
            if len(self.schedules) == 1:
                total_counts, total_times, kv_bytes = counts, times, schedule_kv_bytes
            else:
                total_counts, total_times = total_counts + share * counts, total_times + share * times
                kv_bytes = kv_bytes + share * schedule_kv_bytes
        assert isinstance(total_counts, np.ndarray)
        assert isinstance(total_times, np.ndarray)
        block = {name: total_counts[:, index] for index, name in enumerate(COUNT_COLUMNS)}
        block.update({name: total_times[:, index] for index, name in enumerate(TIME_COLUMNS)})
        activation_bytes = np.rint(block["activation_bytes"]).astype(np.int64)
        block["peak_bytes"] = self._fixed_bytes + np.rint(kv_bytes).astype(np.int64) + activation_bytes
        batch = token_counts[:, TokenCounts._fields.index("batch_size")]
        block["max_batch_size"] = np.maximum(0, self.free_bytes // (worst / batch))
        block["worst_bytes"] = worst
        steps = token_counts[:, TokenCounts._fields.index("output_tokens")] - 1
        for end in ENDS:
            block[f"tpot_s{end}"] = np.where(steps > 0, block[f"decode_s{end}"] / np.maximum(1, steps), np.nan)
        return block
