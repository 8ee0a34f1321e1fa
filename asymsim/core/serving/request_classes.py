"""Token counts and caches of request classes, from their token counts and a schedule."""

from __future__ import annotations

from asymsim.core.arrays import Array
from asymsim.core.borrow import borrow
from asymsim.core.fields import read_fields, write_fields
from asymsim.core.jit import kernel
from asymsim.core.kv_cache import cache_of
from asymsim.core.model_arrays import ModelArrays
from asymsim.core.schedule import run_language_model, run_tower
from asymsim.core.schedule_arrays import ScheduleArrays
from asymsim.core.token_counts import TokenCounts
from asymsim.core.workspace import Workspace


@kernel
def describe_requests(
    owned_model: ModelArrays,
    owned_schedule: ScheduleArrays,
    token_counts: Array,
    owned_work: Workspace,
    groups: Array,
    segments: Array,
    request_classes: Array,
    caches: Array,
) -> None:
    """Fill the tokens of ``request_classes`` (rows) and ``caches`` (rows, groups) under one schedule.

    ``token_counts`` (rows) has the fields of ``TokenCounts``. ``segments`` (groups): a segment of the schedule that
    stands for each group of layers.
    """
    model, schedule, work = borrow(owned_model), borrow(owned_schedule), borrow(owned_work)
    for index in range(len(token_counts)):
        counts, request_class = read_fields(TokenCounts, token_counts[index]), request_classes[index]
        left = run_tower(schedule, counts, model.extra_tokens, work.tower_counts)
        run_language_model(schedule, model, counts, left, work.lm_counts, work.end)
        request_class["prompt_tokens"] = work.lm_counts[0, 1] * model.visual_in_sequence + work.lm_counts[0, 2]
        request_class["output_tokens"] = counts.output_tokens
        request_class["encoder_tokens"] = counts.visual_tokens
        request_class["embedding_bytes"] = work.end[1] * model.hidden_size
        for group in range(len(groups)):
            layer, segment = model.lm_kinds[groups[group]["layer_kind"]], segments[group]
            visual, text = work.lm_counts[segment, 1], work.lm_counts[segment, 2]
            cache = caches[index, group]
            write_fields(cache, cache_of(model, schedule, layer, segment, visual, text))
            cache["queries"] = text + visual * model.visual_in_sequence
            cache["visual_tokens"], cache["images"] = visual, counts.images
            cache["unfused"] = schedule.lm_unfused[segment]
