"""OpenAI's SDK, once a call: connections are kept, keys are not, and every error becomes one of ours."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

import stamina

from shared.errors import ProviderError, ProviderKeyInvalid, ProviderRejected, ProviderUnavailable
from shared.keys.store import OpenedKey
from shared.providers.openai_errors import silent, translated, worth_repeating
from shared.providers.openai_lenient import read_page

if TYPE_CHECKING:
    import httpx2
    from openai import AsyncOpenAI, Omit

Answer = TypeVar("Answer")

OPENAI_URL = "https://api.openai.com/v1"
READ_ATTEMPTS = 3
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
        otherwise: Callable[[object], Answer | None] = lambda _: None,
    ) -> Answer:
        """The answer to `call`, within `seconds` over all attempts. `missing` is what a 404 means.

        More than one attempt is for calls that may be repeated. Raises nothing but our errors. A body that
        breaks the published schema is left to `otherwise`; None: it cannot be read either.
        """
        sdk = await self.open(key)
        try:
            async with asyncio.timeout(seconds or self.timeout_seconds):
                async for attempt in stamina.retry_context(
                    on=worth_repeating,
                    attempts=attempts,
                    timeout=None,
                    wait_initial=0.05,
                    wait_jitter=0.1,
                ):
                    with attempt:
                        return await translated(call, sdk, missing, otherwise)
        except TimeoutError:
            raise silent() from None
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

        found: dict[str, Any] = {}
        after: str | Omit = omit
        otherwise = partial(read_page, item)
        try:
            async with asyncio.timeout(self.timeout_seconds):
                while len(found) < most:
                    page = await self.ask(key, _page_after(fetch, after), otherwise=otherwise)
                    for each in page.data:
                        if until(each):
                            return list(found.values())
                        found[each.id] = each
                    last = page.data[-1].id if page.data else None
                    if page.has_more is False or last is None or last == after:
                        return list(found.values())
                    after = last
        except TimeoutError:
            raise silent() from None
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
