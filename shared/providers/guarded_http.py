"""An HTTP client for addresses that users chose: it reaches public addresses over TLS and nothing else.

A stored key goes to the host that it was stored for and to no other: a name is resolved once for each
connection, that very address is connected to, and redirects are not followed.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import httpcore2
import httpx2

from shared.errors import ProviderRejected
from shared.public_only import is_public

MOST_ANSWER_BYTES = 32 * 2**20  # of one answer; the largest, a list of a hundred jobs, has about a quarter MB
_MOST_CONNECTIONS = 200


def require_https(url: str) -> None:
    """Raises ProviderRejected unless a key may be sent to this address."""
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname or parts.username or parts.password:
        raise ProviderRejected(
            "The address of a provider begins with https:// and has no user name. Set it again with the key.",
            code="address_not_allowed",
        )


def public_client(timeout_seconds: float) -> httpx2.AsyncClient:
    """A client whose every connection goes to a public address. Raises ProviderRejected for others."""
    return httpx2.AsyncClient(
        transport=_PublicTransport(),
        timeout=timeout_seconds,
        follow_redirects=False,
        headers={"accept-encoding": "identity"},  # so that the limit counts what is read
    )


async def public_addresses(host: str, port: int) -> list[str]:
    """The addresses of the host, in digits. Raises ProviderRejected unless all are public."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [str(sockaddr[0]) for *_, sockaddr in found]
    if not all(map(is_public, addresses)):
        raise ProviderRejected(f"{host} is not a public address.", code="address_not_public")
    return addresses


class _PublicBackend(httpcore2.AsyncNetworkBackend):
    """Connects to the addresses that were looked at. TLS still asks for the name."""

    def __init__(self) -> None:
        self._inner = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  # httpcore2's interface
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        try:
            addresses = await public_addresses(host, port)
        except OSError as error:
            raise httpcore2.ConnectError(f"{host} has no address: {error.strerror}") from error
        for address in addresses[:-1]:
            with suppress(httpcore2.ConnectError, httpcore2.ConnectTimeout):
                return await self._inner.connect_tcp(address, port, timeout, local_address, socket_options)
        return await self._inner.connect_tcp(addresses[-1], port, timeout, local_address, socket_options)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class _PublicTransport(httpx2.AsyncBaseTransport):
    """httpx2's own transport cannot be given a network backend; this one can do no more than is needed."""

    def __init__(self) -> None:
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=httpx2.create_ssl_context(),
            max_connections=_MOST_CONNECTIONS,
            max_keepalive_connections=20,
            keepalive_expiry=5.0,
            network_backend=_PublicBackend(),
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        assert isinstance(request.stream, httpx2.AsyncByteStream)
        url = httpcore2.URL(
            scheme=request.url.raw_scheme,
            host=request.url.raw_host,
            port=request.url.port,
            target=request.url.raw_path,
        )
        sent = httpcore2.Request(
            request.method,
            url,
            headers=request.headers.raw,
            content=request.stream,
            extensions=request.extensions,
        )
        try:
            answer = await self._pool.handle_async_request(sent)
        except httpcore2.TimeoutException as error:
            raise httpx2.TimeoutException(str(error), request=request) from error
        assert isinstance(answer.stream, AsyncIterable)
        response = httpx2.Response(
            answer.status,
            headers=answer.headers,
            stream=_Limited(answer.stream),
            extensions=answer.extensions,
        )
        if response.headers.get("content-encoding", "identity") != "identity":
            await response.aclose()
            raise httpx2.DecodingError("An answer was compressed although none was asked for.")
        return response

    async def aclose(self) -> None:
        await self._pool.aclose()


class _Limited(httpx2.AsyncByteStream):
    def __init__(self, stream: AsyncIterable[bytes]) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for piece in self._stream:
            size += len(piece)
            if size > MOST_ANSWER_BYTES:
                raise ProviderRejected("The provider's answer has no end.", code="provider_answer_too_large")
            yield piece

    async def aclose(self) -> None:
        close = getattr(self._stream, "aclose", None)
        if close is not None:
            await close()
