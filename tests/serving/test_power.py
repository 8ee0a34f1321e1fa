"""Energy between idle and full power, prices by name, and what each comes to for a request."""

from __future__ import annotations

import pytest

from asymsim.catalogue.gpu import gpu_names, load_gpu
from asymsim.serving.metrics import ServingMetrics, serving_metrics
from asymsim.serving.power import Tariff, read_prices, run_cost
from asymsim.util.errors import InputError, UnknownNameError
from oracles.served_by_hand import served


def run(busy_s: float, gpus: int = 2) -> ServingMetrics:
    """An hour with 1,000 requests of 10 tokens, all at once."""
    import numpy as np

    sent = np.zeros(1000)
    return serving_metrics(served(sent, sent + 60, sent + 3600, output_tokens=10, busy_s=np.array([busy_s]), gpus=gpus))


def test_a_gpu_that_always_works_draws_its_limit() -> None:
    found = run_cost(run(3600.0), load_gpu("h100_sxm"))
    assert found.mean_power_w == pytest.approx(2 * 700)
    assert found.energy_j == pytest.approx(2 * 700 * 3600)
    assert found.wh_per_1000_requests == pytest.approx(1400)
    assert found.output_tokens_per_j == pytest.approx(10_000 / (1400 * 3600))


@pytest.mark.parametrize("share", [0.0, 0.17, 1.0])
def test_a_gpu_that_never_works_draws_the_idle_share(share: float) -> None:
    assert run_cost(run(0.0), load_gpu("h100_sxm"), Tariff(idle_share=share)).mean_power_w == pytest.approx(
        1400 * share
    )
    half = run_cost(run(1800.0), load_gpu("h100_sxm"), Tariff(idle_share=share)).mean_power_w
    assert half == pytest.approx(1400 * (1 + share) / 2)


def test_rent_is_for_all_gpus_and_hours() -> None:
    found = run_cost(run(1.0, gpus=4), load_gpu("h100_sxm"), Tariff(prices={"h100_sxm": 2.5}))
    assert found.cost_usd == pytest.approx(10.0)
    assert found.usd_per_1m_requests == pytest.approx(10_000.0)
    assert found.usd_per_1m_output_tokens == pytest.approx(1000.0)
    assert found.price_source == "given"


def test_the_catalogue_names_provider_address_and_day_of_its_prices() -> None:
    priced = [entry for entry in map(load_gpu, gpu_names()) if entry.price_usd_per_hour is not None]
    assert {"h100_sxm", "h200_sxm", "a100_80gb_sxm", "l40s", "b200_sxm"} <= {entry.name for entry in priced}
    for entry in priced:
        assert "https://" in entry.sources["price_usd_per_hour"]
        assert " on 2026-" in entry.sources["price_usd_per_hour"]


def test_without_a_price_there_is_energy_but_no_cost() -> None:
    found = run_cost(run(1.0), load_gpu("t4"))
    assert found.energy_j > 0
    assert found.cost_usd is found.usd_per_1m_requests is found.price_source is None


def test_nothing_served_is_no_figure() -> None:
    found = run_cost(serving_metrics(served([], [], [])), load_gpu("h100_sxm"))
    assert found.energy_j == 0
    assert found.mean_power_w is found.output_tokens_per_j is found.usd_per_1m_requests is None


def test_prices_go_by_any_name_of_a_gpu() -> None:
    assert read_prices("H100-SXM=2.49, l40s = 0.9") == {"h100_sxm": 2.49, "l40s": 0.9}


@pytest.mark.parametrize(
    "text", ["", ",", "h100_sxm", "h100_sxm=", "h100_sxm=free", "l4=0", "l4=-1", "l4=nan", "l4=inf"]
)
def test_bad_prices_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="price"):
        read_prices(text)


def test_unknown_and_doubled_gpus_are_refused() -> None:
    with pytest.raises(UnknownNameError):
        read_prices("h1000=2")
    with pytest.raises(InputError, match="twice"):
        read_prices("h100_sxm=2,h100-sxm=3")
    with pytest.raises(InputError, match="idle_share"):
        Tariff(idle_share=1.01)
