"""Each study on a small setting: its table, its figure and the claim that it is there for."""

from __future__ import annotations

import csv
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from asymsim.catalogue.accuracy import Accuracy
from asymsim.reporting.plots.style import png
from asymsim.util.errors import InputError
from oracles.study_modules import STUDIES, imported_studies

NUMBERED = sorted(path for path in STUDIES.glob("[0-9][0-9]_*.py") if path.name >= "04")


@pytest.fixture(scope="module")
def study() -> Iterator[dict[str, ModuleType]]:
    with imported_studies(NUMBERED, "output") as modules:
        yield modules


def drawn(module: ModuleType, rows: list[dict]) -> None:
    assert png(module.draw(rows), 40).startswith(b"\x89PNG")
    assert all(line and "\n" not in line for line in module.findings(rows))


def test_numbers_are_consecutive_and_every_study_is_documented() -> None:
    assert [int(path.name[:2]) for path in NUMBERED] == list(range(4, 4 + len(NUMBERED)))
    page = (STUDIES.parent / "docs" / "studies.md").read_text()
    for path in NUMBERED:
        _, _, after = page.partition(f"## `{path.stem}`\n")
        assert re.match(r"\n\S.*?\?.*?```text\n\S.*?\n```", after, flags=re.DOTALL), path.stem


def test_the_page_says_what_was_printed_and_keeps_what_was_not_run(
    study: dict[str, ModuleType], tmp_path: Path
) -> None:
    spec = importlib.util.spec_from_file_location("write_findings", STUDIES / "write_findings.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = "# Studies\n\n## `04_one`\n\nWhy?\n\n```text\nold\n```\n\n## `05_two`\n\nHow?\n\n```text\nkept\n```\n"
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "findings.txt").write_text("saves 50.0 %\n" + "word " * 40 + "\n")
    made = module.filled(page, tmp_path)
    assert "saves 50.0 %\nword word" in made
    assert "old" not in made
    assert made.endswith("```text\nkept\n```\n")
    assert max(map(len, made.splitlines())) <= module.WIDTH
    assert module.filled(made, tmp_path) == made


def test_equal_means_save_equal_flops_however_many_tokens_enter(study: dict[str, ModuleType]) -> None:
    module = study["savings_by_budget"]
    rows = module.rows(methods=("visionzip", "fastv", "vscan", "snapkv"), budgets=(0.3, 0.6))
    drawn(module, rows)
    at = {row["method"]: row for row in rows if row["budget"] == 0.3}
    # Attention's squares differ by less than a point; the linear work is the same.
    for name in ("fastv", "vscan"):
        assert at[name]["prefill_flops_saved"] == pytest.approx(at["visionzip"]["prefill_flops_saved"], abs=0.01)
    assert at["visionzip"]["entering_share"] == at["visionzip"]["last_layer_share"] == at["visionzip"]["kept_share"]
    assert at["fastv"]["last_layer_share"] < at["fastv"]["kept_share"] < at["fastv"]["entering_share"] == 1
    assert at["vscan"]["kept_share"] < at["vscan"]["entering_share"] < 1
    assert at["snapkv"]["prefill_flops_saved"] == 0
    assert at["snapkv"]["max_batch_size"] > 0
    assert at["visionzip"]["throughput_gained"] > at["visionzip"]["tpot_saved"] > 0


def test_accuracy_stands_beside_the_savings_of_its_own_budget(study: dict[str, ModuleType], tmp_path: Path) -> None:
    module = study["savings_by_accuracy"]
    own = tmp_path / "own.csv"
    own.write_text(
        "method,model,benchmark,meaning,budget,accuracy,dense,source\n"
        "holov,llava-1.5-7b,mine,count,64/576,50,80,notebook\n"
        "desap,llava-1.5-7b,mine,count,64/576,70,80,notebook\n"
        "h2o,llava-1.5-7b,mine,text,0.5,70,80,notebook\n"
    )
    rows = module.rows(str(own), published=())
    drawn(module, rows)
    assert [(row["method"], row["accuracy_kept"]) for row in rows] == [("holov", 50 / 80), ("desap", 70 / 80)]
    # Both keep 64 tokens; the better chooser takes longer, so neither beats the other.
    assert rows[0]["prefill_flops_saved"] == rows[1]["prefill_flops_saved"]
    assert rows[0]["ttft_saved"] > rows[1]["ttft_saved"]
    assert module.front(rows) == rows
    with pytest.raises(InputError, match="prunes visual tokens"):
        module.rows(published=())


def test_masking_saves_nothing(study: dict[str, ModuleType]) -> None:
    entry = Accuracy(
        method="fastv", model="llava-1.5-7b", benchmark="b", meaning="mean", budget=0.5, accuracy=1.0, dense=2.0,
        source="s", variant="masking",
    )  # fmt: skip
    (row,) = study["savings_by_accuracy"].rows(published=(entry,))
    assert row["prefill_flops_saved"] == 0
    assert row["kv_saved"] == 0


