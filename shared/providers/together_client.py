"""Together's SDK for the length of one call, and its errors in our words."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import TYPE_CHECKING

from shared.errors import ProviderError, ProviderRejected
from shared.keys.store import OpenedKey
from shared.providers.wire import MOST_SECONDS, refusal, silence

if TYPE_CHECKING:
    import httpx
    from together import APIStatusError, AsyncTogether

_ADDRESS = "https://api.together.ai"  # always given: the SDK would take another one from the environment

# Of an answer that is no JSON, or lacks what the SDK goes on with.
_SENSELESS = (AttributeError, TypeError, ValueError)


class TogetherClient:
    """`async with client(key) as sdk`: whatever goes wrong inside is raised as an error of providers."""

    def __init__(self, base_url: str | None, timeout_seconds: float, allow_private_addresses: bool) -> None:
        self._base_url = base_url or _ADDRESS
        self._timeout_seconds = timeout_seconds
        self._allow_private_addresses = allow_private_addresses

    @asynccontextmanager
    async def __call__(
        self, key: OpenedKey | None, *, not_found: type[ProviderError] = ProviderRejected
    ) -> AsyncIterator[AsyncTogether]:
        import httpx
        import together

        assert key is not None, "training with Together needs a key"
        async with self._http(key) as http:
            try:
                async with asyncio.timeout(MOST_SECONDS):
                    yield together.AsyncTogether(
                        api_key=key.api_key.get_secret_value(),
                        base_url=key.base_url or self._base_url,
                        timeout=self._timeout_seconds,
                        max_retries=0,  # a create that is sent twice is paid twice
                        http_client=http,
                    )
            except together.APIStatusError as error:
                raise _refusal(error, key, not_found) from None
            except (together.TogetherError, httpx.HTTPError, OSError, *_SENSELESS) as error:
                if isinstance(error.__cause__, ProviderError):  # our own transport's
                    raise error.__cause__ from None
                raise silence("Together", error) from None

    def _http(self, key: OpenedKey) -> httpx.AsyncClient:
        """Follows no redirect. Where a user chose the address it reaches public ones by https only."""
        import httpx

        if key.base_url is None or self._allow_private_addresses:
            return httpx.AsyncClient(verify=_tls(), timeout=self._timeout_seconds)
        from shared.providers.guarded_http import require_https
        from shared.providers.guarded_httpx import PublicTransport

        require_https(key.base_url)
        return httpx.AsyncClient(
            transport=PublicTransport(_tls()), timeout=self._timeout_seconds, trust_env=False
        )


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    """Loaded once: reading the certificates takes longer than a call."""
    import httpx

    return httpx.create_ssl_context()


def _refusal(error: APIStatusError, key: OpenedKey, not_found: type[ProviderError]) -> ProviderError:
    response = error.response
    if response.request.method == "PUT":  # the storage behind an upload: it says nothing of the account
        return silence("Together's storage", error)
    found = refusal(
        "Together", response.status_code, response.text, headers=response.headers, key=key.api_key
    )
    return not_found(found.message) if response.status_code == 404 else found
