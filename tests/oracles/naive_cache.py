"""One KV head's cache, decode step by decode step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from asymsim.catalogue.model import Layer
from asymsim.methods.schedule import KvPolicy, Schedule


@dataclass(frozen=True)
class Decoded:
    """Keys that each step attends to, under the mask and under the framework's; the entries that it finds cached;
    those cached before all steps and after."""

    seen: list[int]
    framework_seen: list[int]
    found: list[int]
    prefill: int
    final: int


def policy_budget(policy: KvPolicy, layer: int, tokens: int) -> int:
    """Entries a head keeps of a layer's ``tokens``, were there enough of them."""
    share = policy.share[layer] if len(policy.share) > 1 else policy.share[0]
    plus = policy.plus[layer] if len(policy.plus) > 1 else policy.plus[0]
    return max(0, math.floor(share * tokens) + plus)


def decode(kind: Layer, schedule: Schedule, tokens: int, text: int, steps: int, budget: int | None = None) -> Decoded:
    """Simulate a head that keeps ``budget`` of ``tokens`` entries, or all of them where it is None.

    Each step sees the cache, as far as window or chunk reach, and its own token, whose entry then joins; past the
    text threshold a generated token stays only if the retained share has room for it; a held budget lets one go.
    """
    held = tokens if budget is None else min(tokens, budget)
    limit = kind.window_tokens or kind.chunk_tokens
    eviction = schedule.text_eviction
    seen, framework_seen, found = [], [], []
    prefill = min(held, limit - 1) if limit else held
    late = late_kept = 0
    for step in range(steps):
        position = tokens + step
        found.append(min(held, limit - 1) if limit else held)
        reach = framework_reach = held
        if kind.window_tokens:
            reach = framework_reach = min(held, kind.window_tokens - 1)
        elif kind.chunk_tokens:
            reach = min(
                held, len([other for other in range(position) if _chunk(kind, other) == _chunk(kind, position)])
            )
            framework_reach = min(held, kind.chunk_tokens - 1)
        seen.append(reach + 1)
        framework_seen.append(framework_reach + 1)
        stays = True
        if eviction is not None and text + step + 1 > max(eviction.threshold_tokens, text):
            late += 1
            stays = Fraction(late_kept + 1) <= eviction.retain * late
            late_kept += stays
        if stays:
            held += 1
        if schedule.kv.hold and budget is not None and held > budget:
            held -= 1
    return Decoded(seen, framework_seen, found, prefill, min(held, limit - 1) if limit else held)


def _chunk(kind: Layer, position: int) -> int:
    return position // kind.chunk_tokens


def heads(kind: Layer, schedule: Schedule, layer: int, tokens: int, text: int, steps: int) -> list[Decoded]:
    """Every KV head of a self-attention layer; the first of them keep everything."""
    whole = round(schedule.kv.full_heads * kind.kv_heads)
    pruned = policy_budget(schedule.kv, layer, tokens)
    every = decode(kind, schedule, tokens, text, steps)
    some = decode(kind, schedule, tokens, text, steps, pruned)
    return [every if head < whole else some for head in range(kind.kv_heads)]
