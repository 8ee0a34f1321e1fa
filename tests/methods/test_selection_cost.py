"""What selection itself costs, against published overheads and counts made by hand."""

from __future__ import annotations

import pytest

from asymsim.methods.base import make_method
from oracles.run_schedule import Run, resized, run
from oracles.small_models import CASES

CASE = CASES["cls"]
N, TEXT, HIDDEN, BATCH = 1152, 60, 64, 2


def with_method(name: str, keep: float | None = None, case: str = "cls", **settings: object) -> Run:
    chosen = CASES[case]
    return run(make_method(name, keep, settings).schedule(chosen.model), chosen)


def unfused(result: Run, phase: str) -> set[int]:
    """Layers whose attention weights are stored."""
    rows = (row for row in result.operators if row["phase"] == phase and row["kind"] == "unfused_attention")
    return {layer for row in rows for layer in range(row["layer"], row["layer"] + row["layers"])}


@pytest.mark.parametrize(
    ("name", "encoder", "lm"),
    [
        ("asymvlm", set(), set()),
        ("desap", {23}, set()),
        ("sparsevlm", set(), {2, 6, 15}),
        ("pyramiddrop", set(), set()),
        ("visionzip", {22}, set()),
        ("prumerge", set(), set()),
        ("tome", set(), set()),
        ("flowcut", set(range(22)), set()),
        ("holov", {22}, set()),
        ("vscan", {6, 22}, set()),
        ("dart", set(), set()),
        ("folder", {22}, set()),
        ("flashvlm", {22}, set()),
        ("fastv", set(), {1}),
        ("snapkv", set(), set()),
        ("h2o", set(), set(range(32))),
    ],
)
def test_layers_that_store_their_weights(name: str, encoder: set[int], lm: set[int]) -> None:
    result = with_method(name)
    assert unfused(result, "vision_tower") == encoder
    assert unfused(result, "prefill") == lm


def test_hired_reads_the_first_and_the_penultimate_layer() -> None:
    assert unfused(with_method("hired", case="crops"), "vision_tower") == {0, 22}


def test_windowed_encoders_are_read_where_they_attend_to_everything() -> None:
    assert unfused(with_method("visionzip", case="merged"), "vision_tower") == {23}
    assert unfused(with_method("desap", case="merged"), "vision_tower") == {31}


def test_desap_overhead_as_published() -> None:
    """2.7e7 = 2 x 576 x 30 x 768, for 30 text tokens in the joint space."""
    case = resized(CASE, 1152)
    schedule = make_method("desap", 1 / 9, {"text_tower_tokens": 30}).schedule(case.model)
    (product,) = run(schedule, case, images=1, visual_tokens=576, batch_size=1).products(576, 30, 768)
    assert product["flops"] == pytest.approx(2.7e7, rel=0.02)


def test_desap_counts_all_of_it() -> None:
    result = with_method("desap", 0.25)
    kept, rows, sequences = N // 4, 577, 2
    tower = (
        2
        * BATCH
        * (
            3 * rows * sequences * HIDDEN**2  # q, v and out projection
            + 2 * rows**2 * HIDDEN * sequences  # softmax(Q Q^T) V
            + rows * sequences * HIDDEN * 768  # joint space
        )
    )
    text = 2 * BATCH * (12 * 77 * 12 * 768**2 + 12 * 2 * 77**2 * 768 + 77 * 768**2)
    alignment = 2 * BATCH * (N * 77 + N + sequences * 77) * 768
    merging = 2 * BATCH * sequences * (N - kept) // 2 * kept // 2 * HIDDEN
    assert sum(row["flops"] for row in result.selection) == tower + text + alignment + merging


