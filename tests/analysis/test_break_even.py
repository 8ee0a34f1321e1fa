"""The break-even keep: below it pruning saves time, right above it pruning does not."""

from __future__ import annotations

import csv
import io

import pytest

from asymsim import Scenario, estimate
from asymsim.analysis.break_even import break_even, break_even_table, pruning_cost
from asymsim.analysis.budget_search import GRID
from asymsim.analysis.comparison import compare
from asymsim.cli.app import run

LLAVA = Scenario(model="llava-1.5-7b")
DENSE = estimate(LLAVA)


@pytest.mark.parametrize("method", ["fastv", "visionzip", "desap", "sparsevlm", "asymvlm"])
def test_one_step_above_the_break_even_nothing_is_saved(method: str) -> None:
    found = break_even(LLAVA, method, {}, DENSE)
    assert found.keep is not None
    assert found.kept_share is not None
    below = estimate(Scenario(model="llava-1.5-7b", method=method, keep=found.keep))
    assert below.savings.ttft > 0
    if found.keep < 1:
        above = estimate(Scenario(model="llava-1.5-7b", method=method, keep=found.keep + 1 / GRID))
        assert above.savings.ttft <= 0


def test_costly_selection_breaks_even_earlier() -> None:
    shares = {name: break_even(LLAVA, name, {}, DENSE).keep or 0.0 for name in ("visionzip", "flowcut")}
    assert shares["flowcut"] < shares["visionzip"] < 1


def test_masking_never_saves() -> None:
    found = break_even(LLAVA, "fastv", {"fastv.masking": True}, DENSE)
    assert (found.keep, found.note) == (None, "never saves TTFT")


def test_what_cannot_run_says_why() -> None:
    assert break_even(LLAVA, "hired", {}, DENSE).note.startswith("not for this model: ")
    text = Scenario(model="llava-1.5-7b", num_images=0)
    assert break_even(text, "fastv", {}, estimate(text)).note == "not for this load: it has no visual tokens"


def test_a_row_for_each_gpu_batch_and_method() -> None:
    calls: list[tuple[int, int]] = []
    names, gpus = ["fastv", "dart"], ["h100_sxm", "l40s"]
    rows = break_even_table(LLAVA, names, gpus, [1, 8], {}, lambda done, total: calls.append((done, total)))
    assert [(row["gpu"], row["batch_size"], row["method"]) for row in rows] == [
        (gpu, batch, name) for gpu in gpus for batch in (1, 8) for name in names
    ]
    assert calls == [(done, 8) for done in range(9)]
    one = break_even(LLAVA, "fastv", {}, DENSE)
    assert rows[0]["break_even_keep"] == one.keep


def test_a_method_pays_for_selection_and_stored_weights() -> None:
    paid = pruning_cost(Scenario(model="llava-1.5-7b", method="fastv", keep=0.5))
    assert paid.selection_s > 0
    assert paid.unfused_s > 0
    assert pruning_cost(Scenario(model="llava-1.5-7b", method="visionzip", keep=0.5)).unfused_s > 0
    assert pruning_cost(LLAVA).selection_s == pruning_cost(LLAVA).unfused_s == 0


def test_a_method_that_loses_says_what_it_pays() -> None:
    rows = compare(LLAVA, ["flowcut"], budget=1.0)
    assert rows[1]["ttft_saved"] < 0
    assert rows[1]["slower"].startswith("slower to the first token than unpruned; selection takes")
    assert compare(LLAVA, ["visionzip"], budget=0.2)[1]["slower"] == ""


def test_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ("compare", "--model", "llava-1.5-7b", "--methods", "fastv", "--gpu", "h100_sxm,l40s", "--break-even", "1,8")
    assert run(argv) == 0
    shown = capsys.readouterr().out
    for text in ("fastv", "l40s", "batch 8"):
        assert text in shown
    assert run((*argv, "--format", "csv")) == 0
    assert len(list(csv.DictReader(io.StringIO(capsys.readouterr().out)))) == 4


@pytest.mark.parametrize("batches", ["0", "1.5", "x", "-1", "99999999999"])
def test_wrong_batch_sizes(batches: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(("compare", "--model", "llava-1.5-7b", "--break-even", batches)) == 2
    assert capsys.readouterr().err.count("\n") == 1
