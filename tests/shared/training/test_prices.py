"""Prices: every line is dated and sourced, every bill is exact to the micro-dollar."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest
from pydantic import ValidationError

from shared.training.prices import (
    gpu_cost_usd,
    gpu_price,
    gpu_prices,
    model_price,
    price_list,
    training_cost_usd,
    vendor,
)
from shared.training.sizing.gpus import CARDS

GOLDEN = 4_306 * 20  # tokens of one epoch x epochs


def test_golden_case_counts_every_epoch() -> None:
    assert GOLDEN == 86_120


@pytest.mark.parametrize(
    ("model", "usd"),
    [
        ("gpt-4o-mini-2024-07-18", 0.25836),
        ("gpt-4.1-2025-04-14", 2.153),
        ("gpt-4.1-mini-2025-04-14", 0.4306),
        ("gpt-4.1-nano-2025-04-14", 0.12918),
        ("gpt-4o-2024-08-06", 2.153),
        ("o4-mini-2025-04-16", None),  # billed by the hour
        ("gpt-3.5-turbo", None),  # sold no more
        ("gpt-6-luna", None),  # never sold
    ],
)
def test_what_the_golden_case_costs(model: str, usd: float | None) -> None:
    assert training_cost_usd("openai", model, GOLDEN) == usd


@pytest.mark.parametrize(
    ("tokens", "usd"),
    [(0, 0.0), (1, 0.000005), (1_000_000, 5.0), (123_456_789, 617.283945), (10**12, 5_000_000.0)],
)
def test_bills_are_exact(tokens: int, usd: float) -> None:
    assert training_cost_usd("openai", "gpt-4.1-mini", tokens) == usd


def test_half_a_micro_dollar_is_rounded_up() -> None:
    assert training_cost_usd("openai", "gpt-4.1-nano", 1) == 0.000002  # 0.0000015
    assert training_cost_usd("openai", "gpt-4.1-nano", 3) == 0.000005  # 0.0000045


def test_a_model_has_many_names_and_one_price() -> None:
    names = ("gpt-4.1-mini", "gpt-4.1-mini-2025-04-14", "ft:gpt-4.1-mini-2025-04-14:acme:doors:AbC1")
    prices = {model_price("openai", name) for name in names}
    assert len(prices) == 1
    assert model_price("openai", "gpt-4.1-mini-2026-01-01") is None
    assert model_price("together", "gpt-4.1-mini") is None


@pytest.mark.parametrize(
    ("provider", "gpu", "seconds", "usd"),
    [
        ("modal", "H100", 3600, 3.9492),
        ("modal", "H100:2", 100.2, 0.221594),  # 101 s: whole seconds
        ("modal", "T4", 1, 0.000164),
        ("huggingface", "l4x1", 3600, 0.8),
        ("huggingface", "l4x1", 61, 0.026667),  # two minutes: whole minutes
        ("huggingface", "h200x8", 60, 0.666667),
        ("modal", "H999", 60, None),
        ("modal", "H100:0", 60, None),
        ("modal", "H100:many", 60, None),
        ("local", "H100", 60, None),
    ],
)
def test_time_on_a_gpu(provider: str, gpu: str, seconds: float, usd: float | None) -> None:
    assert gpu_cost_usd(provider, gpu, seconds) == usd


def test_several_gpus_cost_as_much_as_each() -> None:
    one, four = gpu_price("modal", "A100-80GB"), gpu_price("modal", "A100-80GB:4")
    assert one
    assert four
    assert (four.gpu, four.card_count, four.usd) == ("A100-80GB:4", 4, 4 * (one.usd or 0))
    assert gpu_price("modal", "A100") == gpu_price("modal", "A100-40GB")


def test_every_price_says_when_and_by_whom() -> None:
    for entry in (*price_list().prices, *price_list().vendors):
        assert date(2026, 1, 1) < entry.as_of <= date(2026, 11, 21)
        assert len(entry.source) > 10
    for price in price_list().prices:
        assert (price.model is None) != (price.gpu is None)
        assert price.shutdown_date is None or price.shutdown_source
        assert price.gpu is None or price.card in CARDS
        assert price.usd is None or price.usd > 0


def test_no_name_is_priced_twice() -> None:
    names = [
        (price.provider, name)
        for price in price_list().prices
        for name in (price.model or price.gpu, *price.aliases)
    ]
    assert len(names) == len(set(names))


def test_gpus_come_cheapest_first() -> None:
    for provider in ("modal", "huggingface"):
        rates = [price.usd_per_second or Decimal(0) for price in gpu_prices(provider)]
        assert rates == sorted(rates)
        assert len(rates) >= 10
    assert gpu_prices("together") == ()


def test_the_last_days_are_data() -> None:
    openai = vendor("openai")
    assert openai
    assert openai.closed_to_new_accounts_since == date(2026, 5, 7)
    assert openai.closes_on == date(2027, 1, 6)
    ends = {price.model: str(price.shutdown_date) for price in price_list().prices if price.shutdown_date}
    assert ends == {
        "gpt-4o-mini-2024-07-18": "2027-01-14",
        "gpt-4.1-2025-04-14": "2027-01-14",
        "gpt-4.1-mini-2025-04-14": "2027-01-14",
        "gpt-4o-2024-08-06": "2027-01-14",
        "gpt-4.1-nano-2025-04-14": "2026-10-23",
        "o4-mini-2025-04-16": "2026-10-23",
        "gpt-3.5-turbo-0125": "2026-10-23",
    }
    assert vendor("nobody") is None


def test_prices_cannot_be_changed_in_passing() -> None:
    price = model_price("openai", "gpt-4.1")
    assert price
    with pytest.raises(ValidationError, match="frozen"):
        price.usd = Decimal(0)
