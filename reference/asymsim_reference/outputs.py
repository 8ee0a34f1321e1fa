"""Pruned against dense attention: the error that pruning makes, beside the bound that it cannot pass.

    python -m asymsim_reference.outputs [--json]

For each query, with m the softmax mass of the dropped keys D and S the kept ones,

    ||o - o_S|| <= m max ||v_i - v_j||,   i in D, j in S,

and o - o_S = m (mu_D - mu_S), mu the weighted means of the values. Random inputs show how loose the bound is in
practice, adversarial ones attain it. The exit code is 1 if any query passes its bound.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from asymsim_reference.attention import attention, dropped_mass, pruning_error_bound, visible

EPSILON = 16 * torch.finfo(torch.float64).eps


class Inputs(NamedTuple):
    """Queries H x M x D, keys and values of one KV head 1 x N x D, and who sees whom M x N."""

    q: Tensor
    k: Tensor
    v: Tensor
    mask: Tensor


@dataclass(frozen=True, kw_only=True)
class Result:
    """One case.

    Attributes
    ----------
    case, rule : str
        The inputs, and how tokens were chosen.
    tokens, kept : int
        Keys before and after.
    mass : float
        Largest m of a query.
    error, bound : float
        Of the query whose error is largest.
    tightness : float or None
        Largest error of a query as a share of its bound; None where no query can err.
    identity : float
        Largest ||(o - o_S) - m (mu_D - mu_S)|| of a query, which is rounding alone.
    within : bool
        Whether no query passes its bound by more than rounding.
    """

    case: str
    rule: str
    tokens: int
    kept: int
    mass: float
    error: float
    bound: float
    tightness: float | None
    identity: float
    within: bool


def compare(case: str, rule: str, inputs: Inputs, kept_n: Tensor) -> Result:
    """Attend over all keys and over the kept ones, and hold the difference to the bound.

    Parameters
    ----------
    case, rule : str
        Names for the report.
    inputs : Inputs
        Every query must see a kept key.
    kept_n : Tensor
        N, True for the keys that stay.
    """
    q, k, v, mask = inputs
    dense = attention(q, k, v, mask)
    pruned = attention(q, k, v, mask & kept_n)
    change = dense.output - pruned.output
    error = change.norm(dim=-1)
    mass = dropped_mass(pruned.lse, dense.lse)
    bound = pruning_error_bound(mass, v[0], kept_n)
    dropped = attention(q, k, v, mask & ~kept_n)
    identity = (change - mass[..., None] * (dropped.output - pruned.output)).norm(dim=-1)
    worst = int(error.argmax())
    # A score of size s rounds by s eps, which its exponential turns into a relative error of s eps.
    largest_score = float(q.norm(dim=-1).max() * k.norm(dim=-1).max()) * q.shape[-1] ** -0.5
    rounding = EPSILON * (1 + largest_score) * float(v.abs().max())
    possible = bound > rounding
    return Result(
        case=case,
        rule=rule,
        tokens=k.shape[1],
        kept=int(kept_n.sum()),
        # -expm1(0) is -0.
        mass=abs(float(mass.max())),
        error=float(error.flatten()[worst]),
        bound=float(bound.flatten()[worst]),
        tightness=float((error[possible] / bound[possible]).max()) if bool(possible.any()) else None,
        identity=float(identity.max()),
        within=bool((error <= bound + rounding).all()),
    )


def cases(seed: int = 0) -> Iterator[Result]:
    """Random and adversarial inputs, under several rules of keeping tokens."""
    draw = torch.Generator().manual_seed(seed)
    for keep in (0.75, 0.5, 0.25):
        for name, causal in (("random", False), ("random, causal", True)):
            inputs = random_inputs(draw, tokens=96, size=32, causal=causal)
            for rule, choose in RULES.items():
                yield compare(name, rule, inputs, choose(inputs, round(96 * keep), draw))
    sharp = random_inputs(draw, tokens=96, size=32, causal=False)
    sharp = sharp._replace(q=sharp.q * 40)
    for rule, choose in RULES.items():
        yield compare("sharp softmax", rule, sharp, choose(sharp, 48, draw))
    for mass in (1e-12, 0.5, 1 - 1e-6):
        yield compare(f"two points, m = {mass:g}", "one of each kind", *two_points(mass))
    equal = random_inputs(draw, tokens=64, size=16, causal=False)
    equal = equal._replace(v=equal.v[:, :1].expand(-1, 64, -1))
    yield compare("equal values", "random", equal, _at_random(equal, 8, draw))
    yield compare("nothing dropped", "all", sharp, torch.ones(96, dtype=torch.bool))
    large = random_inputs(draw, tokens=64, size=16, causal=False)
    large = large._replace(v=large.v * 1e6)
    worst = attention(large.q, large.k, large.v).weights.sum((0, 1)).argsort()[:8]
    yield compare("values of 1e6", "least attended", large, _chosen(worst, 64))


def random_inputs(draw: torch.Generator, tokens: int, size: int, *, causal: bool, heads: int = 4) -> Inputs:
    """Gaussian q, k and v, a query a token."""

    def gaussian(first: int) -> Tensor:
        return torch.randn(first, tokens, size, generator=draw, dtype=torch.float64)

    positions = torch.arange(tokens)
    return Inputs(gaussian(heads), gaussian(1), gaussian(1), visible(positions, positions, causal=causal))


def two_points(mass: float, size: int = 8) -> tuple[Inputs, Tensor]:
    """A kept and a dropped key whose values are opposite: the error is the bound, m ||v_i - v_j|| = 2 m ||v||."""
    logit = torch.tensor(mass, dtype=torch.float64).logit()
    q = torch.zeros(1, 1, size, dtype=torch.float64)
    q[..., 0] = size**0.5
    k = torch.zeros(1, 2, size, dtype=torch.float64)
    k[0, 1, 0] = logit
    v = torch.zeros(1, 2, size, dtype=torch.float64)
    v[0, :, 1] = torch.tensor([1.0, -1.0])
    return Inputs(q, k, v, torch.ones(1, 2, dtype=torch.bool)), torch.tensor([True, False])


def _chosen(kept: Tensor, tokens: int) -> Tensor:
    return torch.zeros(tokens, dtype=torch.bool).index_fill(0, kept, True)


def _with_first(order: Tensor, count: int) -> Tensor:
    """The first token, which every causal query sees, and the best of the others."""
    others = order[order != 0][: count - 1]
    return _chosen(torch.cat([torch.zeros(1, dtype=torch.long), others]), len(order))


def _at_random(inputs: Inputs, count: int, draw: torch.Generator) -> Tensor:
    return _with_first(torch.randperm(inputs.k.shape[1], generator=draw), count)


def _most_attended(inputs: Inputs, count: int, _draw: torch.Generator) -> Tensor:
    received = attention(*inputs).weights.sum((0, 1))
    return _with_first(received.argsort(descending=True), count)


def _least_attended(inputs: Inputs, count: int, _draw: torch.Generator) -> Tensor:
    return _with_first(attention(*inputs).weights.sum((0, 1)).argsort(), count)


def _most_recent(inputs: Inputs, count: int, _draw: torch.Generator) -> Tensor:
    return _with_first(torch.arange(inputs.k.shape[1] - 1, -1, -1), count)


RULES: dict[str, Callable[[Inputs, int, torch.Generator], Tensor]] = {
    "random": _at_random,
    "most attended": _most_attended,
    "least attended": _least_attended,
    "most recent": _most_recent,
}


def main(arguments: list[str] | None = None) -> int:
    """Print a row a case; 1 if any query passes its bound."""
    parser = argparse.ArgumentParser(prog="asymsim_reference.outputs", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--json", action="store_true", help="a list of records instead of a table")
    chosen = parser.parse_args(arguments)
    results = list(cases())
    if chosen.json:
        json.dump([asdict(each) for each in results], sys.stdout, indent=1)
        print()
    else:
        print(f"{'case':24}{'kept':12}{'rule':18}{'mass':>10}{'error':>12}{'bound':>12}  verdict")
        for each in results:
            kept = f"{each.kept} of {each.tokens}"
            figures = f"{each.mass:10.3g}{each.error:12.4g}{each.bound:12.4g}"
            print(f"{each.case:24}{kept:12}{each.rule:18}{figures}  {'within' if each.within else 'EXCEEDS'}")
    return 0 if all(each.within for each in results) else 1


if __name__ == "__main__":
    sys.exit(main())
