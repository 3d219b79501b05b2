"""HTTP for SDKs that talk through httpx2: fast under load, and guarded where users chose the address.

A stored key goes to the host that it was stored for and to no other. To an address that a user chose
only TLS is spoken, its name is resolved for each connection, that very address is connected to when it
is public, and redirects are never followed.

The connections are aiohttp's. httpx2's own pool looks through all of them at every request.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import aiohttp
import httpx2
from aiohttp.abc import AbstractResolver, ResolveResult

from shared.errors import ProviderRejected
from shared.public_only import is_public, require_public

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST_ANSWER_BYTES = 32 * 2**20  # the largest, a list of a hundred jobs, has about a quarter of a MB
_MOST_CONNECTIONS = 500


def require_https(url: str) -> None:
    """Raises ProviderRejected unless a key may be sent to this address."""
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname or parts.username or parts.password:
        raise ProviderRejected(
            "The address of a provider begins with https:// and has no user name. Set it again with the key.",
            code="address_not_allowed",
        )
    require_public(url)


def http_client(timeout_seconds: float, *, public_only: bool) -> httpx2.AsyncClient:
    """A client for the running event loop; `public_only`: every connection goes to a public address.

    A call to another one raises ProviderRejected. Answers are read whole, up to 32 MB.
    """
    # Compressed, a small answer could become a huge one; so from strangers none is asked for or taken.
    headers = {"accept-encoding": "identity"} if public_only else {}
    return httpx2.AsyncClient(
        transport=_Transport(public_only=public_only),
        timeout=timeout_seconds,
        follow_redirects=False,
        headers=headers,
    )


async def public_addresses(host: str, port: int) -> list[str]:
    """The addresses of the host, in digits. Raises ProviderRejected unless all are public."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [str(sockaddr[0]) for *_, sockaddr in found]
    if not all(map(is_public, addresses)):
        raise ProviderRejected(f"{host} is not a public address.", code="address_not_public")
    return addresses


class _PublicAddresses(AbstractResolver):
    """Gives a connection the addresses that were looked at. TLS still asks for the name."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for address in await public_addresses(host, port)
        ]

    async def close(self) -> None: ...


class _Transport(httpx2.AsyncBaseTransport):
    """Sends httpx2's requests over a session of aiohttp."""

    def __init__(self, *, public_only: bool) -> None:
        connector = aiohttp.TCPConnector(
            limit=_MOST_CONNECTIONS,
            use_dns_cache=not public_only,
            resolver=_PublicAddresses() if public_only else None,
        )
        # A proxy of the environment resolves names by itself, past the guard.
        self._session = aiohttp.ClientSession(
            connector=connector, auto_decompress=False, trust_env=not public_only
        )
        self._public_only = public_only

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        url = str(request.url)
        if self._public_only:
            require_public(url)  # a host in digits is not resolved
        limits: Mapping[str, float | None] = request.extensions.get("timeout", {})
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=limits.get("connect"), sock_read=limits.get("read")
        )
        try:
            async with self._session.request(
                request.method,
                url,
                headers=request.headers.multi_items(),
                data=await request.aread() or None,
                allow_redirects=False,
                timeout=timeout,
            ) as answer:
                content = await _read(answer)
        except TimeoutError as error:
            raise httpx2.ReadTimeout("no answer in time", request=request) from error
        except (aiohttp.ClientError, OSError) as error:
            raise httpx2.NetworkError(type(error).__name__, request=request) from error
        if self._public_only and answer.headers.get("content-encoding", "identity") != "identity":
            raise httpx2.DecodingError("a compressed answer, although none was asked for", request=request)
        return httpx2.Response(
            answer.status, headers=list(answer.raw_headers), content=content, request=request
        )

    async def aclose(self) -> None:
        await self._session.close()


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    content = bytearray()
    async for piece in answer.content.iter_any():
        content += piece
        if len(content) > MOST_ANSWER_BYTES:
            raise ProviderRejected("The provider's answer has no end.", code="provider_answer_too_large")
    return bytes(content)
