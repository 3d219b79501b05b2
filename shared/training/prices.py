"""What training costs elsewhere, until when it is sold, and who says so. The numbers lie in prices.json.

A price that is not known is not there: nothing is derived from memory or from a neighbouring model.
"""

from __future__ import annotations

from datetime import date
from decimal import ROUND_CEILING, ROUND_HALF_UP, Decimal
from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import Field

from shared.training.config import Record

PriceUnit = Literal["million_training_tokens", "second", "hour"]
_MICRO_DOLLAR = Decimal("0.000001")  # what the rows keep: numeric(12, 6)
# Who rents a GPU by the number; others sell machines as they are. Up to 8, and these up to (Modal's guide of
# GPUs, modal.com/docs/guide/gpu):
_BY_THE_CARD = {"modal": {"A10": 4}}
_SECONDS: dict[PriceUnit, int] = {"second": 1, "hour": 3600}


class Price(Record):
    """One line of a vendor's price list, in USD."""

    provider: str
    model: str | None = Field(default=None, description="A base model; None: a GPU is priced.")
    gpu: str | None = Field(default=None, description="As the provider names it; None: a model is priced.")
    aliases: tuple[str, ...] = Field(default=(), description="Other names of the same model or GPU.")
    card: str | None = Field(default=None, description="The GPU's name in shared.training.gpus.")
    card_count: int = Field(default=1, ge=1)
    unit: PriceUnit
    usd: Decimal | None = Field(ge=0, description="None: sold no more, and no price is kept.")
    billing_seconds: int = Field(default=1, ge=1, description="Time is billed in whole steps of this.")
    input_usd_per_million_tokens: Decimal | None = Field(default=None, ge=0)
    cached_input_usd_per_million_tokens: Decimal | None = Field(default=None, ge=0)
    output_usd_per_million_tokens: Decimal | None = Field(default=None, ge=0)
    as_of: date
    source: str
    valid_until: date | None = Field(default=None, description="None: no end was announced.")
    shutdown_date: date | None = Field(
        default=None, description="The first day on which the model and its fine-tunes do not answer."
    )
    shutdown_source: str | None = None
    note: str | None = None

    @property
    def usd_per_second(self) -> Decimal | None:
        """What a second costs; None: time is not what is sold."""
        seconds = _SECONDS.get(self.unit)
        return self.usd / seconds if seconds and self.usd is not None else None

    @property
    def usd_per_million_tokens(self) -> Decimal | None:
        """What a million trained tokens cost; None: tokens are not what is sold."""
        return self.usd if self.unit == "million_training_tokens" else None


class Vendor(Record):
    """What holds for all that a vendor sells."""

    provider: str
    closed_to_new_accounts_since: date | None = None
    closes_on: date | None = Field(default=None, description="The first day on which no job is taken.")
    as_of: date
    source: str
    notes: tuple[str, ...] = Field(default=(), description="Sentences that belong beside every estimate.")


class PriceList(Record):
    vendors: tuple[Vendor, ...]
    prices: tuple[Price, ...]


@lru_cache(maxsize=1)
def price_list() -> PriceList:
    """Everything in prices.json, read once."""
    return PriceList.model_validate_json(Path(__file__).with_name("prices.json").read_bytes())


def vendor(provider: str) -> Vendor | None:
    """What is known of the vendor as such; None: nothing."""
    return next((vendor for vendor in price_list().vendors if vendor.provider == provider), None)


def model_price(provider: str, model: str) -> Price | None:
    """The price of training a base model there, by any of its names; None: not known.

    A model that was tuned from it (`ft:<base>:...`) is trained on at the price of its base.
    """
    base = model.split(":")[1] if model.startswith("ft:") else model
    return next(
        (
            price
            for price in price_list().prices
            if price.provider == provider and price.model and base in (price.model, *price.aliases)
        ),
        None,
    )


def gpu_prices(provider: str) -> tuple[Price, ...]:
    """Every GPU that the provider rents out at a known price, the cheapest first."""
    offers = (price for price in price_list().prices if price.provider == provider and price.gpu)
    return tuple(sorted(offers, key=lambda price: price.usd_per_second or 0))


def gpu_offers(provider: str, gpu_count: int) -> tuple[Price, ...]:
    """What the provider rents out with exactly so many GPUs, the cheapest first."""
    offers = gpu_prices(provider)
    if provider in _BY_THE_CARD and gpu_count > 1:
        most = _BY_THE_CARD[provider]
        some = (offer for offer in offers if gpu_count <= most.get(offer.gpu or "", gpu_count))
        return tuple(several for offer in some if (several := _several(offer, str(gpu_count))))
    return tuple(offer for offer in offers if offer.card_count == gpu_count)


def counted_gpu(provider: str, gpu: str, gpu_count: int) -> str:
    """How the provider names so many of a GPU. Elsewhere than at Modal the name of a machine says it."""
    return f"{gpu}:{gpu_count}" if provider in _BY_THE_CARD and gpu_count > 1 else gpu


def gpu_price(provider: str, gpu: str) -> Price | None:
    """The price of a GPU there; None: not known. `H100:4` is four of them, as Modal counts."""
    name, _, count = gpu.partition(":")
    for price in gpu_prices(provider):
        if name in (price.gpu, *price.aliases):
            return _several(price, count) if count else price
    return None


def training_cost_usd(provider: str, model: str, trained_tokens: int) -> float | None:
    """What the vendor bills for so many trained tokens, to the micro-dollar; None: no price is known.

    Estimates and the bills of finished jobs both come from here.
    """
    price = model_price(provider, model)
    if price is None or price.usd_per_million_tokens is None:
        return None
    return rounded(price.usd_per_million_tokens * trained_tokens / 1_000_000)


def gpu_cost_usd(provider: str, gpu: str, seconds: float) -> float | None:
    """What so many seconds on a GPU cost, in whole billing steps; None: no price is known."""
    price = gpu_price(provider, gpu)
    if price is None or price.usd_per_second is None:
        return None
    steps = (Decimal(str(seconds)) / price.billing_seconds).to_integral_value(ROUND_CEILING)
    return rounded(price.usd_per_second * steps * price.billing_seconds)


def _several(price: Price, count: str) -> Price | None:
    if not count.isdecimal() or int(count) < 1 or price.usd is None:
        return None
    many = int(count)
    return price.model_copy(
        update={"gpu": f"{price.gpu}:{many}", "usd": price.usd * many, "card_count": many}
    )


def rounded(usd: Decimal) -> float:
    """To the micro-dollar, halves up: the same as the database keeps."""
    return float(usd.quantize(_MICRO_DOLLAR, ROUND_HALF_UP))
