"""What a vendor says, in the headers of its answers, that it will still take.

OpenAI and its kin: `x-ratelimit-{limit,remaining,reset}-{requests,tokens}`, reset as "6m0s" or "17ms" from
now (platform.openai.com/docs/guides/rate-limits). Anthropic: `anthropic-ratelimit-{requests,tokens,
input-tokens,output-tokens}-{limit,remaining,reset}`, reset as a moment (platform.claude.com/docs/en/api/
rate-limits). Both fill up all the time, and `reset` is when they are full again. Google sends none (2026-11).
Also when to try again: `retry-after-ms`, and `retry-after` in seconds or as a date.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Literal

Unit = Literal["requests", "tokens", "prompt_tokens", "completion_tokens"]
_NAMES: dict[str, tuple[Unit, str, str, str]] = {
    kind: (unit, *(pattern.format(part) for part in ("limit", "remaining", "reset")))  # type: ignore[misc]
    for kind, unit, pattern in (
        ("requests", "requests", "x-ratelimit-{}-requests"),
        ("tokens", "tokens", "x-ratelimit-{}-tokens"),
        ("anthropic requests", "requests", "anthropic-ratelimit-requests-{}"),
        ("anthropic tokens", "tokens", "anthropic-ratelimit-tokens-{}"),
        ("anthropic input", "prompt_tokens", "anthropic-ratelimit-input-tokens-{}"),
        ("anthropic output", "completion_tokens", "anthropic-ratelimit-output-tokens-{}"),
    )
}
_GO_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|us|h|m|s|d)")
_UNIT_SECONDS = {"d": 86_400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6}


@dataclass(frozen=True)
class Limit:
    """One of a vendor's limits, as it stood when it took the call."""

    kind: str  # tells one limit of a vendor from another
    unit: Unit
    remaining: float
    full_in_seconds: float
    size: float

    @property
    def per_second(self) -> float | None:
        """How fast it fills up; None: it is full, so nobody can tell."""
        used = self.size - self.remaining
        return used / self.full_in_seconds if used > 0 and self.full_in_seconds > 0 else None


def limits_of(headers: Mapping[str, str]) -> tuple[Limit, ...]:
    """The limits that these headers speak of; what cannot be read is left out."""
    if not any(name in headers for _, name, _, _ in _NAMES.values()):
        return ()
    return tuple(limit for kind in _NAMES if (limit := _limit(kind, headers)) is not None)


def retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """How long the vendor asks to wait; None: it does not say, or not so that it can be read."""
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    said = headers.get("retry-after")
    if said is None:
        return None
    seconds = _number(said)
    return seconds if seconds is not None else _until(said, headers)


def _limit(kind: str, headers: Mapping[str, str]) -> Limit | None:
    unit, size_name, remaining_name, reset_name = _NAMES[kind]
    size, remaining = _number(headers.get(size_name)), _number(headers.get(remaining_name))
    reset = headers.get(reset_name)
    # Azure says -1 and 0 where it does not know.
    if size is None or remaining is None or size <= 0 or reset is None:
        return None
    full_in_seconds = _duration(reset)
    if full_in_seconds is None:
        full_in_seconds = _until(reset, headers)
    return None if full_in_seconds is None else Limit(kind, unit, remaining, full_in_seconds, size)


def _duration(said: str) -> float | None:
    seconds = _number(said)
    if seconds is not None:
        return seconds
    parts = _GO_DURATION.findall(said)
    if not parts or "".join(number + unit for number, unit in parts) != said:
        return None
    return sum(float(number) * _UNIT_SECONDS[unit] for number, unit in parts)


def _until(moment: str, headers: Mapping[str, str]) -> float | None:
    """By the vendor's own clock, which its `date` tells: ours may be another."""
    now = _moment(headers.get("date", ""))
    then = _moment(moment)
    return None if now is None or then is None else max(0.0, (then - now).total_seconds())


def _moment(said: str) -> datetime | None:
    for read in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            found = read(said)
        except (ValueError, TypeError):
            continue
        return found if found.tzinfo is not None else None
    return None


def _number(said: str | None) -> float | None:
    try:
        number = float(said) if said is not None else None
    except ValueError:
        return None
    return number if number is not None and 0 <= number < float("inf") else None
