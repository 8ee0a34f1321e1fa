"""Formulas of the papers against loops that follow them symbol by symbol."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from asymsim_reference.layers import unit
from asymsim_reference.methods.desap import SHARPNESS, DeSAP, alignment, decoupled_attention
from asymsim_reference.methods.flowcut import entropy_ratio
from asymsim_reference.methods.holov import VARIANCE_WEIGHT, crop_score
from asymsim_reference.methods.prumerge import outliers
from asymsim_reference.methods.pyramidkv import PyramidKV
from asymsim_reference.methods.snapkv import window_votes
from asymsim_reference.methods.vl_cache import density
from asymsim_reference.tokens import AttentionTrace
from oracles.method_proof import small_vlm


def random(*size: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("d1", "d2"), [(1, 1), (5, 3), (4, 7)])
def test_desap_alignment(d1: int, d2: int) -> None:
    visual, text = random(d1, 6), random(d2, 6, seed=1)
    v, t = random(1, 6, seed=2), random(1, 6, seed=3)
    m = [[float(visual[i] @ text[j]) for j in range(d2)] for i in range(d1)]
    alpha = [float(visual[i] @ t[0]) for i in range(d1)]
    beta = [float(text[j] @ v[0]) for j in range(d2)]
    for i in range(d1):
        expected = 0.0
        for j in range(d2):
            over_text = sum(math.exp(SHARPNESS * beta[k] * m[i][k]) for k in range(d2))
            over_visual = sum(math.exp(SHARPNESS * alpha[k] * m[k][j]) for k in range(d1))
            mv = alpha[i] * math.exp(SHARPNESS * beta[j] * m[i][j]) / (d1 * over_text)
            mt = beta[j] * math.exp(SHARPNESS * alpha[i] * m[i][j]) / (d2 * over_visual)
            expected += (mv + mt) * m[i][j] / d2
        assert float(alignment(visual, text, v, t)[i]) == pytest.approx(expected, abs=1e-12)


def test_desap_decoupled_attention() -> None:
    """Queries stand in for keys, and neither residual nor FFN follows."""
    vlm = small_vlm("cls")
    part, heads = vlm.weights.blocks[-1], vlm.shape.tower_heads
    x = random(2, 5, vlm.shape.tower_hidden)
    normed = torch.nn.functional.layer_norm(x, (vlm.shape.tower_hidden,), part.norm1, part.norm1_bias)
    size = vlm.shape.tower_hidden // heads
    for sequence in range(2):
        q, v = normed[sequence] @ part.q + part.q_bias, normed[sequence] @ part.v + part.v_bias
        rows = []
        for i in range(5):
            row = []
            for head in range(heads):
                span = slice(head * size, (head + 1) * size)
                logits = [float(q[i, span] @ q[j, span]) / math.sqrt(size) for j in range(5)]
                total = sum(math.exp(logit) for logit in logits)
                row.append(sum(math.exp(logit) / total * v[j, span] for j, logit in enumerate(logits)))
            rows.append(torch.cat(row) @ part.out + part.out_bias)
        computed = decoupled_attention(vlm, vlm.shape.tower_layers - 1, x)[sequence]
        torch.testing.assert_close(computed, torch.stack(rows), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("count", "kept"), [(0, []), (1, [5]), (3, [0, 4, 5]), (6, [0, 1, 2, 3, 4, 5])])
def test_desap_halves(count: int, kept: list[int]) -> None:
    """Of K tokens K // 2 by text similarity, the others by saliency among what is left."""
    saliency = torch.tensor([0.3, 0.1, 0.0, 0.2, 0.4, 0.9], dtype=torch.float64)
    by_text = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.0, 0.8], dtype=torch.float64)
    # 5 leads both lists: with three to keep, text takes it, and saliency 4 and 0.
    assert DeSAP._choose(by_text, saliency, count).tolist() == kept


def test_prumerge_outliers_are_numpys() -> None:
    scores = random(57).abs() ** 3
    first, third = np.percentile(scores.numpy(), [25, 75])
    expected = [i for i, score in enumerate(scores.tolist()) if score > third + 1.5 * (third - first)]
    assert expected
    assert outliers(scores).tolist() == expected
    assert outliers(torch.ones(8, dtype=torch.float64)).tolist() == []


def test_flowcut_entropy() -> None:
    """1 where [CLS] looks everywhere alike, 0 where it looks at one token; the most pointed crop counts."""
    even, pointed = torch.ones(1, 8, dtype=torch.float64), torch.eye(8, dtype=torch.float64)[:1]
    assert entropy_ratio(even) == pytest.approx(1)
    assert entropy_ratio(pointed) == 0
    assert entropy_ratio(torch.cat([even, pointed])) == 0
    two = torch.tensor([[3.0, 1.0]], dtype=torch.float64)
    assert entropy_ratio(two) == pytest.approx(-(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25)))


def test_holov_crop_score() -> None:
    x, attention = random(4, 6), random(4, seed=1).abs()
    directions = unit(x)
    variances = []
    for i in range(4):
        row = [float(directions[i] @ directions[j]) if j != i else 0.0 for j in range(4)]
        mean = sum(row) / 3
        variances.append(sum((value - mean) ** 2 for value in row) / 3)
    scale = float(attention.mean()) / (sum(variances) / 4)
    expected = sum(float(attention[i]) + VARIANCE_WEIGHT * scale * variances[i] for i in range(4)) / 4
    assert crop_score(x, attention) == pytest.approx(expected, abs=1e-12)
    assert crop_score(x[:1], attention[:1]) == float(attention[0])


def trace_of(heads: int, kv_heads: int, tokens: int) -> AttentionTrace:
    q, k = random(heads, tokens, 4), random(kv_heads, tokens, 4, seed=1)
    return AttentionTrace(q, k, k, k, None, q)


@pytest.mark.parametrize(("window", "pooling"), [(1, 1), (3, 5), (4, 4), (20, 3)])
def test_snapkv_votes(window: int, pooling: int) -> None:
    heads, kv_heads, tokens = 4, 2, 9
    trace = trace_of(heads, kv_heads, tokens)
    votes = np.zeros((kv_heads, tokens))
    for head in range(heads):
        for i in range(max(0, tokens - window), tokens):
            logits = [float(trace.queries[head, i] @ trace.keys[head // 2, j]) / 2 for j in range(i + 1)]
            total = sum(math.exp(logit) for logit in logits)
            for j, logit in enumerate(logits):
                votes[head // 2, j] += math.exp(logit) / total
    left = (pooling - 1) // 2
    pooled = [
        [sum(row[j - left + s] for s in range(pooling) if 0 <= j - left + s < tokens) / pooling for j in range(tokens)]
        for row in votes
    ]
    np.testing.assert_allclose(window_votes(trace, window, pooling).numpy(), pooled, atol=1e-12)


def test_vl_cache_density() -> None:
    """Of six visible pairs two lie below a hundredth of their row's largest; masked pairs count nowhere."""
    weights = torch.tensor([[[1.0, 0.0, 0.0], [0.995, 0.005, 0.0], [0.9, 0.099, 0.001]]], dtype=torch.float64)
    assert density(weights) == pytest.approx(4 / 6)


def test_pyramidkv_budgets_by_hand() -> None:
    # B = 128 - 8 = 120: min 6, max 234, falling by (234 - 6) // 3 = 76.
    assert PyramidKV(capacity=128, window=8).budgets([999] * 4) == [242, 166, 90, 14]
    # 39/20 of a quarter in the first layer, 1/20 in the last, 400 entries each, rounded down.
    assert PyramidKV(keep=0.25).budgets([400] * 4) == [195, 131, 68, 5]
