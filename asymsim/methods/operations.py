"""Selection operators that many methods share, named after what they do."""

from __future__ import annotations

from asymsim.schedule import Operation, Place


def head_mean(layer: int, queries: int = 1) -> Operation:
    """Average the stored attention weights of ``queries`` rows over the heads of the layer before ``layer``."""
    return Operation(kind="elementwise", stage="lm", layer=layer, rows="heads", columns=f"{queries}*visual")


def top_k(stage: Place, layer: int = -1, columns: str = "visual", times: str = "1") -> Operation:
    """Choose the largest of ``columns`` scores: two counting passes and the index list."""
    return Operation(kind="elementwise", stage=stage, layer=layer, columns=columns, times=times, reads=2, writes=1)


def gather(stage: Place, layer: int = -1, rows: str = "remaining", width: str = "hidden") -> Operation:
    """Copy the tokens that stay into a packed tensor."""
    return Operation(
        kind="elementwise", stage=stage, layer=layer, rows=rows, columns=width, writes=1, flops_per_element=0
    )
