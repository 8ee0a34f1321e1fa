"""Every method in the registry: what its reference does is what its cost file declares, to the integer."""

from __future__ import annotations

import pytest
import torch

from asymsim.core.operators.layout import PHASE_NAMES
from asymsim.estimator.operator_table import OperatorTable
from asymsim.methods.base import registered_methods
from asymsim_reference.methods.base import reference_methods
from asymsim_reference.run import Result
from oracles.method_proof import registered_proof
from oracles.run_schedule import run

NAMES = list(registered_methods())
PROOFS = [(name, number) for name, method in reference_methods().items() for number in range(len(method.proof_cases))]
PHASES = dict(zip(PHASE_NAMES, range(len(PHASE_NAMES)), strict=True))


def torch_flops(table: OperatorTable) -> dict[str, int]:
    return {phase: table.flops(code, "torch_flops") for phase, code in PHASES.items()}


def counted(result: Result) -> dict[str, int]:
    assert not result.flops.get(""), "some product ran outside all phases"
    return {phase: result.flops.get(phase, 0) for phase in PHASES}


def mean_entries(heads_by_layer: list[list[int]]) -> list[int]:
    """Entries a KV head holds on average, as the table has them."""
    return [sum(heads) // len(heads) for heads in heads_by_layer]


@pytest.mark.parametrize("name", NAMES)
def test_every_method_has_a_reference(name: str) -> None:
    assert name in reference_methods()
    assert reference_methods()[name].proof_cases
    assert reference_methods()[name].__doc__


def test_no_reference_without_a_cost() -> None:
    assert set(reference_methods()) == set(NAMES)


@pytest.mark.parametrize(("name", "number"), PROOFS)
def test_counts_and_flops(name: str, number: int) -> None:
    reference, result, schedule, case = registered_proof(name, number)
    declared = run(schedule, case)
    assert result.encoder == declared.tower
    assert result.encoder_mlp == declared.tower_mlp
    assert result.visual == declared.visual
    assert result.text == declared.text
    assert mean_entries(result.kv) == declared.kv
    assert mean_entries(result.final_kv) == declared.final_kv
    assert counted(result) == torch_flops(declared.table)
    # The reference gets the weights of those layers alone that the schedule declares unfused.
    stored = {("encoder", block) for block in reference.encoder_reads()} | {
        ("lm", layer) for layer in reference.lm_reads()
    }
    assert stored == set(schedule.unfused)


@pytest.mark.parametrize(("name", "number"), PROOFS)
def test_positions_are_original_and_rising(name: str, number: int) -> None:
    _, result, _, case = registered_proof(name, number)
    proof_case = reference_methods()[name].proof_cases[number]
    prompt = case.visual_tokens + case.load.text_tokens
    for positions in result.visual_positions:
        assert torch.equal(positions, positions.unique())
        assert not len(positions) or proof_case.image_at <= int(positions[0])
        assert not len(positions) or int(positions[-1]) < proof_case.image_at + case.visual_tokens
    for cache in result.caches:
        for positions in cache.positions:
            assert torch.equal(positions, positions.unique())
            assert not len(positions) or int(positions[-1]) < prompt + proof_case.output_tokens - 1
    assert torch.isfinite(result.logits).all()
