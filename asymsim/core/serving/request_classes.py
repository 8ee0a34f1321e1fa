"""Token counts and caches of kinds of requests, from their loads and a schedule."""

from __future__ import annotations

from asymsim.core.arrays import Array
from asymsim.core.borrow import borrow_model, borrow_schedule, borrow_workspace
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
    loads: Array,
    owned_work: Workspace,
    groups: Array,
    segments: Array,
    kinds: Array,
    caches: Array,
) -> None:
    """Fill the counts of ``kinds`` (loads) and the ``caches`` (loads, groups) of requests under one schedule.

    ``segments`` (groups): a segment of the schedule that stands for each group of layers.
    """
    model, schedule, work = borrow_model(owned_model), borrow_schedule(owned_schedule), borrow_workspace(owned_work)
    for index in range(len(loads)):
        given, kind = loads[index], kinds[index]
        token_counts = TokenCounts(
            given[0], given[1], given[2], given[3], given[4], given[5], given[6], given[7], given[8], given[9]
        )
        left = run_tower(schedule, token_counts, model.extra_tokens, work.tower_counts)
        run_language_model(schedule, model, token_counts, left, work.lm_counts, work.end)
        kind["prompt_tokens"] = work.lm_counts[0, 1] * model.visual_in_sequence + work.lm_counts[0, 2]
        kind["output_tokens"] = token_counts.output_tokens
        kind["encoder_tokens"] = token_counts.visual_tokens
        kind["embedding_bytes"] = work.end[1] * model.hidden_size
        for group in range(len(groups)):
            layer, segment = model.lm_kinds[groups[group]["layer_kind"]], segments[group]
            visual, text = work.lm_counts[segment, 1], work.lm_counts[segment, 2]
            cache, record = cache_of(model, schedule, layer, segment, visual, text), caches[index, group]
            record["prompt_tokens"], record["kept_tokens"], record["kv_heads"] = (
                cache.prompt_tokens,
                cache.kept_tokens,
                cache.kv_heads,
            )
            record["full_heads"], record["window_cap"], record["budget_cap"] = (
                cache.full_heads,
                cache.window_cap,
                cache.budget_cap,
            )
            record["chunk_tokens"], record["eviction_start"], record["self_token"] = (
                cache.chunk_tokens,
                cache.eviction_start,
                cache.self_token,
            )
            record["retain_num"], record["retain_den"] = cache.retain_num, cache.retain_den
            record["queries"] = text + visual * model.visual_in_sequence
            record["visual_tokens"], record["images"] = visual, token_counts.images
            record["unfused"] = schedule.lm_unfused[segment]
