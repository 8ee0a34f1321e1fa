"""Energy and cost of a simulated run.

A busy GPU counts with its power limit, an upper bound: decoding draws less. An idle GPU counts with a share of the
limit. Hosts, network and cooling are not included.
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
# Our choice, for a GPU that is idle with a model loaded. An H100 SXM (700 W) draws 70 W at rest and an A100 SXM (400 W)
# 58 W (public logs of nvidia-smi); a CUDA context, which keeps the clocks up, adds 26 to 50 W on these two, whatever
# the memory in use (S. S. Vadari, "The Model Parking Tax", arXiv:2605.23918, 2026). So 0.14 to 0.17, and 0.21 to 0.27.
IDLE_SHARE = 0.17


@strict_dataclass
class Tariff:
    """Price and idle power of GPUs, in place of the catalogue's or where the catalogue has none.

    Attributes
    ----------
    prices : mapping of str to float
        US dollars for one GPU-hour, by the GPU's name, in place of the catalogue's.
    idle_share : float
        Power of an idle GPU as a share of its limit, in [0, 1].
    """

    prices: Mapping[str, float] = field(default_factory=dict)
    idle_share: float = IDLE_SHARE

    def __post_init__(self) -> None:
        if not 0.0 <= self.idle_share <= 1.0:
            raise InputError("idle_share", self.idle_share, "give a share from 0 to 1")
        for name, usd_per_hour in self.prices.items():
            if not 0.0 < usd_per_hour < math.inf:
                raise InputError(f"prices.{name}", usd_per_hour, "give US dollars an hour above 0")

    def price_usd_per_hour(self, gpu: Gpu) -> float | None:
        """Rent of one GPU-hour, US dollars; None where no price is known."""
        return self.prices.get(gpu.name, gpu.price_usd_per_hour)


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Energy and cost of a run; None where no request was completed, or no price is known.

    Attributes
    ----------
    energy_j : float
        Energy of all GPUs from sending the first request to the last token.
    mean_power_w : float, optional
        Mean power of all GPUs.
    output_tokens_per_j, wh_per_1000_requests : float, optional
        Over completed requests.
    price_usd_per_gpu_hour : float, optional
    price_source : str, optional
        Source of the price; "given" for the tariff's own.
    cost_usd, usd_per_1m_requests, usd_per_1m_output_tokens : float, optional
        Rent of all GPUs for the run, in all and over completed requests.
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
        """Figures by name."""
        return asdict(self)


def run_cost(metrics: ServingMetrics, gpu: Gpu, tariff: Tariff | None = None) -> Cost:
    """Energy and cost of a run on GPUs of one model.

    energy = GPUs x seconds x P x (b + (1 - b) s), with the share of busy time b, the power limit P and the idle
    share s.
    """
    tariff = tariff or Tariff()
    busy_share = metrics.shares["gpu_busy_share"] or 0.0
    power_w = metrics.gpus * gpu.tdp_w * (busy_share + (1.0 - busy_share) * tariff.idle_share)
    energy_j = power_w * metrics.duration_s
    requests, tokens = metrics.counts["completed"], metrics.counts["total_output_tokens"]
    price = tariff.price_usd_per_hour(gpu)
    cost_usd = None if price is None else price * metrics.gpus * metrics.duration_s / SECONDS_PER_HOUR
    return Cost(
        energy_j=energy_j,
        mean_power_w=power_w if metrics.duration_s else None,
        output_tokens_per_j=_per(tokens, energy_j),
        wh_per_1000_requests=_per(1000 * energy_j / SECONDS_PER_HOUR, requests),
        price_usd_per_gpu_hour=price,
        price_source="given" if gpu.name in tariff.prices else gpu.sources.get("price_usd_per_hour"),
        cost_usd=cost_usd,
        usd_per_1m_requests=None if cost_usd is None else _per(MEGA * cost_usd, requests),
        usd_per_1m_output_tokens=None if cost_usd is None else _per(MEGA * cost_usd, tokens),
    )


def _per(amount: float, count: float) -> float | None:
    return amount / count if count else None


def read_prices(text: str) -> dict[str, float]:
    """Prices from text such as ``h100_sxm=2.49,l40s=0.9``, US dollars for one GPU-hour.

    Raises
    ------
    InputError
        If an item is not name=number, a GPU is unknown or named twice, or a price is not above 0.
    """
    prices: dict[str, float] = {}
    for part in filter(None, (item.strip() for item in text.split(","))):
        name, _, value = part.partition("=")
        try:
            dollars = float(value)
        except ValueError:
            dollars = math.nan
        if not 0.0 < dollars < math.inf:
            raise InputError("price", part, "write gpu=dollars an hour above 0, such as h100_sxm=2.49")
        gpu_name = load_gpu(name).name
        if gpu_name in prices:
            raise InputError("price", part, f"the price of {gpu_name} is given twice")
        prices[gpu_name] = dollars
    if not prices:
        raise InputError("price", text, "write gpu=dollars an hour, several joined by commas")
    return prices
