"""AsymVLM's score, gap and budgets, against cases worked out by hand, and its text eviction step by step."""

from __future__ import annotations

import math

import pytest
import torch

from asymsim_reference.budgets import linear_ratio, score_gap, threshold_ratio
from asymsim_reference.methods.asymvlm import AsymVLM
from asymsim_reference.proof import TEXT_TOKENS, ProofCase
from asymsim_reference.run import run
from asymsim_reference.scores import question_similarity
from oracles.method_proof import prompt_for, small_vlm

PROMPT = small_vlm("cls").shape.patches + TEXT_TOKENS


def tensor(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_score_by_hand() -> None:
    """Two visual tokens at right angles, three text tokens; the lengths of none of them matter."""
    visual = tensor(3, 0, 0, 5).view(2, 2)
    text = tensor(1, 0, 6, 8, -2, 0).view(3, 2)
    assert torch.allclose(question_similarity(visual, text), tensor(1.0, 0.8))
    # w weighs the features of the visual token after its length is taken out.
    assert torch.allclose(question_similarity(visual, text, tensor(0.5, 3.0)), tensor(0.5, 2.4))


@pytest.mark.parametrize(
    ("scores", "gap"),
    [
        # q = 2: second largest less second smallest.
        ((9.0, 1.0, 5.0, 2.0, 8.0, 3.0, 7.0, 4.0), 8.0 - 2.0),
        # q = floor(11/4) = 2.
        ((0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0), 9.0 - 1.0),
        ((4.0, 4.0, 4.0, 4.0), 0.0),
        ((5.0, 2.0), 3.0),
        ((5.0,), 0.0),
    ],
)
def test_gap(scores: tuple[float, ...], gap: float) -> None:
    assert score_gap(tensor(*scores)) == gap


def test_gap_of_nothing() -> None:
    with pytest.raises(ValueError, match="at least one"):
        score_gap(tensor())


@pytest.mark.parametrize(
    ("gap", "ratio"), [(0.0, 0.9), (0.199, 0.9), (0.2, 0.6), (0.249, 0.6), (0.25, 0.3), (math.inf, 0.3)]
)
def test_threshold_limits_belong_to_the_upper_class(gap: float, ratio: float) -> None:
    assert threshold_ratio(gap, 0.2, 0.25, 0.9, 0.6, 0.3) == ratio


@pytest.mark.parametrize(("gap", "ratio"), [(0.218, 0.5), (0.268, 0.4), (0.118, 0.7), (0.9, 0.25), (-1.0, 0.75)])
def test_linear_ratio(gap: float, ratio: float) -> None:
    assert linear_ratio(gap, 0.5, -2.0, 0.218, 0.25, 0.75) == pytest.approx(ratio, abs=1e-12)


@pytest.mark.parametrize("low_high", [(1e9, 2e9), (0.0, 1e9), (0.0, 0.0)])
def test_sample_gets_the_ratio_of_its_class(low_high: tuple[float, float]) -> None:
    vlm = small_vlm("cls")
    made = AsymVLM(gap_low=low_high[0], gap_high=low_high[1], conservative=0.75, moderate=0.5, aggressive=0.25)
    result = run(vlm, prompt_for(vlm, ProofCase()), made)
    assert made.ratio == {1e9: 0.75, 0.0: 0.5 if low_high[1] else 0.25}[low_high[0]]
    assert result.visual == [int(made.ratio * 64)] * 8
    assert made.gap > 0


@pytest.mark.parametrize(("threshold", "retain"), [(0, 0.5), (TEXT_TOKENS + 2, 0.5), (TEXT_TOKENS, 0.0), (90, 0.0)])
@pytest.mark.parametrize("steps", [1, 2, 9])
def test_text_eviction(threshold: int, retain: float, steps: int) -> None:
    """Prompt entries all stay; of the generated ones those past the threshold thin out; all layers hold the same."""
    vlm = small_vlm("cls")
    made = AsymVLM(budget="uniform", keep=0.5, threshold_tokens=threshold, retain=retain)
    result = run(vlm, prompt_for(vlm, ProofCase()), made, steps)
    generated = steps - 1
    free = max(0, threshold - TEXT_TOKENS)
    left = generated if generated <= free else free + math.floor(retain * (generated - free))
    assert result.final_kv == [[32 + TEXT_TOKENS + left] * 2] * 8
    held = [positions for cache in result.caches for positions in cache.positions]
    assert all(torch.equal(positions, held[0]) for positions in held)
    assert int((held[0] < PROMPT).sum()) == 32 + TEXT_TOKENS


def test_whole_answers_leave() -> None:
    vlm = small_vlm("cls")
    answers = ((4, 7), (7, 9), (10, 13))
    prompt = prompt_for(vlm, ProofCase(answers=answers))
    result = run(vlm, prompt, AsymVLM(budget="uniform", keep=1.0, history_retain=0.6))
    positions = set(result.caches[0].positions[0].tolist())
    gone = [not positions.intersection(range(64 + start, 64 + stop)) for start, stop in answers]
    whole = [positions.issuperset(range(64 + start, 64 + stop)) for start, stop in answers]
    assert [a or b for a, b in zip(gone, whole, strict=True)] == [True] * 3
    # Of 8 tokens at most 4 may stay: without the longest that is one answer or two of 3 and 2, never more.
    kept = sum(stop - start for (start, stop), stays in zip(answers, whole, strict=True) if stays)
    assert 0 < kept <= 4
    # All questions stay.
    questions = set(range(TEXT_TOKENS)) - {token for start, stop in answers for token in range(start, stop)}
    assert positions.issuperset(64 + token if token >= 3 else token for token in questions)
