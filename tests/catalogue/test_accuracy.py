"""Published accuracy: true to what was printed, sourced, and read with the same checks as a user's own table."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from asymsim.catalogue.accuracy import Accuracy, published_accuracy, read_accuracy, read_paper
from asymsim.catalogue.load import load_model, model_names
from asymsim.cli.app import run
from asymsim.methods.base import registered_methods
from asymsim.util.errors import InputError

HEADER = "method,model,benchmark,meaning,budget,accuracy,dense,source"
ROW = "fastv,llava-1.5-7b,VQAv2,mean,0.5,78.0,78.5,our run"
PAPER = """
name = "A paper"
arxiv = "2401.00001"
[[tables]]
where = "table 1"
model = "llava-1.5-7b"
benchmark = "GQA"
meaning = "count"
dense = "61.9"
figures = [{ method = "holov", budget = "64/576", accuracy = "55.3" }]
"""


def own(tmp_path: Path, *lines: str) -> list[Accuracy]:
    path = tmp_path / "own.csv"
    path.write_text("\n".join(lines) + "\n")
    return read_accuracy(str(path))


def test_all_published_names_are_ours_and_all_sources_are_named() -> None:
    entries = published_accuracy()
    assert {entry.method for entry in entries} <= set(registered_methods())
    assert {entry.model for entry in entries} <= set(model_names())
    for entry in entries:
        assert re.fullmatch(r"\w+, arXiv \d{4}\.\d{5}, .{10,}", entry.source)
        assert entry.accuracy >= 0
        assert 0 < entry.budget < 1


def test_nothing_printed_is_held_twice_or_lost() -> None:
    entries = published_accuracy()
    keys = [(e.method, e.model, e.benchmark, e.variant, e.budget, e.source) for e in entries]
    assert len(set(keys)) == len(keys)
    # 5 benchmarks of 9, 15 adaptive, 18 of text eviction; 21 + 8 + 9 shares, 3 of POPE, 5 of GQA.
    assert len(entries) == 45 + 15 + 18 + 21 + 8 + 9 + 3 + 5


@pytest.mark.parametrize(
    ("method", "budget", "task", "share"),
    [
        ("desap", 64 / 576, "POPE", 85.8 / 85.9),
        ("sparsevlm", 64 / 576, "POPE", 75.1 / 85.9),
        ("asymvlm", 0.5, "MMDU", 1.0),
        ("fastv", 0.5, "DocVQA", 77.30 / 85.91),
    ],
)
def test_shares_kept_are_those_of_the_paper(method: str, budget: float, task: str, share: float) -> None:
    (found,) = (
        entry
        for entry in published_accuracy()
        if (entry.method, entry.benchmark) == (method, task) and entry.budget == pytest.approx(budget)
    )
    assert found.share_kept == pytest.approx(share)


def test_token_counts_that_budgets_are_of_are_the_models_own() -> None:
    """Fixed-size encoders take one count of tokens an image."""
    rule = load_model("llava-1.5-7b").image_rule
    assert rule is not None
    assert {e.visual_tokens for e in published_accuracy() if e.model == "llava-1.5-7b"} == {
        rule.tokens(336, 336).visual_tokens
    }


def test_own_table_in_any_order_with_optional_columns(tmp_path: Path) -> None:
    (first, second) = own(
        tmp_path,
        "scale,visual_tokens," + HEADER,
        "10,," + "mine,my-model,MMDU,text,1/3,7.5,,lab book 3",
        ",576," + ROW,
    )
    assert (first.method, first.budget, first.dense, first.share_kept, first.scale) == ("mine", 1 / 3, None, None, 10)
    assert (second.visual_tokens, second.scale) == (576, 100)
    assert second.share_kept == pytest.approx(78.0 / 78.5)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ((HEADER, ROW, ROW.replace("0.5", "1.5")), "row 3: budget"),
        ((HEADER, ROW.replace("0.5", "0")), "row 2: budget"),
        ((HEADER, ROW.replace("0.5", "1/0")), "row 2: budget"),
        ((HEADER, ROW.replace("0.5", "nan")), "row 2: budget"),
        ((HEADER, ROW.replace("78.0", "-1")), "row 2: accuracy"),
        ((HEADER, ROW.replace("78.0", "nan")), "row 2: accuracy"),
        ((HEADER, ROW.replace("78.0", "101")), "row 2: accuracy"),
        ((HEADER, ROW.replace("78.0", "")), "row 2: accuracy"),
        ((HEADER, ROW.replace("78.5", "0")), "row 2: dense"),
        ((HEADER, ROW.replace("mean", "average")), "row 2: meaning"),
        ((HEADER, ROW.replace("our run", " ")), "row 2: source"),
        ((HEADER, ROW + ",more"), "must have 8 columns"),
        ((HEADER,), "no row below"),
        ((HEADER.replace(",source", ""), ROW), "lacks source"),
        ((HEADER.replace("budget", "buget"), ROW), "did you mean budget"),
        ((HEADER + ",method", ROW + ",fastv"), "twice"),
        (("",), "lacks"),
        ((HEADER, '"' + ROW), "is no CSV"),
    ],
)
def test_bad_own_table_is_refused_in_one_line(tmp_path: Path, lines: tuple[str, ...], said: str) -> None:
    with pytest.raises(InputError, match=said) as refusal:
        own(tmp_path, *lines)
    assert "\n" not in str(refusal.value)


def test_own_table_is_listed_after_the_published(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "own.csv"
    path.write_text(f"{HEADER}\n{ROW}\n")
    assert run(["list", "accuracy", "--table", str(path), "--format", "csv"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(published_accuracy()) + 1
    assert "our run" in lines[-1]
    path.write_text(f"{HEADER}\n{ROW.replace('0.5', '2')}\n")
    assert run(["list", "accuracy", "--table", str(path)]) == 2
    said = capsys.readouterr()
    assert not said.out
    assert said.err.count("\n") == 1
    assert "row 2: budget" in said.err


def test_missing_file_and_binary_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_bytes(b"\xff\xfe\x00")
    for name in ("own.csv", "none.csv"):
        with pytest.raises(InputError, match="accuracy"):
            read_accuracy(str(tmp_path / name))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("55.3", "fifty", "figure 1: accuracy"),
        ("64/576", "640/576", "figure 1: budget"),
        ('meaning = "count"', 'meaning = "tokens"', "figure 1: meaning"),
        ('benchmark = "GQA"\n', "", "benchmark"),
        ("arxiv", "arxive", "arxiv"),
        ("[[tables]]", "[[tables", "cannot be read"),
    ],
)
def test_bad_paper_is_refused_in_one_line(tmp_path: Path, old: str, new: str, said: str) -> None:
    path = tmp_path / "paper.toml"
    path.write_text(PAPER)
    assert read_paper(path)[0].budget == pytest.approx(1 / 9)
    path.write_text(PAPER.replace(old, new))
    with pytest.raises(InputError, match=said) as refusal:
        read_paper(path)
    assert "\n" not in str(refusal.value)
