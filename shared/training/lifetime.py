"""Whether a base model and its provider last as long as a job may take. The dates lie in prices.json."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time

from shared.training.prices import model_price, vendor


@dataclass(frozen=True)
class Ending:
    """What ends too early, and who says so."""

    code: (
        str  # base_model_shut_down, base_model_shuts_down_too_soon, provider_closed, provider_closes_too_soon
    )
    message: str
    ends_on: date
    source: str


def ending(provider: str, base_model: str, *, now: datetime, until: datetime) -> Ending | None:
    """What speaks against a job that may run from `now` to `until` (both with a time zone); None: nothing.

    A date counts from its first moment in UTC, the earliest that a vendor can mean.
    """
    price, closing = model_price(provider, base_model), vendor(provider)
    if price is not None and price.shutdown_date is not None:
        source = price.shutdown_source or price.source
        day = price.shutdown_date
        if _begun(day, now):
            message = f"{base_model} was shut down on {day}, says {source}."
            return Ending("base_model_shut_down", message, day, source)
        if _begun(day, until):
            message = f"{base_model} shuts down on {day}, before this job must have ended, says {source}."
            return Ending("base_model_shuts_down_too_soon", message, day, source)
    if closing is not None and closing.closes_on is not None:
        day = closing.closes_on
        if _begun(day, now):
            message = f"{provider} has taken no fine-tuning job since {day}, says {closing.source}."
            return Ending("provider_closed", message, day, closing.source)
        if _begun(day, until):
            message = f"{provider} takes no fine-tuning job from {day} on, says {closing.source}."
            return Ending("provider_closes_too_soon", message, day, closing.source)
    return None


def _begun(day: date, at: datetime) -> bool:
    return at >= datetime.combine(day, time.min, tzinfo=UTC)
