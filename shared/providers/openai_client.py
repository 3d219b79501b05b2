"""OpenAI's SDK, once a call: connections are kept, keys are not, and every error becomes one of ours."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast
from weakref import WeakKeyDictionary

import stamina
from pydantic import SecretStr

from shared.errors import (
    ProviderBusy,
    ProviderError,
    ProviderKeyInvalid,
    ProviderNotEligible,
    ProviderRejected,
    ProviderUnavailable,
)
from shared.keys.store import OpenedKey
from shared.providers.wire import retry_after_seconds, told

if TYPE_CHECKING:
    import httpx2
    from openai import APIStatusError, AsyncOpenAI, Omit

Answer = TypeVar("Answer")

OPENAI_URL = "https://api.openai.com/v1"
READ_ATTEMPTS = 3
_BROKEN = "provider_connection_broken"
_BREAKDOWN = "provider_breakdown"
_WORTH_REPEATING = frozenset({_BROKEN, _BREAKDOWN})  # not silence: three silences outlast every lease

# What says that this account or this model cannot be trained. OpenAI documents none of it; its own
# wording of the last one is known from public reports. Everybody else gets it as 403 since 2026-05-07.
_NOT_ELIGIBLE_CODES = frozenset(
    {
        "training_not_available",
        "fine_tuning_not_available",
        "model_not_available",
        "organization_not_eligible",
        "unsupported_country_region_territory",
    }
)
_NOT_ELIGIBLE_WORDS = ("not available to your organization", "is not available for fine-tuning")
# 429 that no waiting mends: the account must be topped up first.
_OUT_OF_MONEY_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})


Fetch = Callable[["AsyncOpenAI", "str | Omit"], Awaitable[Any]]  # the page after this id
_Clients = dict[bool, "httpx2.AsyncClient"]  # by: only public addresses


class OpenAIClient:
    """Opens the SDK for a key and asks through it."""

    def __init__(self, *, allow_private_addresses: bool, timeout_seconds: float) -> None:
        self.timeout_seconds = timeout_seconds
        self._allow_private_addresses = allow_private_addresses
        # Connections belong to the event loop that opened them.
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, _Clients] = WeakKeyDictionary()

    async def open(self, key: OpenedKey | None) -> AsyncOpenAI:
        """The SDK for this key, over connections that all keys share. Raises ProviderKeyInvalid."""
        secret = key.api_key.get_secret_value() if key else ""
        if key is None or not secret or not secret.isascii() or not secret.isprintable():
            raise ProviderKeyInvalid("The OpenAI key is empty or holds a character that no key has.")
        from openai import AsyncOpenAI

        sdk = AsyncOpenAI(
            api_key=secret,
            admin_api_key="",  # empty, not None: None would take the server's own from the environment
            base_url=key.base_url or OPENAI_URL,
            timeout=self.timeout_seconds,
            max_retries=0,  # the SDK would repeat a create, and wait out a Retry-After of two minutes
            http_client=self._http(key.base_url),
            _strict_response_validation=True,
        )
        sdk.organization = sdk.project = None  # the environment's are not the user's
        return sdk

    async def ask(
        self,
        key: OpenedKey | None,
        call: Callable[[AsyncOpenAI], Awaitable[Answer]],
        *,
        attempts: int = READ_ATTEMPTS,
        seconds: float | None = None,
        missing: type[ProviderError] = ProviderRejected,
        shape: type[Any] | None = None,
        needs: tuple[str, ...] = ("id",),
    ) -> Answer:
        """The answer to `call`, within `seconds` over all attempts. `missing` is what a 404 means.

        More than one attempt is for calls that may be repeated. Raises nothing but our errors. With a
        `shape` an answer that breaks the published schema is still read, field by field, as long as the
        fields are there that it `needs`: a status that is new must not stop a job.
        """
        sdk = await self.open(key)
        try:
            async with asyncio.timeout(seconds or self.timeout_seconds):
                async for attempt in stamina.retry_context(
                    on=_worth_repeating,
                    attempts=attempts,
                    timeout=None,
                    wait_initial=0.05,
                    wait_jitter=0.1,
                ):
                    with attempt:
                        return await _translated(call, sdk, missing, shape, needs)
        except TimeoutError:
            raise _silent() from None
        raise AssertionError("unreachable: retry_context returns or raises")

    async def collect(
        self,
        key: OpenedKey | None,
        fetch: Fetch,
        item: type[Any],
        *,
        most: int,
        until: Callable[[Any], bool] = lambda _: False,
        all_of_them: bool = False,
    ) -> list[Any]:
        """Items of a list in the vendor's order: those before `until` holds, at most about `most`.

        With `all_of_them` a longer list raises ProviderUnavailable. All pages together have the time
        of one call.
        """
        from openai import omit
        from openai.pagination import AsyncCursorPage

        shape: Any = cast(Any, AsyncCursorPage)[item]
        found: dict[str, Any] = {}
        after: str | Omit = omit
        try:
            async with asyncio.timeout(self.timeout_seconds):
                while len(found) < most:
                    page = await self.ask(key, _page_after(fetch, after), shape=shape, needs=("data",))
                    for each in page.data or ():
                        if until(each):
                            return list(found.values())
                        found[each.id] = each
                    last = page.data[-1].id if page.data else None
                    if page.has_more is False or last is None or last == after:
                        return list(found.values())
                    after = last
        except TimeoutError:
            raise _silent() from None
        if all_of_them:
            raise ProviderUnavailable(
                f"The provider lists more than {most:,} runs and does not search them.", code="list_too_long"
            )
        return list(found.values())

    async def close(self) -> None:
        """The connections of this event loop are closed."""
        for client in self._clients.pop(asyncio.get_running_loop(), {}).values():
            await client.aclose()

    def _http(self, base_url: str | None) -> httpx2.AsyncClient:
        from shared.providers.guarded_http import http_client, require_https

        public_only = base_url is not None and not self._allow_private_addresses
        if public_only and base_url is not None:
            require_https(base_url)
        clients = self._clients.setdefault(asyncio.get_running_loop(), {})
        if public_only not in clients:
            clients[public_only] = http_client(self.timeout_seconds, public_only=public_only)
        return clients[public_only]


def _page_after(fetch: Fetch, after: str | Omit) -> Callable[[AsyncOpenAI], Awaitable[Any]]:
    return lambda sdk: fetch(sdk, after)


def _worth_repeating(error: Exception) -> bool:
    return (
        isinstance(error, ProviderUnavailable)
        and error.code in _WORTH_REPEATING
        and not error.retry_after_seconds
    )


async def _translated(
    call: Callable[[AsyncOpenAI], Awaitable[Answer]],
    sdk: AsyncOpenAI,
    missing: type[ProviderError],
    shape: type[Any] | None,
    needs: tuple[str, ...],
) -> Answer:
    """The answer, or one of our errors. Theirs are not chained: they hold the request, key and all."""
    import httpx2
    import openai

    try:
        return await call(sdk)
    except openai.APIResponseValidationError as error:
        if shape is not None and isinstance(error.body, dict) and not set(needs) - error.body.keys():
            read: Answer = shape.construct(**error.body)
            return read
        raise _unreadable(error) from None
    except openai.APIStatusError as error:
        raise _refused(error, SecretStr(sdk.api_key), missing) from None
    except openai.APITimeoutError:
        raise _silent() from None
    except openai.APIConnectionError as error:
        if isinstance(error.__cause__, ProviderError):  # of our own transport
            raise error.__cause__ from None
        cause = type(error.__cause__ or error).__name__
        raise ProviderUnavailable(f"The connection to the provider broke ({cause}).", code=_BROKEN) from None
    except (openai.OpenAIError, httpx2.HTTPError, ValueError) as error:
        raise _unreadable(error) from None


def _unreadable(error: Exception) -> ProviderUnavailable:
    return ProviderUnavailable(
        f"The provider's answer cannot be read ({type(error).__name__}).", code="provider_answer_unreadable"
    )


def _silent() -> ProviderUnavailable:
    return ProviderUnavailable("The provider did not answer in time.", code="provider_timeout")


def _refused(error: APIStatusError, key: SecretStr, missing: type[ProviderError]) -> ProviderError:
    body: dict[str, Any] = error.body if isinstance(error.body, dict) else {}
    status, code = error.status_code, body.get("code")
    reason = told(str(body.get("message") or f"HTTP {status} without a reason"), key)
    details = {"status": status, "code": code and told(str(code), key), "requestId": error.request_id}
    wait = retry_after_seconds(error.response.headers)
    if status == 401:
        return ProviderKeyInvalid(f"The provider does not accept the key: {reason}", details=details)
    if code in _OUT_OF_MONEY_CODES:
        return ProviderRejected(
            f"The account at the provider cannot pay: {reason}", code="provider_account", details=details
        )
    if status == 403 or (status in (400, 404) and _says_not_eligible(code, reason)):
        return ProviderNotEligible(
            f"The provider does not let this account do that: {reason}", details=details
        )
    if status == 429:
        return ProviderBusy(f"The provider is busy: {reason}", details=details, retry_after_seconds=wait)
    if status >= 500 or status in (408, 409, 425):
        reason = f"The provider has a problem ({status}): {reason}"
        return ProviderUnavailable(reason, code=_BREAKDOWN, details=details, retry_after_seconds=wait)
    if status == 404:
        return missing(f"The provider knows no such thing: {reason}", details=details)
    if status < 400:
        reason = "It answered with a redirect, and a key is not sent on to another address."
    return ProviderRejected(f"The provider refused ({status}): {reason}", details=details)


def _says_not_eligible(code: object, reason: str) -> bool:
    return code in _NOT_ELIGIBLE_CODES or any(words in reason for words in _NOT_ELIGIBLE_WORDS)
