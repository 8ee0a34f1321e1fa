"""Settings under which a method's reference and its cost file must agree to the integer.

Where a budget depends on the sample, the reference runs first and the cost file gets what it realised. Where the cost
file rounds or bounds (its docstring says so), the sizes are such that nothing is rounded, and why is said here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import torch

from asymsim.core.token_counts import TokenCounts
from asymsim.methods.base import make_method
from asymsim.methods.schedule import Schedule
from asymsim_reference.description import describe
from asymsim_reference.methods.base import ReferenceMethod, reference_method
from asymsim_reference.run import Result, run
from asymsim_reference.tokens import Prompt
from asymsim_reference.vlm import SmallVlm
from asymsim_reference.weights import Shape
from oracles.small_models import Case

TEXT_TOKENS = 14
Settings = Mapping[str, Any]

SHAPES = {
    "cls": Shape(),
    "no_cls": Shape(cls=False, heads=4, kv_heads=4),
    "crops": Shape(crops=True, patches=16),
}


@dataclass(frozen=True)
class Twin:
    """One pair of settings.

    Attributes
    ----------
    cost, reference : mapping
        Settings of the two sides; ``cost`` may be made from what the reference did.
    vlm : str
        Name in ``SHAPES``.
    image_at : int
        Text tokens before the image.
    output_tokens : int
    answers : tuple
        Previous answers in the prompt.
    """

    cost: Settings | Callable[[ReferenceMethod, Result], Settings] = field(default_factory=dict)
    reference: Settings = field(default_factory=dict)
    vlm: str = "cls"
    image_at: int = 3
    output_tokens: int = 6
    answers: tuple[tuple[int, int], ...] = ()


@cache
def vlm_named(name: str) -> SmallVlm:
    """A small model of one of the ``SHAPES``."""
    return SmallVlm.random(SHAPES[name], seed=7)


def prompt_for(vlm: SmallVlm, twin: Twin, seed: int = 11) -> Prompt:
    """Random patches, of three crops where the model takes crops, and random text."""
    source = torch.Generator().manual_seed(seed)
    size = (3 if vlm.shape.crops else 1, vlm.shape.patches, vlm.shape.patch_inputs)
    patches = torch.randn(size, generator=source, dtype=torch.float64)
    text = torch.randint(vlm.shape.vocabulary, (TEXT_TOKENS,), generator=source)
    return Prompt(patches, text, image_at=twin.image_at, answers=twin.answers)


@cache
def pair(name: str, number: int) -> tuple[ReferenceMethod, Result, Schedule, Case]:
    """The ``number``-th twin of a method, run once for all tests."""
    return both(name, TWINS[name][number])


def both(name: str, twin: Twin) -> tuple[ReferenceMethod, Result, Schedule, Case]:
    """Run the reference, and make the schedule and the load of the same run."""
    vlm = vlm_named(twin.vlm)
    prompt = prompt_for(vlm, twin)
    reference = reference_method(name, **twin.reference)
    result = run(vlm, prompt, reference, twin.output_tokens)
    settings = dict(twin.cost(reference, result) if callable(twin.cost) else twin.cost)
    model = describe(vlm)
    schedule = make_method(name, settings.pop("keep", None), settings).schedule(model)
    sequences, patches = prompt.patches.shape[:2]
    load = TokenCounts(
        images=1,
        sequences=sequences,
        sequence_tokens=vlm.shape.extra_tokens + patches,
        patches=sequences * patches,
        window_pairs=0,
        projector_tokens=sequences * patches,
        visual_tokens=sequences * patches,
        text_tokens=TEXT_TOKENS,
        output_tokens=twin.output_tokens,
        batch_size=1,
    )
    return reference, result, schedule, Case(model, load)


def _realised_share(reference: ReferenceMethod, result: Result) -> Settings:
    return {"keep": result.visual[0] / reference.vlm.shape.patches}


def _realised_layers(reference: Any, result: Result) -> Settings:
    return {"layer_shares": tuple(reference.shares)}


def _same(*twins: Settings, **more: Any) -> tuple[Twin, ...]:
    return tuple(Twin(cost=settings, reference=settings, **more) for settings in twins)


def _everywhere(*twins: Twin) -> tuple[Twin, ...]:
    """On the model with [CLS] and on the one without, whose query heads have a KV head each."""
    return tuple(replace(twin, vlm=vlm) for twin in twins for vlm in ("cls", "no_cls"))


_UNIFORM = {"keep": 0.4, "budget": "uniform"}
_TEXT_TOWER = {"text_tower_layers": 2, "text_tower_width": 128, "text_tower_tokens": 9, "joint_size": 24}
_ADAPTIVE = {"budget": "uniform"}

TWINS: dict[str, tuple[Twin, ...]] = {
    "none": (*_everywhere(Twin()), Twin(vlm="crops"), Twin(image_at=0, output_tokens=1)),
    "fastv": (
        *_everywhere(*_same({}, {"keep": 0.29, "layer": 3}, {"keep": 0.0}, {"keep": 1.0}, {"masking": True})),
        Twin(vlm="crops"),
    ),
    "asymvlm": (
        *_everywhere(*_same(_UNIFORM, {**_UNIFORM, "keep": 0.0})),
        # The gap of the sample decides r, which the cost file then gets.
        Twin(cost=lambda made, _: {**_ADAPTIVE, "keep": made.ratio}),  # type: ignore[attr-defined]
        Twin(
            cost=lambda made, _: {**_ADAPTIVE, "keep": made.ratio},  # type: ignore[attr-defined]
            reference={"budget": "linear", "slope": -0.5},
        ),
        # Nothing generated stays; a share of all of it, of what follows the third step, and of what would follow
        # the last. Of 5, 7 or 12 steps the cache is not as long as its mean on most.
        *_same({**_UNIFORM, "threshold_tokens": 0, "retain": 0.0}),
        *_same(
            *({**_UNIFORM, "threshold_tokens": TEXT_TOKENS, "retain": retain} for retain in (0.3, 0.5, 0.99)),
            output_tokens=8,
        ),
        *_everywhere(
            *_same(
                *({**_UNIFORM, "threshold_tokens": TEXT_TOKENS + 3, "retain": retain} for retain in (0.0, 0.4, 0.75)),
                output_tokens=13,
            )
        ),
        *_same({**_UNIFORM, "threshold_tokens": TEXT_TOKENS + 5, "retain": 0.5}),
        # With a single token nothing is decoded.
        *_same({**_UNIFORM, "threshold_tokens": 0, "retain": 0.5}, output_tokens=1),
        # Of four answers of two tokens two stay.
        Twin(
            cost={**_UNIFORM, "history_tokens": 8, "history_retain": 0.5},
            reference={**_UNIFORM, "history_retain": 0.5},
            answers=((4, 6), (6, 8), (9, 11), (11, 13)),
        ),
        # Eviction sets in later where answers have left: 10 tokens of text, so after the fourth step.
        Twin(
            cost={**_UNIFORM, "history_tokens": 8, "history_retain": 0.5, "threshold_tokens": 14, "retain": 0.4},
            reference={**_UNIFORM, "history_retain": 0.5, "threshold_tokens": 14, "retain": 0.4},
            answers=((4, 6), (6, 8), (9, 11), (11, 13)),
            output_tokens=12,
        ),
    ),
    # Of three crops each keeps as many: here, in VisionZip, VScan and FlashVLM (test_bounds has others).
    "desap": (
        *_everywhere(*_same({"keep": 0.25, **_TEXT_TOWER}, {"keep": 1 / 9, **_TEXT_TOWER, "text_tower_layers": 0})),
        *_same({"keep": 0.25, **_TEXT_TOWER}, vlm="crops"),
    ),
    # Pools of 8, 7 and 5 tokens; of a single dropped token; where nothing is dropped, and where everything is.
    "sparsevlm": _everywhere(
        *_same(
            *({"counts": counts, "layers": (1, 3, 5)} for counts in ((40, 20, 6), (63, 61, 0), (64, 64, 1), (0, 0, 0)))
        )
    ),
    "pyramiddrop": _everywhere(*_same({"ratio": 0.5}, {"ratio": 0.4, "layers": (1, 2, 6)})),
    "visionzip": (
        *_everywhere(
            *_same({"dominant": 27, "contextual": 5}),
            Twin(cost={"keep": 0.5}, reference={"dominant": 27, "contextual": 5}),
            # 27/32 of 16 is no whole number; the two add up to 16 all the same.
            Twin(cost={"keep": 0.25}, reference={"dominant": 14, "contextual": 2}),
        ),
        *_same({"dominant": 15, "contextual": 6}, vlm="crops"),
    ),
    "hired": (*_same({}, {"keep": 0.7, "full_image_share": 0.2}, vlm="crops"),),
    "prumerge": _everywhere(
        Twin(cost=_realised_share),
        Twin(
            cost=lambda made, result: {**_realised_share(made, result), "plus": True},
            reference={"plus": True},
        ),
    ),
    # From odd counts on, and where nothing is left to merge.
    "tome": (
        *_everywhere(*_same({"r": 4}, {"r": 6}, {"keep": 0.5}, {"r": 1}, {"r": 0}, {"r": 99}, {"keep": 1.0})),
        *_same({"r": 4}, {"r": 3}, {"keep": 0.1}, vlm="crops"),
    ),
    "folder": (
        *_everywhere(*_same(*({"keep": keep} for keep in (0.34, 0.1, 0.0, 1.0)), {"keep": 0.75, "blocks_from_end": 1})),
        *_same({"keep": 0.34}, vlm="crops"),
    ),
    # e is set, since the schedule has one mean value; it rounds once where the method rounds at each pruning, with the
    # same result for these (test_bounds has others).
    "flowcut": (
        *_everywhere(Twin(cost={"keep": 0.25, "entropy_ratio": 0.8}, reference={"keep": 0.25, "entropy": 0.8})),
        Twin(
            cost={"keep": 0.25, "entropy_ratio": 0.7},
            reference={"keep": 0.25, "entropy": 0.7},
            vlm="crops",
        ),
    ),
    # Contiguous crops of one size: sixteen of four tokens each, and sixteen of three across the encoder's crops.
    "holov": (*_everywhere(*_same({"keep": 0.25}, {"keep": 0.6, "crops": 8})), *_same({"keep": 0.25}, vlm="crops")),
    # The mean over the layers is keep: 1.5 keep N tokens, then a third of them in the second half.
    "vscan": (
        *_everywhere(Twin(cost={"keep": 1 / 3}, reference={"first": 1 / 2, "final": 1 / 6})),
        Twin(cost={"keep": 1 / 3}, reference={"first": 1 / 2, "final": 1 / 6}, vlm="crops"),
    ),
    "dart": _everywhere(*_same({}, {"keep": 0.7, "layer": 3, "image_pivots": 3, "text_pivots": 2}, {"keep": 0.0})),
    # Without a diverse half: what that costs is bounded, not counted (test_bounds).
    "flashvlm": (
        *_everywhere(*_same({"keep": 0.25, "important_share": 1.0})),
        *_same({"keep": 0.25, "important_share": 1.0}, vlm="crops"),
    ),
    # The cost file takes all text to follow the image.
    "vl_cache": (
        *_everywhere(Twin(cost={"keep": 0.3}, reference={"layer_shares": (0.3,) * 8}, image_at=0)),
        Twin(cost=_realised_layers, reference={"keep": 0.3}, image_at=0),
    ),
    "h2o": _everywhere(*_same({}, {"keep": 0.5, "recent_share": 0.2}, {"keep": 1.0}, {"keep": 0.0}, output_tokens=8)),
    # 79 entries are reached at the first of seven steps, or 82 at the fourth.
    "streamingllm": _everywhere(
        *_same({"window": 30}, {"keep": 0.25}, {"window": 75}, {"window": 78}, output_tokens=8)
    ),
    "snapkv": _everywhere(*_same({"keep": 0.25, "window": 5}, {"capacity": 40, "window": 8, "pooling": 4})),
    "pyramidkv": _everywhere(*_same({"keep": 0.3, "window": 5}, {"capacity": 36, "window": 8})),
    "duoattention": _everywhere(*_same({"retrieval_heads": 0.5, "sinks": 4, "recent": 20})),
}
