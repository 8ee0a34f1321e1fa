"""How much a token matters: the scores that methods share.

Shape suffixes: s encoder sequences, h heads, g query heads of one KV head, m queries, n keys or tokens, d features.
"""

from __future__ import annotations

import torch
from torch import Tensor

from asymsim_reference.cache import LayerCache
from asymsim_reference.layers import attention_weights, mask_bias, repeat_heads, rotate, unit
from asymsim_reference.tokens import AttentionTrace, EncoderTokens, PromptTokens
from asymsim_reference.vlm import SmallVlm


def saliency(weights_shnn: Tensor, extra: int) -> Tensor:
    """(S, N): head mean of the attention that [CLS] pays to each patch; without [CLS] the mean over all patches."""
    mean = weights_shnn.mean(1)
    return mean[:, 0, 1:] if extra else mean.mean(1)


def patch_keys(trace: AttentionTrace, tokens: EncoderTokens) -> Tensor:
    """(S, N, D): head mean of the patches' keys, the metric of ToMe, FOLDER and VisionZip."""
    return trace.keys[:, :, tokens.extra :].mean(1)


def question_similarity(visual_nd: Tensor, text_ld: Tensor, weight_d: Tensor | None = None) -> Tensor:
    """AsymVLM's score s_i = max_j (w * v_i / |v_i|) . (t_j / |t_j|), shape (N,).

    w = 1 is plain cosine similarity (arXiv 2605.29535v1, method section).
    """
    visual = unit(visual_nd) if weight_d is None else unit(visual_nd) * weight_d
    return (visual @ unit(text_ld).T).max(1).values


def recomputed_attention(vlm: SmallVlm, layer: int, tokens: PromptTokens) -> Tensor:
    """(N,): attention of the last token under ``layer``'s norm, q, k and v, head mean, before the layer runs.

    PyramidDrop (arXiv 2410.17247, released code) projects all current tokens anew for it.
    """
    q, k, _ = vlm.qkv(layer, tokens.hidden)
    q, k = rotate(q[:, -1:], tokens.positions[-1:]), rotate(k, tokens.positions)
    return attention_weights(q, repeat_heads(k, vlm.shape.group))[:, 0].mean(0)


def query_weights(trace: AttentionTrace, rows: Tensor) -> Tensor:
    """(H, M, N): softmaxed scores of the prompt's queries ``rows`` against all its keys, causal."""
    heads, kv_heads = len(trace.queries), len(trace.keys)
    allowed = torch.arange(trace.keys.shape[1])[None, :] <= rows[:, None]
    return attention_weights(trace.queries[:, rows], repeat_heads(trace.keys, heads // kv_heads), mask_bias(allowed))


def step_weights(queries_hd: Tensor, cache: LayerCache) -> list[Tensor]:
    """For each KV head (G, entries): attention weights of the newest token over the cache that it has joined.

    Its logits against the older entries are one product. That against its own entry is a dot product a
    head, taken element by element, so that the counted work is that of the cached entries.
    """
    weights = []
    for head, q_gd in enumerate(queries_hd.reshape(len(cache.keys), -1, queries_hd.shape[1])):
        keys = cache.rotated_keys(head)
        own = (q_gd * keys[-1]).sum(1, keepdim=True)
        logits = torch.cat([q_gd @ keys[:-1].T, own], 1)
        weights.append(torch.softmax(logits / q_gd.shape[1] ** 0.5, 1))
    return weights