def test_shares_add_up_and_text_takes_the_cache_over(study: dict[str, ModuleType]) -> None:
    module = study["asymmetry"]
    rows = module.rows(("llava-1.5-7b",), outputs=(2, 64, 2048), turns=(1, 8))
    drawn(module, rows)
    for row in rows:
        for quantity, _ in module.QUANTITIES:
            assert sum(row[f"{quantity}_{part}"] for part in module.PARTS) == pytest.approx(1)
    short, _, long, first, eighth = rows
    assert short["kv_entries_vision"] == pytest.approx(576 / (576 + 32 + 1))
    assert short["prefill_flops_vision"] > 0.9
    assert long["kv_entries_vision"] < 0.5 < long["kv_entries_answer"]
    assert long["prefill_flops_vision"] == short["prefill_flops_vision"]
    assert long["decode_s_own"] > 0.5 > long["batch_decode_s_own"]
    assert short["text_half_kv_saved"] == first["text_half_kv_saved"] == 0
    assert long["text_half_kv_saved"] > long["vision_half_kv_saved"]
    assert eighth["text_half_kv_saved"] > eighth["vision_half_kv_saved"]


def test_flops_by_token_are_all_flops_to_the_first_token(study: dict[str, ModuleType]) -> None:
    from asymsim import Scenario, estimate

    result = estimate(Scenario(model="llava-1.5-7b"), operators=True)
    parts = study["asymmetry"].prefill_flops(result.operators, 576, 64)
    assert sum(parts.values()) == result.flops.vision_tower + result.flops.projector + result.flops.prefill


def test_small_models_lose_sooner_and_batches_pay_selection_back(study: dict[str, ModuleType]) -> None:
    module = study["when_pruning_loses"]
    rows = module.rows(("llava-1.5-7b", "internvl3-1b"), ("h100_sxm",), (1, 32), ("desap", "visionzip", "tome"))
    drawn(module, rows)
    kept = {(row["model"], row["batch_size"], row["method"]): row["kept_share"] for row in rows}
    assert kept["internvl3-1b", 1, "desap"] is None
    assert kept["internvl3-1b", 32, "desap"] > 0.5
    assert kept["llava-1.5-7b", 1, "visionzip"] > kept["llava-1.5-7b", 1, "desap"]
    paid = {(row["model"], row["batch_size"], row["method"]): row["paid_share_of_dense_ttft"] for row in rows}
    assert paid["internvl3-1b", 1, "desap"] > 0.1 > paid["llava-1.5-7b", 1, "desap"] > paid["llava-1.5-7b", 32, "desap"]
    notes = {row["method"]: row["note"] for row in rows if row["model"] == "internvl3-1b" and row["batch_size"] == 1}
    assert "never" in notes["desap"]
    assert "not for this model" in notes["tome"]


def test_counted_figures_reproduce(study: dict[str, ModuleType]) -> None:
    module = study["published_beside_ours"]
    rows = module.rows()
    drawn(module, rows)
    judged = [row for row in rows if row["kind"] == "counted" and row["status"] != "underdetermined"]
    assert sum(row["status"] == "reproduced" for row in judged) >= 0.95 * len(judged)


def test_pruning_moves_prefill_down_the_slope_and_leaves_decode_products(study: dict[str, ModuleType]) -> None:
    module = study["roofline"]
    rows = module.rows(batch_sizes=(1,))
    drawn(module, rows)
    by = {(row["method"], row["phase"], row["operator"]): row for row in rows}
    dense, pruned = by["none", "prefill", "ffn_up"], by["visionzip", "prefill", "ffn_up"]
    assert (dense["bound"], pruned["bound"]) == ("compute", "memory")
    assert 1 - pruned["seconds"] / dense["seconds"] < 0.8 * (1 - pruned["flops"] / dense["flops"])
    for field in ("flops", "bytes", "seconds"):
        assert by["none", "decode", "ffn_up"][field] == by["visionzip", "decode", "ffn_up"][field]
    # Predicted times never beat the hardware by more than what a cache can hide.
    assert all(0 < row["share_of_roof"] < 1.1 for row in rows)


