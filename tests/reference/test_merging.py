"""Merged tokens: what they add up to, and who goes where."""

from __future__ import annotations

import pytest
import torch

from asymsim_reference.merging import (
    average_into,
    bipartite_pairs,
    cluster_means,
    density_peaks,
    merge_into_nearest,
    merge_pairs,
)


def random(*size: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dropped", [0, 1, 9])
def test_average_is_the_mean_of_all_members(dropped: int) -> None:
    kept, others = random(4, 3), random(dropped, 3, seed=1)
    target = torch.arange(dropped) % 3
    merged = average_into(kept, others, target)
    for place in range(4):
        members = [kept[place], *(others[i] for i in range(dropped) if int(target[i]) == place)]
        torch.testing.assert_close(merged[place], torch.stack(members).mean(0), rtol=0, atol=1e-14)


def test_nearest_is_by_cosine_not_by_length() -> None:
    features = torch.tensor([[1.0, 0.0], [0.0, 9.0], [0.2, 0.1], [1.0, 3.0]], dtype=torch.float64)
    merged = merge_into_nearest(features, torch.tensor([0, 1]), torch.tensor([2, 3]))
    assert torch.allclose(merged, torch.tensor([[0.6, 0.05], [0.5, 6.0]], dtype=torch.float64))


def test_nothing_to_merge_or_nothing_kept() -> None:
    features = random(5, 3)
    everything, nothing = torch.arange(5), torch.arange(0)
    assert torch.equal(merge_into_nearest(features, everything, nothing), features)
    assert merge_into_nearest(features, nothing, everything).shape == (0, 3)


@pytest.mark.parametrize("tokens", [2, 9, 16])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_pairs_conserve_mass(tokens: int, share: float) -> None:
    count = int(share * (tokens // 2))
    x, sizes = random(2, tokens, 5), random(2, tokens, seed=2).abs() + 1
    source, target = bipartite_pairs(random(2, tokens, 4, seed=3), count)
    merged, left, kept = merge_pairs(x, sizes, source, target)
    assert merged.shape == (2, tokens - count, 5)
    torch.testing.assert_close((merged * left[..., None]).sum(1), (x * sizes[..., None]).sum(1), rtol=0, atol=1e-12)
    torch.testing.assert_close(left.sum(1), sizes.sum(1), rtol=0, atol=1e-12)
    assert (kept.diff() > 0).all()
    for row in range(2):
        assert sorted([*kept[row].tolist(), *source[row].tolist()]) == list(range(tokens))


def test_pairs_are_the_most_similar() -> None:
    """Naive reimplementation: every even token's best odd partner, best pairs first."""
    metric = random(1, 11, 6)
    directions = metric[0] / metric[0].norm(dim=1, keepdim=True)
    best = []
    for even in range(0, 11, 2):
        partner = max(range(1, 11, 2), key=lambda odd, even=even: float(directions[even] @ directions[odd]))
        best.append((float(directions[even] @ directions[partner]), even, partner))
    expected = sorted((even, partner) for _, even, partner in sorted(best, reverse=True)[:3])
    source, target = bipartite_pairs(metric, 3)
    assert list(zip(source[0].tolist(), target[0].tolist(), strict=True)) == expected


def test_penalty_spares_a_token() -> None:
    metric = random(1, 8, 6)
    (source, _), penalty = bipartite_pairs(metric, 1), torch.zeros(1, 8, dtype=torch.float64)
    penalty[0, source[0, 0]] = 100.0
    assert bipartite_pairs(metric, 1, penalty)[0][0, 0] != source[0, 0]


def test_clusters_that_are_plain_to_see() -> None:
    centres = torch.tensor([[0.0, 0.0], [100.0, 0.0], [0.0, 100.0]], dtype=torch.float64)
    members = torch.arange(12) % 3
    features = centres[members] + random(12, 2)
    found, nearest = density_peaks(features, 3)
    assert sorted(members[found].tolist()) == [0, 1, 2]
    assert torch.equal(members[found][nearest], members)
    means = cluster_means(features, nearest, 3)
    for place in range(3):
        own = features[members == members[found[place]]]
        torch.testing.assert_close(means[place], own.mean(0), rtol=0, atol=1e-12)


@pytest.mark.parametrize("count", [1, 4])
def test_equal_tokens_still_give_every_cluster_a_member(count: int) -> None:
    found, nearest = density_peaks(torch.ones(4, 2, dtype=torch.float64), count)
    assert len(set(found.tolist())) == count
    assert torch.bincount(nearest, minlength=count).min() >= 1