def test_pyramiddrop_recomputes_projections_of_all_current_tokens() -> None:
    result = with_method("pyramiddrop", ratio=0.5)
    flops = 0
    for present in (N, N // 2, N // 4):
        tokens = present + TEXT
        flops += 2 * BATCH * (tokens * HIDDEN * 3 * HIDDEN + tokens * HIDDEN)
    assert sum(row["flops"] for row in result.selection) == flops


def test_sparsevlm_chooses_raters_once() -> None:
    result = with_method("sparsevlm")
    assert len(result.products(N, TEXT, HIDDEN)) == 1


def test_sparsevlm_clusters_within_three_tenths_of_the_dropped() -> None:
    """Of the 552 that leave 1152 first, floor(0.3 x 552) + 1 = 166 are compared with one another."""
    products = [(row["m"], row["n"]) for row in with_method("sparsevlm").selection if row["kind"] == "gemm"][1:]
    present, pools = N, []
    for kept in (2 * 300, 2 * 200, 2 * 110):
        pool = 3 * (present - kept) // 10 + 1
        present = kept + pool // 10 + 1
        pools.append((pool, pool))
    assert products == pools
    assert pools[0] == (166, 166)


def test_dart_compares_with_eight_pivots() -> None:
    (product,) = with_method("dart").products(8, N, HIDDEN)
    assert product["flops"] == 2 * BATCH * 8 * N * HIDDEN
    assert product["layer"] == 2


@pytest.mark.parametrize("merges", [1, 8])
def test_tome_compares_halves_in_every_block(merges: int) -> None:
    result = with_method("tome", r=merges)
    present = [576 - block * merges for block in range(24)]
    flops = sum(2 * BATCH * 2 * ((n + 1) // 2) * (n // 2) * 16 for n in present)
    assert sum(row["flops"] for row in result.selection) == flops


@pytest.mark.parametrize("settings", [{"r": 0}, {"keep": 1.0}])
def test_tome_costs_nothing_where_nothing_is_merged(settings: dict[str, float]) -> None:
    assert with_method("tome", **settings).selection == []  # type: ignore[arg-type]


def test_tome_stops_matching_when_one_token_is_left() -> None:
    """576 tokens are halved ten times: 576, 288, 144, 72, 36, 18, 9, 5, 3, 2, 1."""
    products = [row for row in with_method("tome", r=10_000).selection if row["kind"] == "gemm"]
    assert [(row["layer"], row["m"], row["n"]) for row in products][-4:] == [(6, 5, 4), (7, 3, 2), (8, 2, 1), (9, 1, 1)]


def test_folder_folds_no_further_than_one_token() -> None:
    assert with_method("folder", keep=0.0).visual == [2] * 32
    assert not [row for row in with_method("folder", keep=1.0).selection if row["kind"] == "gemm"]


def test_holov_compares_within_sixteen_crops() -> None:
    result = with_method("holov")
    assert sum(row["flops"] for row in result.selection) == 2 * BATCH * 16 * (N // 16) ** 2 * HIDDEN


@pytest.mark.parametrize("crops", [1, 5, 7, 16, 5000])
def test_holov_charges_all_crops_as_the_largest(crops: int) -> None:
    largest = -(-N // crops)
    result = with_method("holov", crops=crops)
    assert sum(row["flops"] for row in result.selection) == 2 * BATCH * crops * largest**2 * HIDDEN


@pytest.mark.parametrize(
    ("name", "one", "all_crops", "product"),
    [
        ("visionzip", {"dominant": 54, "contextual": 10}, {"dominant": 270, "contextual": 50}, (522, 10, 16)),
        ("visionzip", {"keep": 1 / 9}, {"keep": 1 / 9}, (522, 10, 16)),
        ("vscan", {"keep": 1 / 9}, {"keep": 1 / 9}, (480, 96, 64)),
        ("desap", {"keep": 1 / 9}, {"keep": 1 / 9}, (512, 64, 64)),
        # 64 with the token for all dropped, and five times 64.
        ("prumerge", {"keep": 65 / 576}, {"keep": 321 / 2880}, (64, 576, 64)),
    ],
)
@pytest.mark.parametrize("parts", ["sequences", "images"])
def test_crops_are_compared_within_each(
    name: str, one: dict[str, float], all_crops: dict[str, float], product: tuple[int, int, int], parts: str
) -> None:
    """Five crops, or images, cost five times one's pairwise products; across all of them it would be 25 times."""
    case = CASES["crops"]
    single = run(make_method(name, None, one).schedule(case.model), case, sequences=1, visual_tokens=576)
    several = run(
        make_method(name, None, all_crops).schedule(case.model), case, **{"images": 1, "sequences": 1, parts: 5}
    )
    (own,), (whole,) = single.products(*product), several.products(*product)
    assert own["groups"] == BATCH
    assert whole["groups"] == 5 * BATCH
    for quantity in ("flops", "read_bytes", "write_bytes"):
        assert whole[quantity] == 5 * own[quantity]


def test_flashvlm_projects_everything_besides() -> None:
    result = with_method("flashvlm", important_share=1.0)
    projections = 2 * BATCH * N * (64 * 96 + 96 * 64)
    assert sum(row["flops"] for row in result.selection) == projections + 2 * BATCH * N * TEXT * HIDDEN


@pytest.mark.parametrize("name", ["visionzip", "desap", "holov", "vscan", "flashvlm"])
def test_without_cls_all_rows_are_averaged(name: str) -> None:
    """The read-out of one layer: heads x tokens with [CLS], heads x tokens x tokens without."""
    case = CASES["no_cls"]
    reads = [row for row in with_method(name, case="no_cls").selection if row["kind"] == "elementwise"]
    weights = 2 * BATCH * 4 * case.tower_tokens**2
    assert any(row["elementwise_flops"] == weights for row in reads)
    reads = [row for row in with_method(name).selection if row["kind"] == "elementwise"]
    assert any(row["elementwise_flops"] == 2 * BATCH * 4 * 577 for row in reads)