def test_largest_batch_within_limits_and_requests_a_dollar(study: dict[str, ModuleType], tmp_path: Path) -> None:
    module = study["gpus_at_equal_slo"]
    prices = tmp_path / "prices.csv"
    prices.write_text("gpu,usd_per_hour,source\nh100_sxm,3.6,an offer\n")
    rows = module.rows(str(prices), gpus=("h100_sxm", "l4"))
    drawn(module, rows)
    dense, _, pruned = rows[:3]
    assert dense["requests_per_usd"] == pytest.approx(1000 * dense["requests_per_s"])
    assert pruned["batch_size"] > dense["batch_size"]
    assert pruned["requests_per_s"] > 1.5 * dense["requests_per_s"]
    scenario = module.Scenario(model="llava-1.5-7b", gpu="h100_sxm", dtype="fp16", batch_size=dense["batch_size"] + 1)
    beyond = module.estimate(scenario)
    assert beyond.latency.ttft_s.p50 > 1 or beyond.latency.tpot_s.p50 > 0.05 or not beyond.memory.fits
    assert all(row["batch_size"] is None and row["requests_per_usd"] is None for row in rows[3:])
    assert any("no prices" in line for line in module.findings(module.rows(gpus=("l4",))))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gpu,usd_per_hour,source\nh100_sxm,0,x\n", "row 2: usd_per_hour"),
        ("gpu,usd_per_hour,source\nh100_sxm,nan,x\n", "row 2: usd_per_hour"),
        ("gpu,usd_per_hour,source\nh100_sxm,1,x\nnone,1,x\n", "row 3: gpu"),
        ("gpu,usd_per_hour,source\nh100_sxm,1,\n", "row 2: source"),
        ("gpu,usd_per_hour,source\nh100_sxm,1\n", "3 columns"),
        ("gpu,price\n", "first line"),
        ("", "first line"),
    ],
)
def test_bad_prices_are_refused_in_one_line(study: dict[str, ModuleType], tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "prices.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=said) as refusal:
        study["gpus_at_equal_slo"].read_prices(str(path))
    assert "\n" not in str(refusal.value)


def test_windows_stop_growth_and_text_eviction_slows_it(study: dict[str, ModuleType]) -> None:
    module = study["dialogue_cache"]
    rows = module.rows(("gemma-3-12b-it",), turns=(1, 8, 16))
    drawn(module, rows)
    cache = {(row["method"], row["turn"]): row["cache_bytes"] for row in rows}
    assert cache["streamingllm, window 512", 8] == cache["streamingllm, window 512", 16]
    assert cache["asymvlm, text", 1] == cache["unpruned", 1]
    for turn in (8, 16):
        assert cache["h2o", turn] == cache["streamingllm", turn]
        assert cache["h2o", turn] < cache["asymvlm, text", turn] < cache["unpruned", turn]
    # Of 15 answers of 150 tokens half are gone; layers with a window of 1024 tokens are full either way.
    ttft = {(row["method"], row["turn"]): row["ttft_s"] for row in rows}
    assert ttft["h2o", 16] > ttft["unpruned", 16] > ttft["asymvlm, text", 16]
    score = {row["method"]: row["mmdu_score_kept"] for row in rows}
    assert score["asymvlm, text"] == 1
    assert score["asymvlm, text"] > score["h2o"] > score["streamingllm"]
    assert score["streamingllm, window 512"] is None


def test_pruned_models_sustain_more_and_never_need_more_gpus(study: dict[str, ModuleType]) -> None:
    module = study["capacity_what_if"]
    rows = module.rows(module.CASES[1:2], seeds=(0,), rates=(0.75, 1.0, 1.5), requests=500)
    drawn(module, rows)
    dense, half, ninth = (rows[at] for at in (0, 3, 6))
    assert dense["sustained_per_s"] < half["sustained_per_s"] < ninth["sustained_per_s"]
    assert dense["gpus"] >= half["gpus"] >= ninth["gpus"]
    assert dense["ttft_p90_s"] > half["ttft_p90_s"] > ninth["ttft_p90_s"]
    assert [row["slo_share"] >= 0.9 for row in rows[:3]] == [True, True, False]
    assert (dense["gpus"] - 1) * dense["sustained_per_s"] < dense["load_per_s"]
    # What the search calls sustained is; five per cent more is not.
    scenario = module.Scenario(model="qwen2.5-vl-7b", gpu="h100_sxm", engine="vllm")
    for factor, within in ((1.0, True), (1.05, False)):
        found = module.served(module.CASES[1], scenario, factor * dense["sustained_per_s"], 500)
        assert (module.met(found) >= 0.9) is within


def test_one_command_writes_the_table_the_figure_and_the_findings(
    study: dict[str, ModuleType], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = study["roofline"]
    again = [tmp_path / "a", tmp_path / "b"]
    for folder in again:
        assert module.run(str(module.__file__), module.rows, module.draw, module.findings, ["--out", str(folder)]) == 0
    for name in ("roofline.csv", "roofline.png", "findings.txt"):
        assert (again[0] / name).read_bytes() == (again[1] / name).read_bytes()
    with (again[0] / "roofline.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(module.rows())
    assert (again[0] / "findings.txt").read_text().splitlines()[0] in capsys.readouterr().out


def test_a_wrong_input_is_one_line_and_exit_code_2(
    study: dict[str, ModuleType], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = study["gpus_at_equal_slo"]
    arguments = ["--prices", str(tmp_path / "none.csv"), "--out", str(tmp_path / "out")]
    made = module.run(str(module.__file__), module.rows, module.draw, module.findings, arguments, module.options)
    assert made == 2
    assert capsys.readouterr().err.count("\n") == 1
