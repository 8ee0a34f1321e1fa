"""Where a cost file bounds or rounds and says so: the reference never costs more, and by how much less is known."""

from __future__ import annotations

import pytest

from asymsim_reference.proof import ProofCase
from oracles.method_proof import prove, small_vlm
from oracles.run_schedule import run


def selection_flops(name: str, proof_case: ProofCase) -> tuple[int, int]:
    """Counted in the reference, and declared."""
    _, result, schedule, case = prove(name, proof_case)
    declared = run(schedule, case)
    assert result.visual == declared.visual
    assert result.encoder == declared.tower
    return result.flops["selection"], sum(row["torch_flops"] for row in declared.selection)


@pytest.mark.parametrize("shape", ["cls", "no_cls"])
def test_flashvlm_counts_every_comparison_on_all_tokens(shape: str) -> None:
    counted, declared = selection_flops("flashvlm", ProofCase({"keep": 0.25}, {"keep": 0.25}, shape=shape))
    products, _ = selection_flops(
        "flashvlm",
        ProofCase({"keep": 0.25, "important_share": 1.0}, {"keep": 0.25, "important_share": 1.0}, shape=shape),
    )
    # 56 residual tokens lose 8 at a time until 8 are left: n/2 x n/2 x 64 each time.
    assert counted == products + sum(2 * (n // 2) ** 2 * 64 for n in range(56, 8, -8))
    assert declared == products + 6 * 2 * 32**2 * 64


# The last three leave less than one removal, in the crops 1, 5 and 7 of their 48.
@pytest.mark.parametrize("settings", [{"keep": 0.4}, {"keep": 0.99}, {"keep": 0.9}, {"keep": 0.86}])
@pytest.mark.parametrize("shape", ["cls", "no_cls", "crops"])
@pytest.mark.parametrize("at_once", [1, 3, 8])
def test_flashvlm_charges_a_started_removal(settings: dict[str, float], shape: str, at_once: int) -> None:
    settings = {**settings, "removed_at_once": at_once}
    counted, declared = selection_flops("flashvlm", ProofCase(settings, settings, shape=shape))
    assert counted <= declared


@pytest.mark.parametrize(("dominant", "contextual"), [(16, 7), (7, 4), (1, 1), (40, 5), (48, 3)])
def test_visionzip_charges_every_crop_as_the_largest(dominant: int, contextual: int) -> None:
    settings = {"dominant": dominant, "contextual": contextual}
    counted, declared = selection_flops("visionzip", ProofCase(settings, settings, shape="crops"))
    shares = [-(-count // 3) for count in (48 - dominant, min(contextual, 48 - dominant))]
    assert counted <= declared == 3 * 2 * shares[0] * shares[1] * 16


@pytest.mark.parametrize("name", ["desap", "vscan"])
@pytest.mark.parametrize("tokens", [4, 19, 31, 47])
def test_crops_that_share_unevenly_are_charged_as_the_largest(name: str, tokens: int) -> None:
    cost, reference = {"keep": tokens / 48}, {"keep": tokens / 48}
    if name == "vscan":
        # Nothing more leaves half-way.
        cost["second_share"] = 1.0
        reference = {"first": tokens / 48, "final": tokens / 48}
    counted, declared = selection_flops(name, ProofCase(cost, reference, shape="crops"))
    assert counted <= declared < 1.1 * counted


@pytest.mark.parametrize("plus", [False, True])
def test_prumerge_tells_one_token_for_all_dropped_from_the_outliers(plus: bool) -> None:
    """Three crops have three such tokens, so two more are compared, and two for the rounding, by 16 x 64."""
    proof_case = ProofCase(
        lambda _, result: {"keep": result.visual[0] / 48, "plus": plus}, reference={"plus": plus}, shape="crops"
    )
    counted, declared = selection_flops("prumerge", proof_case)
    assert 2 * 2 * 16 * 64 <= declared - counted <= 4 * 2 * 16 * 64


@pytest.mark.parametrize("crops", [5, 7, 60, 64, 100])
@pytest.mark.parametrize("shape", ["cls", "crops"])
def test_holov_charges_every_crop_as_the_largest(crops: int, shape: str) -> None:
    settings = {"keep": 0.25, "crops": crops}
    counted, declared = selection_flops("holov", ProofCase(settings, settings, shape=shape))
    tokens = 48 if shape == "crops" else 64
    assert counted <= declared == 2 * crops * (-(-tokens // crops)) ** 2 * small_vlm(shape).shape.hidden


@pytest.mark.parametrize("shape", ["cls", "no_cls", "crops"])
@pytest.mark.parametrize("entropy", [0.3, 0.6, 0.9, 1.0])
def test_flowcut_counts_between_differ_by_one_at_most(shape: str, entropy: float) -> None:
    proof_case = ProofCase({"keep": 0.2, "entropy_ratio": entropy}, {"keep": 0.2, "entropy": entropy}, shape=shape)
    _, result, schedule, case = prove("flowcut", proof_case)
    declared = run(schedule, case)
    assert all(abs(here - there) <= 1 for here, there in zip(result.encoder, declared.tower, strict=True))
    assert result.encoder[-2:] == declared.tower[-2:]
    assert result.visual == declared.visual


def test_flowcut_measures_its_own_entropy() -> None:
    """However the sample's attention is spread, the target is met at the last place."""
    _, result, schedule, case = prove("flowcut", ProofCase({"keep": 0.2}, {"keep": 0.2}))
    declared = run(schedule, case)
    assert result.encoder[0] == declared.tower[0]
    assert result.encoder[-1] == declared.tower[-1] == 1 + 12
    assert result.visual == declared.visual
    assert all(after <= before for before, after in zip(result.encoder, result.encoder[1:], strict=False))
