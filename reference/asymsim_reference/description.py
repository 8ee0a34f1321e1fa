"""The small model as the simulator's catalogue describes models, so that both sides run the same shapes."""

from __future__ import annotations

from asymsim.catalogue.images.anyres import AnyRes
from asymsim.catalogue.images.fixed import FixedTile
from asymsim.catalogue.model import LanguageModel, Layer, Linear, Projector, VisionTower, VlmModel
from asymsim_reference.vlm import SmallVlm
from asymsim_reference.weights import vector_parameters

# Pixels along a patch's edge: of no consequence, since patches are cut beforehand.
PATCH_SIZE = 2


def describe(vlm: SmallVlm) -> VlmModel:
    """The shapes of ``vlm``; an image of several crops follows the rule of LLaVA-NeXT."""
    shape, weights = vlm.shape, vlm.weights
    side = round(shape.patches**0.5)
    tile = side * PATCH_SIZE
    rule: AnyRes | FixedTile
    if shape.crops:
        rule = AnyRes(
            tile_size=tile, patches_per_side=side, extra_tokens=shape.extra_tokens, pinpoints=((2 * tile, 2 * tile),)
        )
    else:
        rule = FixedTile(
            image_size=tile, patch_size=PATCH_SIZE, extra_tokens=shape.extra_tokens, visual_tokens=shape.patches
        )
    block = Layer(
        hidden_size=shape.tower_hidden,
        heads=shape.tower_heads,
        kv_heads=shape.tower_heads,
        head_size=shape.tower_hidden // shape.tower_heads,
        intermediate_size=shape.tower_intermediate,
        gated=False,
        vector_parameters=vector_parameters(weights.blocks[0]),
    )
    outer = (weights.tower_positions, *weights.tower_norm, *((weights.cls,) if shape.cls else ()))
    layer = Layer(
        hidden_size=shape.hidden,
        heads=shape.heads,
        kv_heads=shape.kv_heads,
        head_size=shape.head_size,
        intermediate_size=shape.intermediate,
        vector_parameters=vector_parameters(weights.layers[0]),
    )
    return VlmModel(
        name="small",
        model_type="llava_next" if shape.crops else "llava",
        vision_tower=VisionTower(
            layer_kinds=(block,),
            layer_pattern=(0,) * shape.tower_layers,
            patch=Linear(inputs=shape.patch_inputs, outputs=shape.tower_hidden),
            extra_tokens=shape.extra_tokens,
            other_parameters=sum(tensor.numel() for tensor in outer),
        ),
        projector=Projector(
            linears=(
                Linear(inputs=shape.tower_hidden, outputs=shape.projector_hidden, bias=True),
                Linear(inputs=shape.projector_hidden, outputs=shape.hidden, bias=True),
            )
        ),
        language_model=LanguageModel(
            hidden_size=shape.hidden,
            vocab_size=shape.vocabulary,
            layer_kinds=(layer,),
            layer_pattern=(0,) * shape.layers,
            other_parameters=weights.final_norm.numel(),
        ),
        image_rule=rule,
    )
