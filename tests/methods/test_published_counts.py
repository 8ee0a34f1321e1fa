"""The integers that papers and released code publish, method by method."""

from __future__ import annotations

import math

import pytest

from asymsim.methods.base import make_method
from asymsim.util.errors import InputError, UnsupportedError
from oracles.run_schedule import Run, resized, run
from oracles.small_models import CASES

# LLaVA-1.5: one image of 576 tokens, 24 encoder and 32 language-model layers.
LLAVA = resized(CASES["cls"], 1152)
ONE_IMAGE = {"images": 1, "visual_tokens": 576}


def on_llava(name: str, keep: float | None = None, **settings: object) -> Run:
    return run(make_method(name, keep, settings).schedule(LLAVA.model), LLAVA, **ONE_IMAGE)


def recycled(dropped: int) -> int:
    """SparseVLM: of D dropped, int(0.3 D) + 1 are merged into int((int(0.3 D) + 1) / 10) + 1."""
    return (int(0.3 * dropped) + 1) // 10 + 1


@pytest.mark.parametrize(
    ("retained", "kept"),
    [(192, (300, 200, 110)), (128, (303, 110, 36)), (96, (238, 48, 26)), (64, (66, 30, 17))],
)
def test_sparsevlm_tables(retained: int, kept: tuple[int, int, int]) -> None:
    expected, present = [576], 576
    for count in kept:
        present = count + recycled(present - count)
        expected.append(present)
    visual = on_llava("sparsevlm", retained / 576).visual
    assert visual == [expected[0]] * 3 + [expected[1]] * 4 + [expected[2]] * 9 + [expected[3]] * 16
    assert on_llava("sparsevlm", counts=kept).visual == visual


def test_sparsevlm_between_the_tables() -> None:
    low, middle, high = (on_llava("sparsevlm", kept / 576).visual[16:] for kept in (128, 160, 192))
    assert sum(low) < sum(middle) < sum(high)


@pytest.mark.parametrize("ratio", [0.4, 0.5, 0.6])
def test_pyramiddrop_stages(ratio: float) -> None:
    expected = [int(576 * ratio**stage) for stage in range(4)]
    visual = on_llava("pyramiddrop", ratio=ratio).visual
    assert visual == [count for count in expected for _ in range(8)]


def test_pyramiddrop_default_halves() -> None:
    assert on_llava("pyramiddrop").visual[::8] == [576, 288, 144, 72]


@pytest.mark.parametrize("keep", [0.26, 0.4, 0.61, 0.95])
def test_pyramiddrop_mean_is_keep(keep: float) -> None:
    visual = on_llava("pyramiddrop", keep).visual
    assert sum(visual) / 32 / 576 == pytest.approx(keep, abs=1 / 576)


def test_pyramiddrop_cannot_keep_less_than_its_first_stage() -> None:
    with pytest.raises(InputError, match=r"at least 0\.25"):
        on_llava("pyramiddrop", 1 / 9)
    assert on_llava("pyramiddrop", 1 / 9, layers=(2, 4, 8)).visual[2] < 200


@pytest.mark.parametrize("retained", [64, 128, 192])
def test_visionzip_totals(retained: int) -> None:
    visual = on_llava("visionzip", retained / 576).visual
    assert visual == [retained] * 32


@pytest.mark.parametrize(("dominant", "contextual"), [(54, 10), (108, 20), (162, 30)])
def test_visionzip_split(dominant: int, contextual: int) -> None:
    by_share = on_llava("visionzip", (dominant + contextual) / 576)
    by_count = on_llava("visionzip", dominant=dominant, contextual=contextual)
    assert by_share.visual == by_count.visual
    # The merging compares every token that is not dominant with every contextual one.
    assert len(by_share.products(576 - dominant, contextual, 16)) == 1
    assert by_share.selection == by_count.selection


@pytest.mark.parametrize("retained", [160, 320, 640])
def test_visionzip_on_crops(retained: int) -> None:
    case = CASES["crops"]
    assert set(run(make_method("visionzip", retained / 2880).schedule(case.model), case).visual) == {retained}


