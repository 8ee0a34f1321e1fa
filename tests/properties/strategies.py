"""Random models and loads, small enough to count by hand and of every shape that is counted differently."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from asymsim.catalogue.images.fixed import FixedTile
from asymsim.catalogue.model import LanguageModel, Layer, Linear, Projector, Resampler, VisionTower, VlmModel
from asymsim.core.model_arrays import Precision
from asymsim.core.times.parameters import roofline_gpu
from asymsim.core.token_counts import TokenCounts

HEADS = st.sampled_from([(1, 1), (2, 1), (2, 2), (4, 2), (6, 3), (8, 2), (3, 3)])
SIZES = st.integers(1, 40)


@st.composite
def layers(draw: st.DrawFn, hidden_size: int, heads: tuple[int, int], **fixed: object) -> Layer:
    """One kind of layer; one in four is a mixture of experts."""
    experts = draw(st.integers(2, 9)) if draw(st.integers(0, 3)) == 0 else 0
    chosen = draw(st.integers(1, experts)) if experts else 0
    return Layer(
        hidden_size=hidden_size,
        heads=heads[0],
        kv_heads=heads[1],
        head_size=draw(st.integers(1, 16)),
        intermediate_size=draw(SIZES),
        gated=draw(st.booleans()),
        experts=experts,
        experts_per_token=chosen,
        framework_experts_per_token=draw(st.sampled_from([0, experts])),
        shared_intermediate_size=draw(st.sampled_from([0, 5])) if experts else 0,
        norms=draw(st.integers(1, 4)),
        vector_parameters=draw(st.integers(0, 9)),
        **fixed,  # type: ignore[arg-type]
    )


@st.composite
def towers(draw: st.DrawFn, windows: bool = True) -> VisionTower:
    """An encoder, with or without extra tokens, merged neighbours and windows."""
    hidden = draw(SIZES)
    kinds = [draw(layers(hidden, (2, 2)))]
    if windows and draw(st.booleans()):
        kinds.append(replace(kinds[0], name="windowed", window_tokens=4))
    return VisionTower(
        layer_kinds=tuple(kinds),
        layer_pattern=tuple(draw(st.lists(st.integers(0, len(kinds) - 1), min_size=1, max_size=4))),
        patch=Linear(inputs=draw(SIZES), outputs=hidden),
        extra_tokens=draw(st.integers(0, 2)),
        encoder_tokens_per_visual=draw(st.sampled_from([1, 1, 4])),
        other_parameters=draw(st.integers(0, 9)),
        framework_flops=draw(st.sampled_from([0, 77])),
    )


@st.composite
def projectors(draw: st.DrawFn, width: int, hidden: int) -> Projector:
    """A chain of linear layers, or a resampler."""
    if draw(st.integers(0, 3)) == 0:
        rows = (Linear(inputs=width, outputs=hidden, rows="encoder"), Linear(inputs=hidden, outputs=hidden))
        return Projector(linears=rows, resampler=Resampler(heads=draw(st.integers(1, 3)), head_size=4))
    middle = draw(SIZES)
    return Projector(linears=(Linear(inputs=width, outputs=middle, bias=True), Linear(inputs=middle, outputs=hidden)))


@st.composite
def language_models(draw: st.DrawFn, vision: bool, cross: bool | None = None) -> LanguageModel:
    """A decoder of one to three kinds of layers, under one of the masks."""
    hidden, heads = draw(SIZES), draw(HEADS)
    cross = (vision and draw(st.integers(0, 3)) == 0) if cross is None else cross
    mask = "causal" if cross else draw(st.sampled_from(["causal", "causal", "prefix", "image_bidirectional"]))
    kinds = [draw(layers(hidden, heads))]
    if draw(st.booleans()):
        kinds.append(draw(layers(hidden, heads, name="sliding", window_tokens=draw(st.integers(1, 30)))))
    if mask == "causal" and draw(st.integers(0, 2)) == 0:
        kinds.append(draw(layers(hidden, heads, name="chunked", chunk_tokens=draw(st.integers(1, 30)))))
    if cross:
        kinds.append(draw(layers(hidden, heads, name="cross", attention="cross")))
    kinds = draw(st.permutations(kinds))
    return LanguageModel(
        hidden_size=hidden,
        vocab_size=draw(st.integers(1, 99)),
        layer_kinds=tuple(kinds),
        layer_pattern=tuple(draw(st.lists(st.integers(0, len(kinds) - 1), min_size=1, max_size=6))),
        tied=draw(st.booleans()),
        mask=mask,
        visual_in_sequence=not cross,
    )


@st.composite
def models(draw: st.DrawFn, vision: bool | None = None, windows: bool = True) -> VlmModel:
    """A model; one in five sees no images unless ``vision`` says."""
    vision = draw(st.integers(0, 4)) > 0 if vision is None else vision
    text = draw(language_models(vision))
    if not vision:
        return VlmModel(name="random", model_type="llama", language_model=text)
    tower = draw(towers(windows))
    return VlmModel(
        name="random",
        model_type="llava",
        vision_tower=tower,
        projector=draw(projectors(tower.patch.outputs, text.hidden_size)),
        language_model=text,
        image_rule=FixedTile(image_size=96, patch_size=4, extra_tokens=tower.extra_tokens, visual_tokens=576),
    )


@st.composite
def loads(draw: st.DrawFn, model: VlmModel, images: st.SearchStrategy[int] | None = None) -> TokenCounts:
    """A load that the model's image rule could have made, of 0 to 3 images."""
    tower = model.vision_tower
    text, output = draw(st.integers(1, 50)), draw(st.one_of(st.just(1), st.integers(1, 60)))
    batch = draw(st.integers(1, 4))
    count = draw(st.integers(0, 3) if images is None else images) if tower else 0
    if tower is None or count == 0:
        return TokenCounts(0, 0, 0, 0, 0, 0, 0, text, output, batch)
    sequences = draw(st.integers(1, 3))
    per_sequence = draw(st.integers(1, 12)) * tower.encoder_tokens_per_visual
    projected = sequences * per_sequence // tower.encoder_tokens_per_visual
    if model.projector and model.projector.resampler:
        projected = sequences * draw(st.integers(1, 5))
    entering = per_sequence + tower.extra_tokens
    return TokenCounts(
        images=count,
        sequences=sequences,
        sequence_tokens=entering,
        patches=sequences * per_sequence,
        window_pairs=draw(st.integers(0, sequences * entering * entering)),
        projector_tokens=projected,
        visual_tokens=count * (projected + draw(st.sampled_from([0, 0, 1]))),
        text_tokens=text,
        output_tokens=output,
        batch_size=batch,
    )


PRECISIONS = st.builds(
    Precision,
    weight_bits=st.sampled_from([4, 8, 16, 32]),
    activation_bits=st.sampled_from([16, 32]),
    kv_bits=st.sampled_from([4, 8, 16, 32]),
    tp_size=st.just(1),
)
GPUS = st.builds(
    roofline_gpu,
    flops_per_s=st.floats(1e6, 1e16),
    vector_flops_per_s=st.floats(1e6, 1e15),
    bandwidth_bytes_per_s=st.floats(1e6, 1e14),
    link_bytes_per_s=st.floats(1e6, 1e13),
    sm_count=st.integers(1, 200),
)
