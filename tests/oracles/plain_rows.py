"""Operator rows of one step, from a layer's shape: each matrix, each pass over memory, written down one at a time."""

from __future__ import annotations

from typing import Any

import numpy as np

from asymsim.catalogue.model import Layer
from asymsim.core.model_arrays import Precision
from asymsim.core.operators.layout import (
    ALL_REDUCE,
    ATTENTION,
    BY_COLUMNS,
    BY_HEADS,
    BY_INNER,
    DECODE,
    ELEMENTWISE,
    GEMM,
    OPERATOR,
    PREFILL,
    REPLICATED,
    UNFUSED_ATTENTION,
)


def row(kind: int, **fields: Any) -> Any:
    """A row of one execution in prefill, undivided, whose costs are 0 but for ``fields``."""
    record = np.zeros(1, OPERATOR)
    defaults = {"phase": PREFILL, "count": 1, "groups": 1, "heads": 1, "kv_heads": 1, "split": REPLICATED}
    for name, value in {"kind": kind, **defaults, **fields}.items():
        record[name] = value
    return record


class Rows:
    """Writes rows in a number format."""

    def __init__(self, precision: Precision) -> None:
        self.precision = precision

    def size(self, elements: int) -> int:
        """Bytes of activations."""
        return elements * self.precision.activation_bits // 8

    def product(self, rows: int, columns: int, inner: int, split: int) -> list[Any]:
        """A weight that some rows pass through."""
        if not rows:
            return []
        return [
            row(
                GEMM,
                m=rows,
                n=columns,
                k=inner,
                split=split,
                flops=2 * rows * columns * inner,
                torch_flops=2 * rows * columns * inner,
                weight_bytes=columns * inner * self.precision.weight_bits // 8,
                read_bytes=self.size(rows * inner),
                write_bytes=self.size(rows * columns),
            )
        ]

    def elementwise(self, read: int, written: int, flops: int, kernels: int, split: int = REPLICATED) -> list[Any]:
        """Passes over memory: elements read and written in some kernels."""
        if not read + written:
            return []
        sizes = {"read_bytes": self.size(read), "write_bytes": self.size(written)}
        return [row(ELEMENTWISE, groups=kernels, split=split, elementwise_flops=flops, **sizes)]

    def dense(self, layer: Layer, tokens: int, kv_rows: int) -> list[Any]:
        """A layer without experts, but for its attention; ``kv_rows`` of a cross-attention layer's visual tokens."""
        if not tokens:
            return []
        assert not layer.experts
        hidden, wide = layer.hidden_size, layer.intermediate_size
        query, key_value = layer.heads * layer.head_size, 2 * layer.kv_heads * layer.head_size
        ups = 2 if layer.gated else 1
        if layer.attention == "cross":
            rows = self.product(tokens, query, hidden, BY_COLUMNS) + self.product(
                kv_rows, key_value, hidden, BY_COLUMNS
            )
        else:
            rows = self.product(tokens, query + key_value, hidden, BY_COLUMNS)
        rows += self.product(tokens, hidden, query, BY_INNER)
        rows += self.product(tokens, ups * wide, hidden, BY_COLUMNS) + self.product(tokens, hidden, wide, BY_INNER)
        # Norms and two additions pass over the stream; queries and keys are rotated; gate and up become one.
        norm, add, rotate, activate = 4, 1, 3, 5
        stream = tokens * hidden * (layer.norms + 2)
        stream_flops = tokens * hidden * (norm * layer.norms + 2 * add)
        rotated = tokens * (query + key_value // 2)
        inside = rotated + tokens * ups * wide, rotated + tokens * wide, rotate * rotated + activate * tokens * wide
        if self.precision.tp_size == 1:
            read, written = (stream + part for part in inside[:2])
            return rows + self.elementwise(read, written, stream_flops + inside[2], layer.norms + 2)
        rows += self.elementwise(*inside, kernels=2, split=BY_HEADS)
        rows += self.elementwise(stream, stream, stream_flops, layer.norms)
        return [*rows, row(ALL_REDUCE, m=tokens, n=hidden, count=2, write_bytes=2 * self.size(tokens * hidden))]

    def prompt_attention(
        self, layer: Layer, prompts: int, queries: int, keys: int, pairs: int, rectangle: int, unfused: bool
    ) -> list[Any]:
        """Attention of some prompts of ``queries`` x ``keys`` each, ``pairs`` of all of them together."""
        width = layer.heads * layer.head_size
        moved = self.size(prompts * queries * width)
        stored = 2 * self.size(rectangle * layer.heads) if unfused else 0
        kv_bytes = prompts * keys * 2 * layer.kv_heads * layer.head_size * self.precision.kv_bits // 8
        return [
            row(
                UNFUSED_ATTENTION if unfused else ATTENTION,
                m=queries,
                n=keys,
                k=layer.head_size,
                groups=prompts * layer.heads,
                heads=layer.heads,
                kv_heads=layer.kv_heads,
                split=BY_HEADS,
                flops=4 * pairs * width,
                torch_flops=4 * rectangle * width,
                read_bytes=moved + stored,
                write_bytes=moved + stored,
                kv_read_bytes=kv_bytes,
                kv_write_bytes=kv_bytes,
            )
        ]

    def decode_attention(self, layer: Layer, requests: int, steps: int, seen: int) -> list[Any]:
        """Attention of some decode steps, in which all KV heads together meet ``seen`` entries."""
        if not seen:
            return []
        shared = layer.heads // layer.kv_heads
        entry = 2 * layer.head_size * self.precision.kv_bits // 8
        moved = steps * self.size(requests * layer.heads * layer.head_size)
        written = 0 if layer.attention == "cross" else steps * requests * layer.kv_heads * entry
        return [
            row(
                ATTENTION,
                phase=DECODE,
                count=steps,
                m=1,
                n=seen // (layer.kv_heads * steps * requests),
                k=layer.head_size,
                groups=requests * layer.heads,
                heads=layer.heads,
                kv_heads=layer.kv_heads,
                split=BY_HEADS,
                flops=4 * seen * shared * layer.head_size,
                read_bytes=moved,
                write_bytes=moved,
                kv_read_bytes=seen * entry,
                kv_write_bytes=written,
            )
        ]