@pytest.mark.parametrize("rate", [0.25, 0.5, 0.75, 0.9])
def test_fastv_rounds(rate: float) -> None:
    visual = on_llava("fastv", 1 - rate).visual
    assert visual == [576] * 2 + [round((1 - rate) * 576)] * 30


def test_vscan_on_llava() -> None:
    assert on_llava("vscan").visual == [96] * 16 + [32] * 16
    assert on_llava("vscan", 5 / 6).visual == [576] * 16 + [384] * 16


def test_vscan_on_qwen() -> None:
    case = CASES["merged"]
    visual = run(make_method("vscan", 1 / 9).schedule(case.model), case).visual
    assert visual == [int(500 / 6)] * 14 + [int(500 / 18)] * 14
    assert sum(visual) / 28 / 500 == pytest.approx(1 / 9, abs=1 / 500)


@pytest.mark.parametrize("retained", [64, 128, 192])
@pytest.mark.parametrize("entropy", [0.5, 0.9, 0.97])
def test_flowcut_follows_the_released_recursion(retained: int, entropy: float) -> None:
    result = on_llava("flowcut", retained / 576, entropy_ratio=entropy)
    present, expected = 576, []
    for layer in range(24):
        expected.append(present + 1)
        remaining = 21 - layer
        if remaining >= 0 and remaining % 2 == 0:
            leaving = (present - retained) / math.sqrt(remaining) * (1 - entropy**2) if remaining else math.inf
            present = max(retained, present - round(leaving)) if remaining else retained
    # Rounding once instead of at every pruning moves a count by one.
    assert all(abs(here - there) <= 1 for here, there in zip(result.tower, expected, strict=True))
    assert result.tower[22:] == [retained + 1] * 2
    assert result.visual == [retained] * 32


def test_flowcut_prunes_crops_in_the_language_model_too() -> None:
    case = CASES["crops"]
    result = run(make_method("flowcut", 320 / 2880).schedule(case.model), case)
    assert result.tower[-1] == 160 + 1
    assert result.visual == [800] * 2 + [320] * 30


@pytest.mark.parametrize("merges", [0, 2, 16, 40])
def test_tome_merges_a_block(merges: int) -> None:
    result = on_llava("tome", r=merges)
    present, attention, mlp = 576, [], []
    for _ in range(24):
        attention.append(present + 1)
        # With [CLS] protected at most half of the others merge.
        present -= min(merges, present // 2)
        mlp.append(present + 1)
    assert result.tower == attention
    assert result.tower_mlp == mlp
    assert result.visual == [present] * 32


def test_tome_by_share() -> None:
    result = on_llava("tome", 0.5)
    assert result.tower_mlp == [576 * (48 - block - 1) // 48 + 1 for block in range(24)]


def test_folder_in_the_block_before_the_last() -> None:
    result = on_llava("folder", 1 / 3)
    assert result.tower == [577] * 23 + [193]
    assert result.tower_mlp == [577] * 22 + [193] * 2
    assert result.visual == [192] * 32


def test_prumerge_shares() -> None:
    assert on_llava("prumerge").visual == [32] * 32
    assert on_llava("prumerge", plus=True).visual == [144] * 32
    assert on_llava("prumerge", plus=True).visual == [144] * 32
    assert on_llava("prumerge", 0.5, plus=True).visual == [288] * 32
    # One of the 32 is the merger of all dropped tokens.
    assert len(on_llava("prumerge").products(31, 576, 64)) == 1


def test_hired_keeps_a_fifth_of_all_crops() -> None:
    case = CASES["crops"]
    assert run(make_method("hired").schedule(case.model), case).visual == [576] * 32


def test_hired_needs_crops() -> None:
    with pytest.raises(UnsupportedError, match="one crop"):
        on_llava("hired")


@pytest.mark.parametrize("name", ["holov", "flashvlm", "desap"])
def test_single_points_before_the_language_model(name: str) -> None:
    for retained in (64, 128, 192):
        assert on_llava(name, retained / 576).visual == [retained] * 32


def test_dart_after_two_layers() -> None:
    assert on_llava("dart").visual == [576] * 2 + [128] * 30
