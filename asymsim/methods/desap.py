"""DeSAP: tokens chosen at the end of the encoder, half by decoupled similarity with the text, half by saliency."""

from __future__ import annotations

from typing import ClassVar

from asymsim.catalogue.model import VlmModel
from asymsim.methods.base import Examples, Method, Requirements, register, tower_of
from asymsim.methods.common.operations import (
    average_into,
    gather,
    nearest_in_sequence,
    normalise,
    saliency,
    similarity,
    top_k,
)
from asymsim.methods.common.requirements import attention_layer, vision_tower
from asymsim.methods.schedule import Operation, Schedule, keep_share
from asymsim.util.errors import InputError
from asymsim.util.strict import strict_dataclass


@register("desap")
@strict_dataclass
class DeSAP(Method):
    """K/2 tokens by text similarity, K/2 of the rest by [CLS] attention; each dropped one is averaged into its
    most similar kept one, so K = floor(keep N) stay.

    Each encoder sequence (image, crop) is aligned and pruned by itself: v is the [CLS] row of its own A_d. The
    paper does not say how crops share K; evenly is our reading.

    Counted in full, where the paper's overhead is the product m = A_d S_q^T alone:

    - the decoupled pass at the last encoder layer: norm, q and v projections, softmax(Q Q^T) V, out projection;
    - projection of the visual tokens, and of the text, into the joint space;
    - the text tower;
    - m, alpha = A_d t, beta = S_q v, both softmaxes, their product with m, the mean over the text;
    - the read-out of the last encoder layer's [CLS] attention, which therefore runs unfused;
    - both top-k, the cosine similarities of dropped to kept tokens, the averaging.

    Parameters
    ----------
    keep : float
        K over the visual tokens; 64, 128 or 192 of 576 in the paper.
    text_tower_layers, text_tower_width, text_tower_tokens : int
        The text encoder and the tokens it sees. 12, 768 and 77 are CLIP-L's and its context length; for
        models without a CLIP text tower the choice is not published, so the same is assumed. 0 layers
        where the text embeddings come for free. The paper's overhead takes 30 tokens.
    joint_size : int
        Width of the joint space; 768 is CLIP-L's.
    """

    source: ClassVar[str] = "DeSAP, arXiv 2604.11240v1, method section"
    requires: ClassVar[Requirements] = (vision_tower,)
    refused_settings: ClassVar[Examples] = ({"joint_size": 0}, {"text_tower_layers": -1})

    keep: float = 1 / 9
    text_tower_layers: int = 12
    text_tower_width: int = 768
    text_tower_tokens: int = 77
    joint_size: int = 768

    def build_schedule(self, model: VlmModel) -> Schedule:
        tower = tower_of(model)
        for field in ("text_tower_width", "text_tower_tokens", "joint_size"):
            if getattr(self, field) < 1:
                raise InputError(f"desap: {field}", getattr(self, field), "give at least 1")
        if self.text_tower_layers < 0:
            raise InputError("desap: text_tower_layers", self.text_tower_layers, "give 0 or more")
        read = attention_layer(tower, 1)
        return Schedule(
            steps=(keep_share(self.keep, "encoder_end"),),
            operations=(
                saliency(tower, read),
                *self._decoupled_pass(),
                *self._text_tower(),
                *self._alignment(),
                *self._selection(),
            ),
            unfused=(("encoder", read),),
        )

    def _decoupled_pass(self) -> tuple[Operation, ...]:
        """A_d, in the joint space."""
        rows = "tower_tokens*sequences"
        return (
            normalise("encoder_end", rows=rows, width="tower_hidden"),
            # q, v and the out projection have the same shape, and different weights.
            _projection(rows, "tower_hidden", "tower_hidden", times="3"),
            Operation(
                kind="attention",
                stage="encoder_end",
                rows="tower_tokens",
                columns="tower_tokens",
                inner="tower_head_size",
                times="tower_heads*sequences",
            ),
            normalise("encoder_end", rows=rows, width="tower_hidden"),
            _projection(rows, str(self.joint_size), "tower_hidden"),
        )

    def _text_tower(self) -> tuple[Operation, ...]:
        """S_q: pre-norm transformer layers with an FFN of four times the width, and the joint projection."""
        width, rows = str(self.text_tower_width), str(self.text_tower_tokens)
        wide, layers = str(4 * self.text_tower_width), str(self.text_tower_layers)
        project = _projection(rows, str(self.joint_size), width)
        if not self.text_tower_layers:
            return (project,)
        # Head size 64 throughout CLIP; a narrower tower has one head.
        heads = max(1, self.text_tower_width // 64)
        return (
            _projection(rows, width, width, times=f"4*{layers}"),
            Operation(
                kind="attention",
                stage="encoder_end",
                rows=rows,
                columns=rows,
                inner=str(self.text_tower_width // heads),
                times=f"{heads}*{layers}",
            ),
            _projection(rows, wide, width, times=layers),
            _projection(rows, width, wide, times=layers),
            normalise("encoder_end", rows=f"2*{layers}*{rows}", width=width),
            project,
        )

    def _alignment(self) -> tuple[Operation, ...]:
        """From A_d and S_q to one score a visual token."""
        text, joint = str(self.text_tower_tokens), str(self.joint_size)
        return (
            similarity("encoder_end", rows="visual", columns=text, inner=joint),
            similarity("encoder_end", rows="visual", columns="1", inner=joint),
            similarity("encoder_end", rows=text, columns="1", inner=joint, times="sequences"),
            # Each softmax: scale, exponential and sum, then the division; two passes over m.
            Operation(
                kind="elementwise",
                stage="encoder_end",
                rows="visual",
                columns=text,
                times="2",
                reads=2,
                writes=1,
                flops_per_element=6,
            ),
            # (MV + MT) * m, and its mean over the text.
            Operation(
                kind="elementwise", stage="encoder_end", rows="visual", columns=text, reads=3, flops_per_element=3
            ),
        )

    @staticmethod
    def _selection() -> tuple[Operation, ...]:
        return (
            top_k("encoder_end", times="2"),
            normalise("encoder_end", width="tower_hidden"),
            *nearest_in_sequence("dropped", "kept"),
            average_into("encoder_end"),
            gather("encoder_end", rows="kept", width="tower_hidden"),
        )


def _projection(rows: str, columns: str, inner: str, times: str = "1") -> Operation:
    return Operation(kind="projection", stage="encoder_end", rows=rows, columns=columns, inner=inner, times=times)
