"""Bound of a scenario's counts: FLOPs and bytes must fit in 64-bit integers."""

from __future__ import annotations

from asymsim.estimator.resolve import ResolvedScenario
from asymsim.estimator.token_counts import RequestTokens
from asymsim.util.errors import InputError


def check_countable(resolved: ResolvedScenario, counts: RequestTokens) -> None:
    """Refuse a scenario whose counts would leave 64-bit integers.

    Raises
    ------
    InputError
        If the scenario's FLOPs or bytes could pass 2**62.
    """
    arrays = resolved.model_arrays
    tokens = float(counts.visual_tokens + counts.text_tokens + counts.output_tokens)
    parameters = float(resolved.model.parameters["total"])
    widest = float(max((kind["heads"] * max(kind["head_size"], 4) for kind in arrays.lm_kinds), default=1))
    pairs = 4.0 * tokens * tokens * widest * len(arrays.lm_prefix)
    if counts.image is not None:
        tower = resolved.model.vision_tower
        assert tower is not None
        tower_tokens = float(counts.num_images * counts.image.sequences * counts.image.sequence_tokens)
        kind = tower.layer_kinds[0]
        pairs += (
            4.0 * tower_tokens * counts.image.sequence_tokens * kind.heads * kind.head_size * len(tower.layer_pattern)
        )
        tokens += tower_tokens
    # FLOPs are the largest counts: a byte count is never more than four times as many, in any format.
    if counts.batch_size * (2.0 * parameters * tokens + pairs) > 2.0**60:
        raise InputError(
            "batch_size x tokens", f"{counts.batch_size} x {int(tokens)}", "give less: the counts would pass 64 bits"
        )
