"""Proof of a method: its reference run on a small model, beside the schedule that its cost file declares for it."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch

from asymsim.core.token_counts import TokenCounts
from asymsim.methods.base import make_method
from asymsim.methods.schedule import Schedule
from asymsim_reference.description import describe
from asymsim_reference.methods.base import ReferenceMethod, reference_method, reference_methods
from asymsim_reference.proof import SHAPES, TEXT_TOKENS, ProofCase
from asymsim_reference.run import Result, run
from asymsim_reference.tokens import Prompt
from asymsim_reference.vlm import SmallVlm
from oracles.small_models import Case


class Proof(NamedTuple):
    """Both sides of a proof case: the reference with the result of its run, and the schedule on the same model."""

    reference: ReferenceMethod
    result: Result
    schedule: Schedule
    case: Case


@cache
def small_vlm(shape: str) -> SmallVlm:
    """A small model of one of the ``SHAPES``."""
    return SmallVlm.random(SHAPES[shape], seed=7)


def prompt_for(vlm: SmallVlm, proof_case: ProofCase, seed: int = 11) -> Prompt:
    """Random patches, of three crops where the model takes crops, and random text."""
    source = torch.Generator().manual_seed(seed)
    size = (3 if vlm.shape.crops else 1, vlm.shape.patches, vlm.shape.patch_inputs)
    patches = torch.randn(size, generator=source, dtype=torch.float64)
    text = torch.randint(vlm.shape.vocabulary, (TEXT_TOKENS,), generator=source)
    return Prompt(patches, text, image_at=proof_case.image_at, answers=proof_case.answers)


@cache
def registered_proof(name: str, number: int) -> Proof:
    """The ``number``-th proof case of a registered method, run once for all tests."""
    return prove(name, reference_methods()[name].proof_cases[number])


def prove(name: str, proof_case: ProofCase) -> Proof:
    """Run the reference, and make the schedule and the token counts of the same run."""
    vlm = small_vlm(proof_case.shape)
    prompt = prompt_for(vlm, proof_case)
    reference = reference_method(name, **proof_case.reference)
    result = run(vlm, prompt, reference, proof_case.output_tokens)
    cost = proof_case.cost
    settings = dict(cost(reference, result) if callable(cost) else cost)
    model = describe(vlm)
    schedule = make_method(name, settings.pop("keep", None), settings).schedule(model)
    sequences, patches = prompt.patches.shape[:2]
    counts = TokenCounts(
        images=1,
        sequences=sequences,
        sequence_tokens=vlm.shape.extra_tokens + patches,
        patches=sequences * patches,
        window_pairs=0,
        projector_tokens=sequences * patches,
        visual_tokens=sequences * patches,
        text_tokens=TEXT_TOKENS,
        output_tokens=proof_case.output_tokens,
        batch_size=1,
    )
    return Proof(reference, result, schedule, Case(model, counts))
