"""What providers over HTTP have in common: how a refusal is told, and one start of a job at a time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from weakref import WeakValueDictionary

from pydantic import SecretStr

from shared.errors import (
    ProviderBusy,
    ProviderError,
    ProviderKeyInvalid,
    ProviderNotEligible,
    ProviderRejected,
    ProviderUnavailable,
)
from shared.llm.limits import retry_after_seconds
from shared.log import REDACTED, redact

# All requests of one call together: a step of a job holds its lease for 90 seconds.
MOST_SECONDS = 75.0
_REASON_CHARACTERS = 500


def refusal(
    vendor: str, status: int, body: str, *, headers: Mapping[str, str], key: SecretStr
) -> ProviderError:
    """The error that an answer with this HTTP status means, with the vendor's reason and no secret in it.

    What 404 means depends on the question: the caller looks at it first. 402 and 403 are the account's.
    """
    reason = told(_reason(body), key)
    if status == 401:
        return ProviderKeyInvalid(f"{vendor} does not accept this API key: {reason}. Set a valid one.")
    if status == 429:
        wait = retry_after_seconds(headers)
        return ProviderBusy(f"{vendor} is busy: {reason}", retry_after_seconds=wait)
    if status in (402, 403):
        return ProviderNotEligible(f"{vendor} does not let this account do that: {reason}")
    if 400 <= status < 500 and status != 408:
        return ProviderRejected(f"{vendor} said no: {reason}")
    return ProviderUnavailable(
        f"{vendor} answered {status}: {reason}", retry_after_seconds=retry_after_seconds(headers)
    )


@contextmanager
def before_create() -> Iterator[None]:
    """Around what a start does before it asks for a run: when that fails, there is surely none."""
    try:
        yield
    except ProviderBusy:
        raise
    except ProviderUnavailable as error:
        wait = error.retry_after_seconds
        raise ProviderBusy(
            error.message, code=error.code, details=error.details, retry_after_seconds=wait
        ) from error


def silence(vendor: str, error: BaseException) -> ProviderUnavailable:
    """The error that no answer means, or a senseless one. Its text may hold anything and is not told."""
    cause = type(error.__cause__ or error).__name__
    return ProviderUnavailable(f"{vendor} did not answer, or not as expected.", details={"cause": cause})


def told(text: str, key: SecretStr) -> str:
    """A text of the vendor's that may be shown: cut, without this key and without what looks like one."""
    plain = text.replace("\x00", "").encode(errors="replace").decode()  # Postgres takes neither
    return str(redact(plain.replace(key.get_secret_value(), REDACTED)))[:_REASON_CHARACTERS]


def _reason(body: str) -> str:
    """The sentence in an error body: `{"error": {"message"}}`, `{"error"}`, `{"message"}`, or text."""
    try:
        found = json.loads(body)
    except ValueError:
        return body
    for name in ("error", "message"):
        if isinstance(found, dict):
            found = found.get(name, found)
    return found if isinstance(found, str) else body


class OneAtATime:
    """Starts of one job wait for each other in this process: `async with locks(idempotency_key)`.

    Two at once would both search, both find nothing and both create.
    """

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def __call__(self, key: str) -> asyncio.Lock:
        lock = self._locks.get(key)
        if lock is None:
            self._locks[key] = lock = asyncio.Lock()
        return lock
