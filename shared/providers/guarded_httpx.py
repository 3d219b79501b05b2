"""The transport of guarded_http for SDKs that talk through httpx."""

from __future__ import annotations

import ssl
from contextlib import suppress

import httpx

from shared.providers.guarded_http import public_addresses


class PublicTransport(httpx.AsyncHTTPTransport):
    """Calls public addresses only: a name is resolved here, and the very address found is called.

    One connection a request: two names behind one address must not share what TLS proved of one of them.
    """

    def __init__(self, verify: ssl.SSLContext) -> None:
        super().__init__(verify=verify, limits=httpx.Limits(max_keepalive_connections=0))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        host = request.url.host
        addresses = await public_addresses(host, request.url.port or 443)
        request.extensions = {**request.extensions, "sni_hostname": host}
        for address in addresses[:-1]:
            with suppress(httpx.ConnectError, httpx.ConnectTimeout):  # nothing was sent
                return await self._call(request, address)
        return await self._call(request, addresses[-1])

    async def _call(self, request: httpx.Request, address: str) -> httpx.Response:
        request.url = request.url.copy_with(host=address)
        return await super().handle_async_request(request)
