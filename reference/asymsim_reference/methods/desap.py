"""DeSAP: half of the tokens by decoupled similarity with the text, half by [CLS] attention, the rest merged in.

arXiv 2604.11240v1, method section. Training-free, at the end of the encoder.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from asymsim_reference.layers import attention_weights, join_heads, layer_norm, split_heads
from asymsim_reference.merging import merge_into_nearest
from asymsim_reference.methods.base import ReferenceMethod, register
from asymsim_reference.proof import ProofCases, same_settings, with_and_without_cls
from asymsim_reference.scores import saliency
from asymsim_reference.selection import complement, evenly, floor_share, top_k
from asymsim_reference.text_tower import TextTower
from asymsim_reference.tokens import AttentionTrace, EncoderTokens, Prompt, VisualTokens
from asymsim_reference.vlm import SmallVlm
from asymsim_reference.weights import drawing

# lambda of the alignment.
SHARPNESS = 0.1


def decoupled_attention(vlm: SmallVlm, block: int, hidden_snd: Tensor) -> Tensor:
    """proj(softmax(Q Q^T / sqrt(d)) V) of the block's normed input: "qqv", without residual or FFN."""
    part, heads = vlm.weights.blocks[block], vlm.shape.tower_heads
    normed = layer_norm(hidden_snd, part.norm1, part.norm1_bias)
    q, v = split_heads(normed @ part.q + part.q_bias, heads), split_heads(normed @ part.v + part.v_bias, heads)
    return join_heads(attention_weights(q, q) @ v) @ part.out + part.out_bias


def alignment(visual_nd: Tensor, text_ld: Tensor, visual_1d: Tensor, text_1d: Tensor) -> Tensor:
    """A_t, one score a visual token.

    m = A_d S_q^T; alpha = A_d t; beta = S_q v;
    MV_ij = alpha_i softmax_j(lambda beta_j m_ij) / d1; MT_ij = beta_j softmax_i(lambda alpha_i m_ij) / d2;
    A_t = mean_j (MV + MT) m.

    Parameters
    ----------
    visual_nd, text_ld : Tensor
        A_d (d1 x e) and S_q (d2 x e) in the joint space.
    visual_1d, text_1d : Tensor (1, e)
        v, the [CLS] row of A_d, and t, the [EOS] row of S_q.
    """
    m_nl = visual_nd @ text_ld.T
    alpha_n1, beta_l1 = visual_nd @ text_1d.T, text_ld @ visual_1d.T
    over_text = alpha_n1 * torch.softmax(SHARPNESS * beta_l1.T * m_nl, 1) / len(visual_nd)
    over_visual = beta_l1.T * torch.softmax(SHARPNESS * alpha_n1 * m_nl, 0) / len(text_ld)
    return ((over_text + over_visual) * m_nl).mean(1)


_TEXT_TOWER = {"text_tower_layers": 2, "text_tower_width": 128, "text_tower_tokens": 9, "joint_size": 24}


@register("desap")
@dataclass
class DeSAP(ReferenceMethod):
    """K = floor(keep N) tokens stay, K // 2 by A_t over all, the others by A_s over the rest.

    K is shared evenly by the encoder sequences, each aligned with the text and merged by itself (our reading: v is
    the [CLS] row of one sequence's A_d). Without [CLS] the mean patch stands for v (our assumption). The text tower
    and the projections into the joint space have random weights of their own.
    """

    # Of three crops each keeps as many: here, in VisionZip, VScan and FlashVLM (test_bounds has others).
    proof_cases: ClassVar[ProofCases] = (
        *with_and_without_cls(
            *same_settings({"keep": 0.25, **_TEXT_TOWER}, {"keep": 1 / 9, **_TEXT_TOWER, "text_tower_layers": 0})
        ),
        *same_settings({"keep": 0.25, **_TEXT_TOWER}, shape="crops"),
    )

    keep: float = 1 / 9
    text_tower_layers: int = 12
    text_tower_width: int = 768
    text_tower_tokens: int = 77
    joint_size: int = 768

    def start(self, vlm: SmallVlm, prompt: Prompt) -> None:
        super().start(vlm, prompt)
        self._last = vlm.shape.tower_layers - 1
        width = vlm.shape.tower_hidden
        draw = drawing(1)
        self._joint_norm = (1 + draw(width), draw(width))
        self._joint = draw(width, self.joint_size)
        self._text_tower = TextTower.random(
            self.text_tower_layers, self.text_tower_width, self.text_tower_tokens, vlm.shape.vocabulary, self.joint_size
        )

    def encoder_reads(self) -> frozenset[int]:
        return frozenset({self._last})

    def before_block(self, block: int, tokens: EncoderTokens) -> EncoderTokens:
        if block == self._last:
            self._input = tokens.hidden
        return tokens

    def after_block(self, block: int, tokens: EncoderTokens, trace: AttentionTrace) -> None:
        if block == self._last:
            assert trace.weights is not None
            self._saliency = saliency(trace.weights, tokens.extra)

    def encoder_end(self, tokens: EncoderTokens) -> VisualTokens:
        decoupled = decoupled_attention(self.vlm, self._last, self._input)
        joint_snd = layer_norm(decoupled, *self._joint_norm) @ self._joint
        text = self._text_tower.encode(self.prompt.text)
        parts = self.vlm.visual_by_sequence(tokens)
        sizes = [len(part.index) for part in parts]
        counts = evenly(floor_share(self.keep, sum(sizes)), sizes)
        reduced = []
        for part, joint_nd, attended, count in zip(parts, joint_snd, self._saliency, counts, strict=True):
            visual = joint_nd[tokens.extra :]
            whole = joint_nd[:1] if tokens.extra else visual.mean(0, keepdim=True)
            kept = self._choose(alignment(visual, text, whole, text[-1:]), attended, count)
            features = merge_into_nearest(part.features, kept, complement(kept, len(visual)))
            reduced.append(VisualTokens(features, part.index[kept]))
        return VisualTokens.join(reduced)

    @staticmethod
    def _choose(scores_n: Tensor, saliency_n: Tensor, count: int) -> Tensor:
        by_text = top_k(scores_n, count // 2)
        rest = complement(by_text, len(scores_n))
        by_saliency = rest[top_k(saliency_n[rest], count - len(by_text))]
        return torch.cat([by_text, by_saliency]).sort().values
