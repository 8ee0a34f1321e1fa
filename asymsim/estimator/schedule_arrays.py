"""Arrays of a schedule as the kernels read them: its rules bound to the segments of a model's equal layers."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from asymsim.catalogue.model import VlmModel
from asymsim.core.arrays import Array
from asymsim.core.schedule_arrays import (
    FACTORS,
    KV_RULE,
    MULTIPLY,
    OPERATION,
    ORIGINAL,
    PRESENT,
    PRUNING_STEP,
    RULE_KINDS,
    SIGNS,
    STAGE_NAMES,
    SYMBOLS,
    TEXT,
    VISUAL,
    ScheduleArrays,
)
from asymsim.methods.schedule import Operation, Schedule, Step
from asymsim.util.errors import InputError


def _factors(text: str, field: str, literals: list[int]) -> list[tuple[int, int]]:
    """The factors of a dimension such as ``"4*visual/sequences"``: indices of symbols, then of ``literals``, and signs.

    The index of a literal follows those of the symbols.
    """
    factors = []
    words = re.split(r"(//|[*/])", f"*{text}")[1:]
    for sign, word in zip(words[::2], map(str.strip, words[1::2]), strict=True):
        if word in SYMBOLS:
            index = SYMBOLS.index(word)
        elif word.isdigit():
            index = _literal(int(word), literals)
        else:
            raise InputError(field, text, f"use whole numbers and {', '.join(SYMBOLS)}, joined by *, / or //")
        factors.append((index, SIGNS.index(sign)))
    if len(factors) > FACTORS:
        raise InputError(field, text, f"use at most {FACTORS} factors")
    return factors + [(_literal(1, literals), int(MULTIPLY))] * (FACTORS - len(factors))


def _literal(value: int, literals: list[int]) -> int:
    if value not in literals:
        literals.append(value)
    return len(SYMBOLS) + literals.index(value)


def _check_layer(place: Step | Operation, tower_layers: int, lm_layers: int) -> None:
    in_tower = place.stage in ("encoder", "encoder_mlp")
    limit = tower_layers if in_tower else lm_layers
    if place.stage == "encoder_end" or (place.stage in ("kv", "decode") and place.layer < 0):
        return
    if not 0 <= place.layer < limit:
        where = "encoder" if in_tower else "language model"
        raise InputError("layer", place.layer, f"the {where} has layers 0 to {limit - 1}")


def _starts(layers: int, breaks: set[int]) -> Array:
    return np.array(sorted({0, layers} | {layer for layer in breaks if 0 < layer < layers}), np.int64)


def schedule_arrays(schedule: Schedule, model: VlmModel) -> ScheduleArrays:
    """Arrays of a schedule on a model: the segments of equal layers, and every rule with its segment.

    Raises
    ------
    InputError
        If a rule names a layer that the model does not have, or lists per layer do not fit.
    """
    tower_layers = len(model.vision_tower.layer_pattern) if model.vision_tower else 0
    lm_layers = len(model.language_model.layer_pattern)
    steps = () if schedule.masking else schedule.steps
    places: list[Step | Operation] = [*schedule.steps, *schedule.operations]
    for place in places:
        _check_layer(place, tower_layers, lm_layers)
    tower_breaks, lm_breaks = set[int](), set[int]()
    for place in places if steps else schedule.operations:
        if place.stage == "encoder_mlp":
            tower_breaks |= {place.layer, place.layer + 1}
        elif place.stage == "encoder":
            tower_breaks.add(place.layer)
        elif place.stage == "lm":
            lm_breaks.add(place.layer)
        elif place.layer >= 0 and place.stage != "encoder_end":
            lm_breaks |= {place.layer, place.layer + 1}
    for stage, layer in schedule.unfused:
        if not 0 <= layer < (lm_layers if stage == "lm" else tower_layers):
            raise InputError("layer", layer, f"the {stage} stack has no such layer to read attention from")
        (lm_breaks if stage == "lm" else tower_breaks).update((layer, layer + 1))
    kv = _kv_rules(schedule, lm_layers)
    lm_breaks |= {layer for layer in range(1, lm_layers) if kv[layer] != kv[layer - 1]}
    tower_starts, lm_starts = _starts(tower_layers, tower_breaks), _starts(lm_layers, lm_breaks)
    unfused = set(schedule.unfused)
    kv_rule = np.array([kv[layer] for layer in lm_starts[:-1]], KV_RULE)
    eviction = schedule.text_eviction
    literals: list[int] = []
    operations = _operation_records(schedule.operations, tower_starts, lm_starts, literals)
    return ScheduleArrays(
        tower_starts=tower_starts,
        tower_unfused=np.array([("encoder", int(layer)) in unfused for layer in tower_starts[:-1]], np.int64),
        lm_starts=lm_starts,
        lm_unfused=np.array([("lm", int(layer)) in unfused for layer in lm_starts[:-1]], np.int64),
        kv_rule=kv_rule,
        pruning_steps=_step_records(steps, tower_starts, lm_starts),
        operations=operations,
        full_head_num=schedule.kv.full_heads.numerator,
        full_head_den=schedule.kv.full_heads.denominator,
        budget_in_decoding=int(schedule.kv.hold),
        eviction_threshold_tokens=eviction.threshold_tokens if eviction else -1,
        retain_num=eviction.retain.numerator if eviction else 1,
        retain_den=eviction.retain.denominator if eviction else 1,
        literals=np.array(literals, np.int64),
    )


def _kv_rules(schedule: Schedule, lm_layers: int) -> list[tuple[int, int, int]]:
    """(numerator, denominator, plus) of every layer's cache budget."""
    share, plus = schedule.kv.share, schedule.kv.plus
    for name, values in (("kv share", share), ("kv plus", plus)):
        if len(values) not in (1, lm_layers):
            raise InputError(name, len(values), f"give one entry, or one for each of the {lm_layers} layers")
    share = share * lm_layers if len(share) == 1 else share
    plus = plus * lm_layers if len(plus) == 1 else plus
    return [(part.numerator, part.denominator, count) for part, count in zip(share, plus, strict=True)]


