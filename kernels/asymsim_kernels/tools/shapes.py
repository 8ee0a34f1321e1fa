"""Shapes as text, the form in which proofs and measurements name them: ``queries=4x1024+37;heads=32;causal=1``.

A value is a number, or lengths joined by ``+`` of which ``BxN`` stands for B times N. The keys, by operator:

- prefill, column_mass: queries, keys (a length a sequence), heads, kv_heads, head_size, causal, window (0: none);
  column_mass also counted (the last queries that count, 0: all);
- decode: entries (a length for each sequence and KV head), heads, kv_heads, head_size;
- scorer: visual, text (a length a sequence), hidden, weighted; similarity: visual, text, joint;
- top_k: tokens (a length a sequence), rows, capacity, adaptive, protected;
- merge_tokens: tokens, kept, assigned, hidden; compact: kept (a length for each sequence and KV head), head_size;
- copy: bytes; matmul: m, n, k.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

Value = int | float | Sequence[int]


def shape_text(**values: Value) -> str:
    """A shape as text; flags count as 0 and 1."""
    return ";".join(f"{key}={_text(value)}" for key, value in values.items())


def _text(value: Value) -> str:
    if isinstance(value, Sequence):
        runs = [(length, len(list(run))) for length, run in groupby(value)]
        return "+".join(str(length) if times == 1 else f"{times}x{length}" for length, times in runs)
    return str(int(value)) if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)
