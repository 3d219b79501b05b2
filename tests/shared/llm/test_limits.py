"""What vendors say that they will still take, as they say it."""

import pytest

from shared.llm.limits import Limit, limits_of, retry_after_seconds

DATE = "Sun, 29 Nov 2026 12:00:00 GMT"


def openai(kind: str, size: str, remaining: str, reset: str) -> dict[str, str]:
    return {
        f"x-ratelimit-limit-{kind}": size,
        f"x-ratelimit-remaining-{kind}": remaining,
        f"x-ratelimit-reset-{kind}": reset,
    }


def anthropic(kind: str, size: str, remaining: str, reset: str) -> dict[str, str]:
    names = {"limit": size, "remaining": remaining, "reset": reset}
    return {f"anthropic-ratelimit-{kind}-{name}": said for name, said in names.items()}


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        (openai("requests", "500", "499", "120ms"), Limit("requests", "requests", 499, 0.12, 500)),
        (openai("tokens", "60000", "0", "6m0s"), Limit("tokens", "tokens", 0, 360, 60_000)),
        (openai("requests", "200", "100", "1h2m3.5s"), Limit("requests", "requests", 100, 3723.5, 200)),
        (openai("requests", "200", "199", "7"), Limit("requests", "requests", 199, 7, 200)),
        (
            anthropic("input-tokens", "50000", "49000", "2026-11-29T12:00:30Z") | {"date": DATE},
            Limit("anthropic input", "prompt_tokens", 49_000, 30, 50_000),
        ),
        # Said by nobody's clock, by Azure when it does not know, and by nobody at all.
        (anthropic("requests", "50", "49", "2026-11-29T12:00:30Z"), None),
        (openai("tokens", "-1", "-1", "0"), None),
        (openai("requests", "500", "many", "1s"), None),
        (openai("requests", "500", "1", "soon"), None),
        (openai("requests", "500", "nan", "1s"), None),
        ({}, None),
    ],
)
def test_limits_are_read(headers: dict[str, str], found: Limit | None) -> None:
    assert limits_of(headers) == (() if found is None else (found,))


def test_how_fast_a_limit_fills_up() -> None:
    assert Limit("tokens", "tokens", 30_000, 30, 60_000).per_second == 1000
    assert Limit("tokens", "tokens", 60_000, 0, 60_000).per_second is None


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "2"}, 2.0),
        ({"retry-after": "0.25"}, 0.25),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"retry-after": "Sun, 29 Nov 2026 12:00:09 GMT", "date": DATE}, 9.0),
        ({"retry-after": "Sun, 29 Nov 2026 11:00:00 GMT", "date": DATE}, 0.0),
        ({"retry-after": "tomorrow", "date": DATE}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "inf"}, None),
        ({}, None),
    ],
)
def test_the_wait_is_read(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_seconds(headers) == seconds