def _segment(starts: Array, layer: int) -> int:
    return int(np.searchsorted(starts, layer, side="right")) - 1


def _place(stage: str, layer: int, tower_starts: Array, lm_starts: Array) -> int:
    if stage in ("encoder", "encoder_mlp"):
        return _segment(tower_starts, layer)
    if stage == "encoder_end":
        return 0
    return -1 if layer < 0 else _segment(lm_starts, layer)


def _step_records(steps: Sequence[Step], tower_starts: Array, lm_starts: Array) -> Array:
    records = np.zeros(len(steps), PRUNING_STEP)
    for record, step in zip(records, steps, strict=True):
        record["stage"] = STAGE_NAMES.index(step.stage)
        record["segment"] = _place(step.stage, step.layer, tower_starts, lm_starts)
        record["target"] = TEXT if step.target == "text" else VISUAL
        record["num"], record["den"] = step.share.numerator, step.share.denominator
        record["share_of"] = PRESENT if step.of == "present" else ORIGINAL
        record["rounding"] = ("floor", "nearest", "ceil").index(step.rounding)
        record["plus"] = step.plus
        record["at_least_num"], record["at_least_den"] = step.at_least.numerator, step.at_least.denominator
        if step.recycled:
            recycled = step.recycled
            record["recycle_num"], record["recycle_den"] = recycled.share.numerator, recycled.share.denominator
            record["recycle_plus"], record["recycle_divisor"] = recycled.plus, recycled.divisor
            record["recycle_extra"] = recycled.extra
    return records


def _operation_records(
    operations: Sequence[Operation], tower_starts: Array, lm_starts: Array, literals: list[int]
) -> Array:
    records = np.zeros(len(operations), OPERATION)
    for record, operation in zip(records, operations, strict=True):
        record["kind"] = RULE_KINDS.index(operation.kind)
        record["stage"] = STAGE_NAMES.index(operation.stage)
        record["segment"] = _place(operation.stage, operation.layer, tower_starts, lm_starts)
        for name in ("rows", "columns", "inner", "times"):
            record[name] = _factors(getattr(operation, name), name, literals)
        record["reads"], record["writes"] = operation.reads, operation.writes
        record["flops_per_element"] = operation.flops_per_element
    return records
