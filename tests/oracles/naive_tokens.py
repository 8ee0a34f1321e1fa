"""A schedule run layer by layer in Python's own fractions: the tokens each stage sees."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from asymsim.catalogue.model import VlmModel
from asymsim.core.token_counts import TokenCounts
from asymsim.methods.schedule import Schedule, Step

ROUND = {"floor": math.floor, "nearest": round, "ceil": math.ceil}


@dataclass
class Place:
    """Visual tokens before a place's steps and after them, those merged there, and the pool of dropped ones for it."""

    before: int
    after: int
    merged: int = 0
    pool: int = 0
    text: int = 0


@dataclass
class Tokens:
    """Encoder counts are per sequence and without extra tokens."""

    tower: list[Place] = field(default_factory=list)
    tower_mlp: list[int] = field(default_factory=list)
    end: Place = field(default_factory=lambda: Place(0, 0))
    lm: list[Place] = field(default_factory=list)


def reduce(step: Step, original: int, present: int) -> tuple[int, int, int]:
    """Tokens kept, tokens made of the dropped ones, and their pool, by the words of ``Step`` and ``Recycle``."""
    reference = original if step.of == "original" else present
    kept = ROUND[step.rounding](step.share * reference) + step.plus
    kept = min(present, max(0, math.ceil(step.at_least * present), kept))
    dropped = present - kept
    if step.recycled is None or dropped == 0:
        return kept, 0, 0
    pool = math.floor(step.recycled.share * dropped) + step.recycled.plus
    made = pool // step.recycled.divisor + step.recycled.extra
    return kept, min(dropped, max(0, made)), min(dropped, max(0, pool))


def tokens(model: VlmModel, schedule: Schedule, load: TokenCounts) -> Tokens:
    """All counts of a scenario."""
    steps = () if schedule.masking else schedule.steps
    result = Tokens()
    tower = model.vision_tower
    visual = load.visual_tokens
    if tower is not None and load.sequences:
        patches = load.sequence_tokens - tower.extra_tokens
        present = patches
        for layer in range(len(tower.layer_pattern)):
            place = Place(present, present)
            for stage in ("encoder", "encoder_mlp"):
                for step in steps:
                    if step.stage == stage and step.layer == layer:
                        kept, merged, pool = reduce(step, patches, present)
                        present = kept + merged
                        place.merged += merged
                        place.pool += pool
                if stage == "encoder":
                    place.after = present
            result.tower.append(place)
            result.tower_mlp.append(present)
        if present < patches:
            visual = visual * present // patches
    result.end = Place(visual, visual)
    for step in steps:
        if step.stage == "encoder_end":
            kept, merged, pool = reduce(step, load.visual_tokens, visual)
            visual = kept + merged
            result.end.merged += merged
            result.end.pool += pool
    result.end.after = visual
    text = load.text_tokens
    for layer in range(len(model.language_model.layer_pattern)):
        place = Place(visual, visual)
        for step in steps:
            if step.stage != "lm" or step.layer != layer:
                continue
            if step.target == "text":
                kept, merged, _ = reduce(step, load.text_tokens, text)
                text = kept + merged
            else:
                kept, merged, pool = reduce(step, load.visual_tokens, visual)
                visual = kept + merged
                place.merged += merged
                place.pool += pool
        place.after, place.text = visual, text
        result.lm.append(place)
    return result
