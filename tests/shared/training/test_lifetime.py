"""Last days: a job is not started that they would cut off."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from shared.training.lifetime import ending

TODAY = datetime(2026, 11, 21, tzinfo=UTC)


def at(year: int, month: int, day: int, hour: int = 0, minute: int = 0, second: int = 0) -> datetime:
    return datetime(year, month, day, hour, minute, second, tzinfo=UTC)


@pytest.mark.parametrize(
    ("model", "now", "until", "code"),
    [
        ("gpt-4.1-nano", TODAY, TODAY, "base_model_shut_down"),
        ("gpt-3.5-turbo", TODAY, TODAY, "base_model_shut_down"),
        ("gpt-4.1", TODAY, at(2027, 1, 5, 23, 59, 59), None),
        ("gpt-4.1", TODAY, at(2027, 1, 6), "provider_closes_too_soon"),
        ("gpt-4.1", at(2027, 1, 6), at(2027, 1, 6, 6), "provider_closed"),
        ("gpt-4.1", at(2027, 1, 13), at(2027, 1, 14), "base_model_shuts_down_too_soon"),
        ("gpt-4.1", at(2027, 1, 14), at(2027, 1, 15), "base_model_shut_down"),
        ("a-model-of-tomorrow", TODAY, at(2027, 1, 7), "provider_closes_too_soon"),
    ],
)
def test_days_begin_at_midnight_in_utc(model: str, now: datetime, until: datetime, code: str | None) -> None:
    found = ending("openai", model, now=now, until=until)
    assert (found.code if found else None) == code
    if found:
        assert str(found.ends_on) in found.message
        assert found.source in found.message


def test_other_time_zones_mean_the_same_moment() -> None:
    tokyo = timezone(timedelta(hours=9))
    morning = datetime(2027, 1, 6, 8, 59, tzinfo=tokyo)  # still the fifth in UTC
    assert ending("openai", "gpt-4.1", now=morning, until=morning) is None


@pytest.mark.parametrize("provider", ["local", "modal", "huggingface", "together"])
def test_open_weights_have_no_last_day(provider: str) -> None:
    far = datetime(2036, 1, 1, tzinfo=UTC)
    assert ending(provider, "Qwen/Qwen3-4B", now=far, until=far) is None
