"""Every operator that a method adds, written out by hand for one prompt of odd numbers.

The shapes are those of the papers and released code that the methods name; FLOPs, element-wise work and bytes of each
method are their sums. Hidden sizes, heads and KV heads of tower and language model all differ, so that no width can
stand for another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from asymsim.catalogue.images.anyres import AnyRes
from asymsim.catalogue.model import LanguageModel, Layer, Linear, Projector, VisionTower, VlmModel
from asymsim.core.token_counts import TokenCounts
from asymsim.methods.base import make_method, registered_methods
from oracles.run_schedule import Run, run
from oracles.small_models import Case

# Tower: 12 blocks; three crops of 45 patches and [CLS]. Language model: 8 layers, three query heads a KV head.
CROPS, PATCHES, TOWER_TOKENS = 3, 45, 46
TOWER_HIDDEN, TOWER_HEADS, HEAD = 48, 3, 16
HIDDEN, HEADS, KV_HEADS, LAYERS = 80, 6, 2, 8
QUERY_WIDTH, KV_WIDTH = HEADS * HEAD, 2 * KV_HEADS * HEAD
VISUAL, TEXT = CROPS * PATCHES, 7
PROMPT = VISUAL + TEXT
DECODE_STEPS, BATCH, BYTES = 4, 2, 2

CASE = Case(
    VlmModel(
        name="odd",
        model_type="llava",
        vision_tower=VisionTower(
            layer_kinds=(
                Layer(
                    hidden_size=TOWER_HIDDEN,
                    heads=TOWER_HEADS,
                    kv_heads=TOWER_HEADS,
                    head_size=HEAD,
                    intermediate_size=128,
                    gated=False,
                ),
            ),
            layer_pattern=(0,) * 12,
            patch=Linear(inputs=27, outputs=TOWER_HIDDEN),
            extra_tokens=1,
            encoder_tokens_per_visual=1,
        ),
        projector=Projector(linears=(Linear(inputs=TOWER_HIDDEN, outputs=96), Linear(inputs=96, outputs=HIDDEN))),
        language_model=LanguageModel(
            hidden_size=HIDDEN,
            vocab_size=1000,
            layer_kinds=(
                Layer(hidden_size=HIDDEN, heads=HEADS, kv_heads=KV_HEADS, head_size=HEAD, intermediate_size=128),
            ),
            layer_pattern=(0,) * LAYERS,
        ),
        image_rule=AnyRes(tile_size=96, patches_per_side=6, extra_tokens=1, pinpoints=((192, 192),)),
    ),
    TokenCounts(
        images=1,
        sequences=CROPS,
        sequence_tokens=TOWER_TOKENS,
        patches=VISUAL,
        window_pairs=0,
        projector_tokens=VISUAL,
        visual_tokens=VISUAL,
        text_tokens=TEXT,
        output_tokens=DECODE_STEPS + 1,
        batch_size=BATCH,
    ),
)


class Tally:
    """Sums of one sample's operators, in elements."""

    def __init__(self) -> None:
        self.flops = self.elementwise = self.read = self.written = self.weights = 0

    def product(self, m: int, n: int, k: int, times: int = 1) -> None:
        self.flops += 2 * m * n * k * times
        self.read += (m + n) * k * times
        self.written += m * n * times

    def projection(self, m: int, n: int, k: int, times: int = 1) -> None:
        self.flops += 2 * m * n * k * times
        self.weights += n * k * times
        self.read += m * k * times
        self.written += m * n * times

    def attention(self, queries: int, keys: int, times: int) -> None:
        # Head size 16 in the tower; CLIP's 64 is passed as four times as many heads' FLOPs and bytes.
        self.flops += 4 * queries * keys * HEAD * times
        self.read += (queries + 2 * keys) * HEAD * times
        self.written += queries * HEAD * times

    def elements(self, count: int, flops: int = 1, reads: int = 1, writes: int = 0) -> None:
        self.elementwise += flops * count
        self.read += reads * count
        self.written += writes * count

    # The names of these are those of the papers' operations.
    def normalised(self, vectors: int, width: int) -> None:
        self.elements(vectors * width, flops=3, writes=1)

    def chosen(self, scores: int) -> None:
        self.elements(scores, reads=2, writes=1)

    def copied(self, vectors: int, width: int) -> None:
        self.elements(vectors * width, flops=0, writes=1)

    def merged(self, vectors: int, width: int) -> None:
        self.elements(vectors * width, flops=2, reads=2, writes=1)

    def softmaxed(self, scores: int) -> None:
        self.elements(scores, flops=5)

    def cls_attention(self) -> None:
        """The [CLS] row of each head and crop."""
        self.elements(TOWER_HEADS * TOWER_TOKENS * CROPS)

    def last_query_again(self, tokens: int) -> None:
        """Norm, q, k and v of all tokens, and the scores of the last one."""
        self.normalised(tokens, HIDDEN)
        self.projection(tokens, QUERY_WIDTH, HIDDEN)
        self.projection(tokens, KV_WIDTH, HIDDEN)
        self.product(1, tokens, HEAD, HEADS)
        self.softmaxed(HEADS * tokens)

    def cache_votes(self, queries: int) -> None:
        """Scores of some queries against the prompt in every layer, summed over the queries."""
        for _ in range(LAYERS):
            self.product(HEADS // KV_HEADS * queries, PROMPT, HEAD, KV_HEADS)
            self.softmaxed(HEADS * queries * PROMPT)

    def cache_chosen(self, kept: Iterable[int]) -> None:
        """Top-k of each KV head, and the entries that stay copied, in every layer."""
        for entries in kept:
            self.chosen(PROMPT * KV_HEADS)
            self.copied(entries, KV_WIDTH)

    def decode_scores(self, entries: int) -> None:
        self.product(HEADS // KV_HEADS, entries, HEAD, KV_HEADS)
        self.softmaxed(HEADS * entries)


def fastv(t: Tally, _: Run) -> None:
    # round(0.33 x 135 = 44.55) = 45 tokens stay.
    t.elements(HEADS * VISUAL)
    t.chosen(VISUAL)
    t.copied(45 + TEXT, HIDDEN)


def asymvlm(t: Tally, _: Run) -> None:
    # floor(44.55) = 44 stay; nothing that is generated does.
    t.normalised(VISUAL, HIDDEN)
    t.normalised(TEXT, HIDDEN)
    t.elements(VISUAL * HIDDEN, writes=1)
    t.product(VISUAL, TEXT, HIDDEN)
    t.elements(VISUAL * TEXT)
    t.chosen(VISUAL)
    t.copied(44, HIDDEN)
    for _step in range(DECODE_STEPS):
        t.decode_scores(44 + TEXT)
        t.chosen(44 + TEXT)


def desap(t: Tally, _: Run) -> None:
    t.cls_attention()
    rows, text, width, joint = TOWER_TOKENS * CROPS, 9, 128, 24
    for _norm in range(2):
        t.normalised(rows, TOWER_HIDDEN)
    t.projection(rows, TOWER_HIDDEN, TOWER_HIDDEN, 3)
    t.attention(TOWER_TOKENS, TOWER_TOKENS, TOWER_HEADS * CROPS)
    t.projection(rows, joint, TOWER_HIDDEN)
    for _layer in range(2):
        t.projection(text, width, width, 4)
        # Two heads of 64: eight of 16 do as much.
        t.attention(text, text, 8)
        t.projection(text, 4 * width, width)
        t.projection(text, width, 4 * width)
        t.normalised(2 * text, width)
    t.projection(text, joint, width)
    t.product(VISUAL, text, joint)
    t.product(VISUAL, 1, joint)
    t.product(text, 1, joint, CROPS)
    for _softmax in range(2):
        t.elements(VISUAL * text, flops=6, reads=2, writes=1)
    t.elements(VISUAL * text, flops=3, reads=3)
    for _half in range(2):
        t.chosen(VISUAL)
    t.normalised(VISUAL, TOWER_HIDDEN)
    # 91 dropped and 44 kept are at most 31 and 15 a crop.
    t.product(31, 15, TOWER_HIDDEN, CROPS)
    t.elements(31 * 15 * CROPS)
    t.merged(91, TOWER_HIDDEN)
    t.copied(44, TOWER_HIDDEN)


def sparsevlm(t: Tally, _: Run) -> None:
    t.product(VISUAL, TEXT, HIDDEN)
    t.softmaxed(VISUAL * TEXT)
    # Of 75, 23 and 31 dropped, 22 + 1, 6 + 1 and 9 + 1 are clustered into 2 + 1, 0 + 1 and 1 + 1.
    for visual, kept, pool, merged in ((135, 60, 23, 3), (63, 40, 7, 1), (41, 10, 10, 2)):
        t.elements(HEADS * TEXT * visual)
        t.chosen(visual)
        t.product(pool, pool, HIDDEN)
        t.chosen(pool * pool)
        t.elements(pool * pool)
        t.elements(pool * merged)
        t.merged(pool, HIDDEN)
        t.copied(kept + merged + TEXT, HIDDEN)


def pyramiddrop(t: Tally, _: Run) -> None:
    for visual, kept in ((135, 67), (67, 33), (33, 16)):
        t.last_query_again(visual + TEXT)
        t.chosen(visual)
        t.copied(kept + TEXT, HIDDEN)


def visionzip(t: Tally, _: Run) -> None:
    t.cls_attention()
    t.chosen(VISUAL)
    t.elements(TOWER_TOKENS * CROPS * TOWER_HIDDEN)
    # 105 are not dominant, 35 a crop; 7 contextual ones are at most 3 a crop.
    t.normalised(105, HEAD)
    t.product(35, 3, HEAD, CROPS)
    t.elements(35 * 3 * CROPS)
    t.merged(105, TOWER_HIDDEN)
    t.copied(30, TOWER_HIDDEN)


def hired(t: Tally, _: Run) -> None:
    t.cls_attention()
    t.cls_attention()
    t.elements(TOWER_TOKENS * CROPS)
    t.chosen(TOWER_TOKENS * CROPS)
    t.copied(44, TOWER_HIDDEN)


def prumerge(t: Tally, _: Run) -> None:
    t.product(1, TOWER_TOKENS, TOWER_HIDDEN, CROPS)
    t.softmaxed(TOWER_TOKENS * CROPS)
    t.chosen(TOWER_TOKENS * CROPS)
    t.normalised(TOWER_TOKENS * CROPS, TOWER_HIDDEN)
    # 44 outliers, at most 15 a crop, against all 45 of their crop; 91 are merged into one more.
    t.product(15, 45, TOWER_HIDDEN, CROPS)
    t.chosen(45 * 44)
    t.merged(32 * 44, TOWER_HIDDEN)
    t.merged(91, TOWER_HIDDEN)
    t.copied(44, TOWER_HIDDEN)


def matching(t: Tally, present: int, dropped: int, left: int) -> None:
    """ToMe's bipartite matching in each crop."""
    t.elements(present * TOWER_HIDDEN * CROPS)
    t.normalised(present * CROPS, HEAD)
    t.product(present - present // 2, present // 2, HEAD, CROPS)
    t.chosen(present * CROPS)
    t.merged(dropped * CROPS, TOWER_HIDDEN)
    t.copied(left * CROPS, TOWER_HIDDEN)


def tome(t: Tally, _: Run) -> None:
    # 45, 41, ... 5, then 3 and 2 in the blocks 10 and 11: at most half of them merge.
    present = 45
    for _block in range(12):
        dropped = min(4, present // 2)
        matching(t, present, dropped, present - dropped)
        present -= dropped


def folder(t: Tally, _: Run) -> None:
    # 13 of 45 are left, by two folds: of 45 and of 23 tokens.
    t.cls_attention()
    for present in (45, 23):
        matching(t, present, 32, 13)


def flowcut(t: Tally, result: Run) -> None:
    # The counts themselves are those of the released recursion (test_published_counts).
    present = [tokens - 1 for tokens in result.tower]
    for block in range(10):
        tokens = present[block]
        t.elements(TOWER_HEADS * tokens * CROPS)
        t.product(1, tokens, HEAD, TOWER_HEADS * CROPS)
        t.softmaxed(TOWER_HEADS * tokens * CROPS)
        t.elements(tokens * CROPS * TOWER_HIDDEN, flops=2)
        # Pruned after the odd blocks.
        if block % 2 == 1:
            t.chosen(tokens * CROPS)
            t.copied(present[block + 1] * CROPS, TOWER_HIDDEN)
    # The language model prunes what the crops kept to a fifth of 135 after its second layer.
    t.elements(HEADS * result.visual[1])
    t.chosen(result.visual[1])
    t.copied(27 + TEXT, HIDDEN)


def holov(t: Tally, _: Run) -> None:
    t.cls_attention()
    t.normalised(VISUAL, HIDDEN)
    # Four crops of at most 34.
    t.product(34, 34, HIDDEN, 4)
    t.elements(34 * 34 * 4, flops=4)
    t.chosen(VISUAL)
    t.copied(44, HIDDEN)


def vscan(t: Tally, _: Run) -> None:
    # 0.3 is the mean of 0.45 and 0.15: 60 tokens for four layers, then 20.
    t.cls_attention()
    t.cls_attention()
    t.chosen(VISUAL)
    t.chosen(VISUAL)
    t.normalised(TOWER_TOKENS * CROPS, TOWER_HIDDEN)
    t.product(25, 20, TOWER_HIDDEN, CROPS)
    t.elements(25 * 20 * CROPS)
    t.merged(75, TOWER_HIDDEN)
    t.copied(60, TOWER_HIDDEN)
    t.last_query_again(60 + TEXT)
    t.chosen(60)
    t.copied(20 + TEXT, HIDDEN)


def dart(t: Tally, _: Run) -> None:
    # The L1 norm of keys: absolute value and sum.
    t.elements(PROMPT * KV_HEADS * HEAD, flops=2)
    t.chosen(PROMPT)
    t.normalised(PROMPT, HIDDEN)
    t.product(5, VISUAL, HIDDEN)
    t.chosen(5 * VISUAL)
    t.copied(44 + TEXT, HIDDEN)


def flashvlm(t: Tally, _: Run) -> None:
    t.cls_attention()
    t.projection(VISUAL, 96, TOWER_HIDDEN)
    t.projection(VISUAL, HIDDEN, 96)
    t.normalised(VISUAL + TEXT, HIDDEN)
    t.product(VISUAL, TEXT, HIDDEN)
    t.elements(VISUAL * TEXT, flops=6)
    t.chosen(VISUAL)
    t.normalised(VISUAL, TOWER_HIDDEN)
    # At most 31 of a crop's 45 leave, eight at once: four comparisons of 23 x 23.
    t.product(23, 23, TOWER_HIDDEN, 4 * CROPS)
    t.copied(44, TOWER_HIDDEN)


def snapkv(t: Tally, _: Run) -> None:
    t.cache_votes(5)
    t.elements(LAYERS * HEADS * PROMPT, flops=4)
    t.cache_chosen([50] * LAYERS)


def pyramidkv(t: Tally, _: Run) -> None:
    # B = 36 - 8: least 28 // 20 = 1, most 55, a fall of 54 // 7 = 7; with the window 63, 56, ... 14.
    t.cache_votes(8)
    t.elements(LAYERS * HEADS * PROMPT, flops=5)
    t.cache_chosen(range(63, 13, -7))


def vl_cache(t: Tally, _: Run) -> None:
    # floor(0.33 x 142) = 46.
    t.cache_votes(TEXT)
    t.elements(LAYERS * HEADS * TEXT * PROMPT, flops=2)
    t.cache_chosen([46] * LAYERS)


def h2o(t: Tally, _: Run) -> None:
    t.elements(LAYERS * HEADS * PROMPT * PROMPT)
    t.cache_chosen([46] * LAYERS)
    for _step in range(LAYERS * DECODE_STEPS):
        t.decode_scores(46)
        t.elements(KV_HEADS * 46)


def streamingllm(t: Tally, _: Run) -> None:
    t.copied(LAYERS * 34, KV_WIDTH)
    t.elements(LAYERS * DECODE_STEPS * 34 * KV_HEADS * HEAD, flops=3, writes=1)


def duoattention(t: Tally, _: Run) -> None:
    # One KV head keeps 142 entries, the other 24: one head's keys and values are 32 wide.
    t.copied(LAYERS * (PROMPT + 24), 2 * HEAD)


WORK: dict[str, tuple[dict[str, Any], Callable[[Tally, Run], None]]] = {
    "fastv": ({"keep": 0.33, "layer": 3}, fastv),
    "asymvlm": ({"keep": 0.33, "budget": "uniform", "threshold_tokens": 0, "retain": 0.0}, asymvlm),
    "desap": (
        {"keep": 0.33, "text_tower_layers": 2, "text_tower_width": 128, "text_tower_tokens": 9, "joint_size": 24},
        desap,
    ),
    "sparsevlm": ({"counts": (60, 40, 10), "layers": (1, 3, 5)}, sparsevlm),
    "pyramiddrop": ({"ratio": 0.5}, pyramiddrop),
    "visionzip": ({"dominant": 30, "contextual": 7}, visionzip),
    "hired": ({"keep": 0.33}, hired),
    "prumerge": ({"keep": 1 / 3}, prumerge),
    "tome": ({"r": 4}, tome),
    "folder": ({"keep": 0.3}, folder),
    "flowcut": ({"keep": 0.2}, flowcut),
    "holov": ({"keep": 0.33, "crops": 4}, holov),
    "vscan": ({"keep": 0.3}, vscan),
    "dart": ({"keep": 0.33, "layer": 3, "image_pivots": 3, "text_pivots": 2}, dart),
    "flashvlm": ({"keep": 0.33}, flashvlm),
    "snapkv": ({"capacity": 50, "window": 5, "pooling": 4}, snapkv),
    "pyramidkv": ({"capacity": 36, "window": 8}, pyramidkv),
    "vl_cache": ({"keep": 0.33}, vl_cache),
    "h2o": ({"keep": 0.33}, h2o),
    "streamingllm": ({"window": 30}, streamingllm),
    "duoattention": ({"retrieval_heads": 0.5, "sinks": 4, "recent": 20}, duoattention),
}


def test_every_method_is_written_out() -> None:
    assert set(WORK) == set(registered_methods()) - {"none"}


@pytest.mark.parametrize("name", WORK)
def test_added_work_by_hand(name: str) -> None:
    settings, by_hand = WORK[name]
    remaining = dict(settings)
    result = run(make_method(name, remaining.pop("keep", None), remaining).schedule(CASE.model), CASE)
    tally = Tally()
    by_hand(tally, result)
    added = {
        column: sum(row[column] for row in result.selection)
        for column in ("flops", "elementwise_flops", "read_bytes", "write_bytes", "weight_bytes")
    }
    assert added == {
        "flops": BATCH * tally.flops,
        "elementwise_flops": BATCH * tally.elementwise,
        "read_bytes": BATCH * BYTES * tally.read,
        "write_bytes": BATCH * BYTES * tally.written,
        # A weight is read once for the whole batch.
        "weight_bytes": BYTES * tally.weights,
    }
