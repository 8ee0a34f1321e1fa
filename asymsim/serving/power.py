"""Energy and money: what a run of a fleet draws and costs.

A GPU at work counts with its power limit, which bounds what it draws: decoding draws less. One that waits counts with a
share of the limit. Hosts, network and cooling are in neither.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from asymsim.catalogue.gpu import Gpu, load_gpu
from asymsim.serving.metrics import ServingMetrics
from asymsim.util.errors import InputError
from asymsim.util.strict import strict_dataclass
from asymsim.util.units import MEGA

SECONDS_PER_HOUR = 3600.0
# Our choice, for a model that is loaded and idle. An H100 SXM (700 W) draws 70 W at rest and an A100 SXM (400 W) 58 W
# (public logs of nvidia-smi); a CUDA context, which holds the clocks up, adds 26 to 50 W on these two, whatever the
# memory in use (S. S. Vadari, "The Model Parking Tax", arXiv:2605.23918, 2026). So 0.14 to 0.17, and 0.21 to 0.27.
IDLE_SHARE = 0.17


@strict_dataclass
class Tariff:
    """What a GPU costs and draws, where the catalogue does not say or you know better.

    Attributes
    ----------
    prices : mapping of str to float
        US dollars an hour of one GPU by its name, instead of the catalogue's.
    idle_share : float
        Power of a GPU that waits, as a share of its limit, in [0, 1].
    """

    prices: Mapping[str, float] = field(default_factory=dict)
    idle_share: float = IDLE_SHARE

    def __post_init__(self) -> None:
        if not 0.0 <= self.idle_share <= 1.0:
            raise InputError("idle_share", self.idle_share, "give a share from 0 to 1")

    def price_usd_per_hour(self, device: Gpu) -> float | None:
        """Rent of one GPU an hour, US dollars; None where nobody says it."""
        return self.prices.get(device.name, device.price_usd_per_hour)


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a run takes; None where nothing was served, or no price is known.

    Attributes
    ----------
    energy_j : float
        Of all GPUs from the first request sent to the last one done.
    mean_power_w : float, optional
        Of all GPUs.
    output_tokens_per_j, wh_per_1000_requests : float, optional
        Of what was completed.
    price_usd_per_gpu_hour : float, optional
    price_source : str, optional
        Where the price comes from.
    cost_usd, usd_per_1m_requests, usd_per_1m_output_tokens : float, optional
        Rent of all GPUs for the run; of what was completed.
    """

    energy_j: float
    mean_power_w: float | None
    output_tokens_per_j: float | None
    wh_per_1000_requests: float | None
    price_usd_per_gpu_hour: float | None
    price_source: str | None
    cost_usd: float | None
    usd_per_1m_requests: float | None
    usd_per_1m_output_tokens: float | None

    def to_dict(self) -> dict[str, Any]:
        """The figures by name."""
        return asdict(self)


def run_cost(run: ServingMetrics, device: Gpu, tariff: Tariff | None = None) -> Cost:
    """Energy and cost of a run on GPUs of one kind.

    With b the share of time at work, P the power limit and s the idle share, energy = GPUs x seconds x P x
    (b + (1 - b) s).
    """
    tariff = tariff or Tariff()
    busy = run.shares["gpu_busy_share"] or 0.0
    power_w = run.gpus * device.tdp_w * (busy + (1.0 - busy) * tariff.idle_share)
    energy_j = power_w * run.duration_s
    requests, tokens = run.counts["completed"], run.counts["total_output_tokens"]
    price = tariff.price_usd_per_hour(device)
    paid = None if price is None else price * run.gpus * run.duration_s / SECONDS_PER_HOUR
    return Cost(
        energy_j=energy_j,
        mean_power_w=power_w if run.duration_s else None,
        output_tokens_per_j=_per(tokens, energy_j),
        wh_per_1000_requests=_per(1000 * energy_j / SECONDS_PER_HOUR, requests),
        price_usd_per_gpu_hour=price,
        price_source="given" if device.name in tariff.prices else device.sources.get("price_usd_per_hour"),
        cost_usd=paid,
        usd_per_1m_requests=None if paid is None else _per(MEGA * paid, requests),
        usd_per_1m_output_tokens=None if paid is None else _per(MEGA * paid, tokens),
    )


def _per(what: float, of: float) -> float | None:
    return what / of if of else None


def read_prices(text: str) -> dict[str, float]:
    """Prices such as ``h100_sxm=2.49,l40s=0.9``, US dollars an hour of one GPU.

    Raises
    ------
    InputError
        If one is no name=number, a GPU is unknown or comes twice, or a price is not above 0.
    """
    prices: dict[str, float] = {}
    for part in filter(None, (each.strip() for each in text.split(","))):
        name, _, value = part.partition("=")
        try:
            dollars = float(value)
        except ValueError:
            dollars = math.nan
        if not 0.0 < dollars < math.inf:
            raise InputError("price", part, "write gpu=dollars an hour above 0, such as h100_sxm=2.49")
        known = load_gpu(name).name
        if known in prices:
            raise InputError("price", part, f"the price of {known} is given twice")
        prices[known] = dollars
    if not prices:
        raise InputError("price", text, "write gpu=dollars an hour, several joined by commas")
    return prices
