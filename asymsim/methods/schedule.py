"""Schedule: the tokens that each stage and layer sees, as a short list of integer rules.

A schedule is made once for a method and setting; ``core/schedule.py`` runs its rules for any number
of visual and text tokens inside compiled code. Lists per layer are a view for people.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Literal

from asymsim.util.errors import InputError
from asymsim.util.fractions import check_at_least, share_of_all
from asymsim.util.strict import strict_dataclass

Stage = Literal["encoder", "encoder_mlp", "encoder_end", "lm"]
Place = Literal["encoder", "encoder_mlp", "encoder_end", "lm", "kv", "decode"]


@strict_dataclass
class Recycle:
    """Tokens made of the dropped ones and added to the kept: (floor(share D) + plus) // divisor + extra.

    ``D`` is the number dropped; nothing is made where nothing is dropped, and never more than ``D``. The pool that
    a method clusters is floor(share D) + plus of the dropped tokens, at most ``D``.
    """

    share: Fraction = Fraction(0)
    plus: int = 0
    divisor: int = 1
    extra: int = 0

    def __post_init__(self) -> None:
        share_of_all(self.share, "recycle share")
        check_at_least("recycle divisor", self.divisor, 1)
        check_at_least("recycle extra", self.extra, 0)


@strict_dataclass
class Step:
    """One reduction: kept = round(share x reference) + plus, held between ``at_least`` x present and present.

    Attributes
    ----------
    stage : {"encoder", "encoder_mlp", "encoder_end", "lm"}
        Before encoder block ``layer``; between its attention and its MLP; between encoder and
        projector; before language-model layer ``layer``. Encoder counts are per sequence, without
        the tower's extra tokens.
    layer : int
        Counted from 0; ignored at the encoder's end.
    target : {"visual", "text"}
    share, of, rounding, plus
        ``of`` is the count before any pruning ("original") or at this step ("present"). A fixed count
        is share 0 and plus K; dropping r tokens is share 1 of present and plus -r.
    at_least : Fraction
        Lower bound as a share of the present tokens (ToMe merges at most half of them).
    recycled : Recycle or None
    """

    stage: Stage
    layer: int = 0
    target: Literal["visual", "text"] = "visual"
    share: Fraction = Fraction(0)
    of: Literal["original", "present"] = "original"
    rounding: Literal["floor", "nearest", "ceil"] = "floor"
    plus: int = 0
    at_least: Fraction = Fraction(0)
    recycled: Recycle | None = None

    def __post_init__(self) -> None:
        share_of_all(self.share, "share")
        share_of_all(self.at_least, "at_least")
        check_at_least("layer", self.layer, 0)
        if self.target == "text" and self.stage != "lm":
            raise InputError("target", self.target, "text tokens leave at stage 'lm' alone")


@strict_dataclass
class Operation:
    """An operator that the method adds.

    Attributes
    ----------
    kind : {"projection", "gemm", "attention", "elementwise"}
        rows x columns x inner multiply-adds, by a weight that the batch shares ("projection") or by
        data of the sample ("gemm"); fused attention of ``rows`` queries over ``columns``
        keys of size ``inner``; or ``reads`` and ``writes`` of rows x columns elements (top-k,
        gather, softmax, averaging).
    stage, layer
        As for a ``Step``; "kv": once after prefill; "decode": with each generated token. These two
        run in every layer, or in ``layer`` alone where that is not negative.
    rows, columns, inner, times : str
        Products such as ``"visual*heads"`` or ``"4*kept"`` of whole numbers and quantities, worked out from
        left to right; ``/`` divides and rounds up, ``//`` rounds down, and a divisor of 0 counts as 1, so
        that ``"visual/sequences"`` is one encoder sequence's share and ``"dropped/dropped"`` is 1 where
        anything was dropped, else 0. The quantities are
        original, visual (before this place's steps), kept (after them), dropped, merged, pool (of the
        ``Recycle``), text, tokens (visual + text), remaining (kept + merged + text), kv (entries that a
        KV head caches; of decoding, before each step's own joins), hidden, heads, kv_heads, head_size,
        query_width, kv_width, tower_hidden, tower_heads, tower_head_size, tower_tokens (one encoder
        sequence, extra tokens included), sequences (encoder sequences of the sample). kv stands at most
        once in all four and is not divided: a sum over heads and steps is all that is known of it.
    reads, writes, flops_per_element : int
        Of an elementwise operation, for each of its rows x columns elements.
    """

    kind: Literal["projection", "gemm", "attention", "elementwise"]
    stage: Place
    layer: int = -1
    rows: str = "1"
    columns: str = "1"
    inner: str = "1"
    times: str = "1"
    reads: int = 1
    writes: int = 0
    flops_per_element: int = 1

    def __post_init__(self) -> None:
        sizes = (self.rows, self.columns, self.inner, self.times)
        named = [size for size in sizes for word in re.split(r"[*/]+", size) if word.strip() == "kv"]
        if len(named) > 1 or any("/" in size for size in named):
            wanted = "name kv once and undivided: only its sum over steps is known"
            raise InputError("operation", "*".join(sizes), wanted)


@strict_dataclass
class KvPolicy:
    """Entries kept in each layer's cache after prefill: min(present, floor(share x present) + plus).

    Attributes
    ----------
    share, plus : tuple
        One entry for all layers, or one a layer.
    full_heads : Fraction
        Share of KV heads that keep everything (DuoAttention's retrieval heads).
    hold : bool
        Whether decoding keeps the cache at its budget: once it is full, an entry leaves for each new one.
    """

    share: tuple[Fraction, ...] = (Fraction(1),)
    plus: tuple[int, ...] = (0,)
    full_heads: Fraction = Fraction(0)
    hold: bool = False

    def __post_init__(self) -> None:
        for share in self.share:
            share_of_all(share, "kv share")
        share_of_all(self.full_heads, "full_heads")


@strict_dataclass
class TextEviction:
    """Eviction of generated tokens (AsymVLM): nothing below ``threshold_tokens`` of text, prompt included;
    past it the share ``retain`` of the generated tokens stays."""

    threshold_tokens: int
    retain: Fraction

    def __post_init__(self) -> None:
        check_at_least("threshold_tokens", self.threshold_tokens, 0)
        share_of_all(self.retain, "retain")


@strict_dataclass
class Schedule:
    """Tokens that a pruning method leaves, and the work of choosing them.

    Attributes
    ----------
    steps : tuple of Step
        Applied in the order of the data flow, and in the given order at one place.
    operations : tuple of Operation
    unfused : tuple of (stage, layer)
        Layers ("encoder" or "lm") whose attention weights must be stored, which no fused kernel does.
    kv : KvPolicy
    text_eviction : TextEviction or None
    masking : bool
        Scores are masked and nothing gets shorter: the steps save nothing.
    """

    steps: tuple[Step, ...] = ()
    operations: tuple[Operation, ...] = ()
    unfused: tuple[tuple[Literal["encoder", "lm"], int], ...] = ()
    kv: KvPolicy = KvPolicy()
    text_eviction: TextEviction | None = None
    masking: bool = False


# Schedules with their shares of the samples, which add up to 1.
Mixture = tuple[tuple[float, Schedule], ...]

IDENTITY = Schedule()


def keep_share(share: float | str | Fraction, stage: Stage = "lm", layer: int = 0, **more: object) -> Step:
    """Keep a share of the original visual tokens, rounded down unless ``rounding`` says otherwise."""
    return Step(stage=stage, layer=layer, share=share_of_all(share), **more)  # type: ignore[arg-type]


def keep_count(count: int, stage: Stage = "lm", layer: int = 0, **more: object) -> Step:
    """Keep a number of visual tokens, or all where there are fewer."""
    if count < 0:
        raise InputError("count", count, "give a number of tokens, 0 or more")
    return Step(stage=stage, layer=layer, plus=count, **more)  # type: ignore[arg-type]


def drop_count(count: int, stage: Stage = "lm", layer: int = 0, **more: object) -> Step:
    """Drop a number of the present visual tokens."""
    if count < 0:
        raise InputError("count", count, "give a number of tokens, 0 or more")
    return Step(stage=stage, layer=layer, share=Fraction(1), of="present", plus=-count, **more)  # type: ignore[arg-type]


def compose(first: Schedule, second: Schedule) -> Schedule:
    """Both methods at once, such as vision pruning before prefill and KV eviction after it.

    Raises
    ------
    InputError
        If both have a KV policy or both have text eviction.
    """
    default = KvPolicy()
    if first.kv != default and second.kv != default:
        raise InputError("method", "two KV policies", "combine a vision method with one KV method")
    if first.text_eviction and second.text_eviction:
        raise InputError("method", "two text evictions", "let one method evict text")
    return Schedule(
        steps=first.steps + second.steps,
        operations=first.operations + second.operations,
        unfused=tuple(dict.fromkeys(first.unfused + second.unfused)),
        kv=second.kv if first.kv == default else first.kv,
        text_eviction=first.text_eviction or second.text_eviction,
        masking=first.masking or second.masking,
    )
