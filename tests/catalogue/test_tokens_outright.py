"""Encoder work of visual tokens given outright, at the edges of each image rule, by hand."""

from __future__ import annotations

import pytest

from asymsim.catalogue.hf.llava_next import PINPOINTS
from asymsim.catalogue.images.anyres import AnyRes
from asymsim.catalogue.images.base import ImageRule
from asymsim.catalogue.images.dynamic import DynamicResolution
from asymsim.catalogue.images.fixed import FixedTile
from asymsim.catalogue.images.hd import Phi3Hd, Phi4Hd
from asymsim.catalogue.images.idefics import SplitTiles
from asymsim.catalogue.images.llama4 import GlobalAndTiles
from asymsim.catalogue.images.mllama import PaddedTiles
from asymsim.catalogue.images.pixtral import LongestEdge
from asymsim.catalogue.images.slices import AdaptiveSlices
from asymsim.catalogue.images.tiling import AspectTiles
from asymsim.util.errors import InputError

FIXED = FixedTile(image_size=336, patch_size=14, extra_tokens=1, visual_tokens=576)
ANYRES = AnyRes(tile_size=336, patches_per_side=24, extra_tokens=1, pinpoints=PINPOINTS)
TILES = AspectTiles(tile_size=448, patches_per_tile=1024, tile_tokens=256)
SPLIT = SplitTiles(tile_size=364, longest_edge=4 * 364, patches_per_tile=676, tile_tokens=169)
EDGE = LongestEdge(longest_edge=1024, patch_size=16)
DYNAMIC = DynamicResolution(patch_size=14, merge_size=2, min_pixels=3136, max_pixels=12845056, window_size=112)
GLOBAL = GlobalAndTiles(image_size=336, patch_size=14, extra_tokens=1, most_tiles=16, tile_tokens=144)
PADDED = PaddedTiles(image_size=560, patch_size=14, tiles=4)
PHI3 = Phi3Hd(num_crops=4)
PHI4 = Phi4Hd()
SLICES = AdaptiveSlices()

# [CLS] of a sequence; of PaddedTiles four of them, and seven more of padding each.
BESIDE_PATCHES = {"FixedTile": 1, "AnyRes": 1, "AspectTiles": 1, "GlobalAndTiles": 1, "Phi3Hd": 1, "PaddedTiles": 32}
# Rule, visual tokens given: sequences, tokens of each, rows at the projector's end.
KNOWN: list[tuple[ImageRule, int, tuple[int, int, int]]] = [
    (FIXED, 1, (1, 577, 576)),
    (FIXED, 576, (1, 577, 576)),
    (FIXED, 577, (2, 577, 1152)),
    # 576 of the whole image; 48 rows of 24 and a newline, 72 of 24, 48 of 48 of the tiles.
    (ANYRES, 576 + 48 * 25, (3, 577, 3 * 576)),
    (ANYRES, 576 + 48 * 25 + 1, (4, 577, 4 * 576)),
    (ANYRES, 576 + 72 * 25, (4, 577, 4 * 576)),
    (ANYRES, 576 + 72 * 25 + 1, (5, 577, 5 * 576)),
    (ANYRES, 576 + 48 * 49, (5, 577, 5 * 576)),
    (ANYRES, 576 + 48 * 49 + 1, (10, 577, 10 * 576)),
    (TILES, 256, (1, 1025, 256)),
    # Two tiles come with a thumbnail.
    (TILES, 257, (3, 1025, 768)),
    (TILES, 768, (3, 1025, 768)),
    (TILES, 769, (4, 1025, 1024)),
    (TILES, 13 * 256, (13, 1025, 13 * 256)),
    (TILES, 13 * 256 + 1, (14, 1025, 14 * 256)),
    # The longer edge is always four tiles, the other one to four; and the whole image.
    (SPLIT, 1, (5, 676, 5 * 169)),
    (SPLIT, 5 * 169 + 1, (9, 676, 9 * 169)),
    (SPLIT, 17 * 169, (17, 676, 17 * 169)),
    (SPLIT, 17 * 169 + 1, (22, 676, 22 * 169)),
    # Rows of columns + 1: 2 x 3 are 6, 2 x 4 are 8, 3 x 4 are 12.
    (EDGE, 1, (1, 1, 1)),
    (EDGE, 6, (1, 4, 4)),
    (EDGE, 7, (1, 6, 6)),
    (EDGE, 9, (1, 9, 9)),
    (EDGE, 64 * 65, (1, 4096, 4096)),
    (EDGE, 64 * 65 + 1, (2, 4096, 8192)),
    # At least 3136 pixels are four tokens of 28 x 28; then 2 x 3, 3 x 3 and 5 x 7.
    (DYNAMIC, 1, (1, 16, 4)),
    (DYNAMIC, 5, (1, 24, 6)),
    (DYNAMIC, 7, (1, 32, 8)),
    (DYNAMIC, 33, (1, 4 * 35, 35)),
    (GLOBAL, 144, (1, 577, 144)),
    (GLOBAL, 145, (3, 577, 432)),
    (GLOBAL, 433, (4, 577, 576)),
    # 1,600 patches and [CLS] are padded to 1,608 in each of four tiles.
    (PADDED, 4 * 1601, (1, 4 * 1608, 4 * 1601)),
    (PADDED, 4 * 1601 + 1, (2, 4 * 1608, 8 * 1601)),
    # One crop 2 x 144 + 1 + 2 x 12, one by two 3 x 144 + 1 + 2 x 12, two by one a row of 12 more.
    (PHI3, 313, (5, 577, 313)),
    (PHI3, 314, (5, 577, 457)),
    (PHI3, 458, (5, 577, 469)),
    (PHI3, 782, (6, 577, 782)),
    # A crop is 16 x 16 tokens: 16 rows of 17, a separator, and 16 rows of 17 of the whole image.
    (PHI4, 545, (2, 1024, 545)),
    (PHI4, 546, (3, 1024, 801)),
    (PHI4, 802, (3, 1024, 817)),
    (PHI4, 818, (4, 1024, 1057)),
    (SLICES, 64, (1, 1024, 64)),
    (SLICES, 65, (3, 1024, 192)),
    (SLICES, 193, (4, 1024, 256)),
]


