"""Small models of every shape that methods treat differently, built by hand, with a prompt for each."""

from __future__ import annotations

from dataclasses import dataclass

from asymsim.catalogue.images.anyres import AnyRes
from asymsim.catalogue.images.fixed import FixedTile
from asymsim.catalogue.model import LanguageModel, Layer, Linear, Projector, VisionTower, VlmModel
from asymsim.core.token_counts import TokenCounts

TEXT_TOKENS = 60
OUTPUT_TOKENS = 101


@dataclass(frozen=True)
class Case:
    """A model and the load of one request of two images, or of one where it sees crops."""

    model: VlmModel
    load: TokenCounts

    @property
    def visual_tokens(self) -> int:
        return self.load.visual_tokens

    @property
    def tower_tokens(self) -> int:
        """Patches of one encoder sequence."""
        tower = self.model.vision_tower
        return self.load.sequence_tokens - tower.extra_tokens if tower else 0


def layer(kv_heads: int = 4, **more: object) -> Layer:
    shape = {"hidden_size": 64, "heads": 4, "head_size": 16, "intermediate_size": 128}
    return Layer(kv_heads=kv_heads, **{**shape, **more})  # type: ignore[arg-type]


def tower(layers: int = 24, extra_tokens: int = 1, merge: int = 1, windows: bool = False) -> VisionTower:
    kinds: tuple[Layer, ...] = (layer(gated=False),)
    pattern = (0,) * layers
    if windows:
        kinds += (layer(gated=False, window_tokens=16),)
        pattern = tuple(0 if at % 8 == 7 else 1 for at in range(layers))
    return VisionTower(
        layer_kinds=kinds,
        layer_pattern=pattern,
        patch=Linear(inputs=48, outputs=64),
        extra_tokens=extra_tokens,
        encoder_tokens_per_visual=merge,
    )


def language_model(layers: int = 32, kv_heads: int = 4, **more: object) -> LanguageModel:
    shape = {"layer_kinds": (layer(kv_heads),), "layer_pattern": (0,) * layers}
    return LanguageModel(hidden_size=64, vocab_size=1000, **{**shape, **more})  # type: ignore[arg-type]


PROJECTOR = Projector(linears=(Linear(inputs=64, outputs=96), Linear(inputs=96, outputs=64)))


def _case(
    name: str, vision: VisionTower | None, text: LanguageModel, visual: int, sequences: int = 1, pairs: int = 0
) -> Case:
    """``visual`` tokens over two images of one sequence, or over one image of several."""
    images = 0 if vision is None else 2 if sequences == 1 else 1
    merge = vision.encoder_tokens_per_visual if vision else 1
    extra = vision.extra_tokens if vision else 0
    patches = visual * merge // max(1, images * sequences)
    rule: FixedTile | AnyRes | None = None
    if sequences > 1:
        rule = AnyRes(tile_size=96, patches_per_side=24, extra_tokens=extra, pinpoints=((192, 192),))
    elif vision is not None:
        rule = FixedTile(image_size=96, patch_size=4, extra_tokens=extra, visual_tokens=max(1, visual // 2))
    model = VlmModel(
        name=name,
        model_type="llava",
        vision_tower=vision,
        projector=PROJECTOR if vision else None,
        language_model=text,
        image_rule=rule,
    )
    load = TokenCounts(
        images=images,
        sequences=sequences if vision else 0,
        sequence_tokens=patches + extra if vision else 0,
        patches=patches * sequences if vision else 0,
        window_pairs=pairs,
        projector_tokens=visual // max(1, images),
        visual_tokens=visual,
        text_tokens=TEXT_TOKENS,
        output_tokens=OUTPUT_TOKENS,
        batch_size=2,
    )
    return Case(model, load)


SLIDING = language_model(
    layers=30,
    kv_heads=2,
    layer_kinds=(layer(2, window_tokens=64, name="sliding"), layer(2)),
    layer_pattern=tuple(1 if at % 6 == 5 else 0 for at in range(30)),
    mask="image_bidirectional",
)
CROSS = language_model(
    layers=20,
    layer_kinds=(layer(2), layer(2, attention="cross")),
    layer_pattern=tuple(1 if at % 5 == 3 else 0 for at in range(20)),
    visual_in_sequence=False,
)

CASES = {
    "cls": _case("cls", tower(), language_model(), 1152),
    "no_cls": _case("no_cls", tower(27, extra_tokens=0), language_model(28, kv_heads=2), 1458),
    "crops": _case("crops", tower(), language_model(), 2880, sequences=5),
    "merged": _case("merged", tower(32, 0, merge=4, windows=True), language_model(28, kv_heads=1), 500, pairs=9000),
    "sliding": _case("sliding", tower(27, extra_tokens=0), SLIDING, 512),
    "cross": _case("cross", tower(), CROSS, 400),
    "text_only": _case("text_only", None, language_model(24, kv_heads=2), 0),
}