@pytest.mark.parametrize(
    ("rule", "wanted", "work"), KNOWN, ids=[f"{type(rule).__name__} {wanted}" for rule, wanted, _ in KNOWN]
)
def test_encoder_work_at_the_edges(rule: ImageRule, wanted: int, work: tuple[int, int, int]) -> None:
    tokens = rule.tokens_for(wanted)
    assert (tokens.sequences, tokens.sequence_tokens, tokens.projector_tokens) == work
    assert tokens.visual_tokens == wanted
    beside = BESIDE_PATCHES.get(type(rule).__name__, 0)
    assert tokens.patches == tokens.sequences * (tokens.sequence_tokens - beside)


@pytest.mark.parametrize(
    ("wanted", "pairs"),
    # Windows of 4 x 4 tokens of four patches: 2 x 2, 2 x 3 and 3 x 3 are one; 5 x 7 are of 4 x 4, 4 x 3, 1 x 4, 1 x 3.
    [(1, 16**2), (5, 24**2), (7, 32**2), (33, 16 * (16**2 + 12**2 + 4**2 + 3**2))],
)
def test_pairs_within_windows(wanted: int, pairs: int) -> None:
    assert DYNAMIC.tokens_for(wanted).window_pairs == pairs


@pytest.mark.parametrize(
    ("rule", "size"),
    [
        (FIXED, (336, 336)),
        (ANYRES, (672, 672)),
        (TILES, (448, 448)),
        (SPLIT, (1456, 1456)),
        (EDGE, (1024, 1024)),
        (DYNAMIC, (1024, 1024)),
        (GLOBAL, (672, 672)),
        (PADDED, (560, 560)),
        (PHI3, (672, 672)),
        (PHI4, (896, 896)),
        (SLICES, (896, 896)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_typical_images(rule: ImageRule, size: tuple[int, int]) -> None:
    assert rule.default_size() == size


def test_sides_up_to_two_to_the_twentieth() -> None:
    assert EDGE.tokens(2**20, 2**20).visual_tokens == 64 * 65
    with pytest.raises(InputError, match="from 1 to 1048576"):
        EDGE.tokens(2**20 + 1, 5)


def test_phi4_shrinks_to_no_less_than_ten_pixels() -> None:
    # One crop; 438 of its 448 rows are padding, of which 31 of 32 patch rows are dropped.
    assert PHI4.tokens(10, 448).visual_tokens == 1 * 17 + 1 + 16 * 17
    with pytest.raises(InputError, match="too elongated"):
        PHI4.tokens(9, 448)


def test_an_area_of_exactly_the_bound_is_kept() -> None:
    bounded = DynamicResolution(patch_size=14, merge_size=2, min_pixels=4 * 784, max_pixels=9 * 784)
    assert bounded.resize(84, 84) == (84, 84)
    # 3.2 x 3 tokens round to as many as there may be, although the image itself is larger.
    assert bounded.resize(90, 84) == (84, 84)
    assert bounded.resize(56, 56) == (56, 56)
    # 4 x 3 tokens are too many: 112 x 84 shrinks by the root of 12 / 9, to 3.46 x 2.60 tokens.
    assert bounded.resize(112, 84) == (84, 56)
    # 1 x 3 are too few: 28 x 84 grows by the root of 4 / 3, to 1.15 x 3.46.
    assert bounded.resize(28, 84) == (56, 112)


def test_a_shrunken_grid_of_anyres() -> None:
    """LLaVA-OneVision: beyond 1.1 times the side of three by three tiles the grid is interpolated."""
    rule = AnyRes(tile_size=384, patches_per_side=27, pinpoints=((1536, 1536), (1152, 1152)), max_tiles=9)
    # 81 x 81 patches are the root of 9 tiles' side: kept. 108 x 108 are 4/3 of it, and become 81 x 81.
    assert rule.tokens(1152, 1152).visual_tokens == 729 + 81 * 82
    assert rule.tokens(1536, 1536).visual_tokens == 729 + 81 * 82
    assert rule.tokens(1536, 1536).sequences == 17
    looser = AnyRes(tile_size=384, patches_per_side=27, pinpoints=((1536, 1152),), max_tiles=9)
    # 108 x 81 are the root of 4/3, 1.155 times: 108 / 1.1547 = 93.5, 81 / 1.1547 = 70.1.
    assert looser.tokens(1536, 1152).visual_tokens == 729 + 93 * 71
