"""The client for addresses that users chose, with a name server that says what an attacker wants."""

from __future__ import annotations

import gzip
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx2
import pytest
from aiohttp import web

from shared.errors import ProviderRejected
from shared.providers import guarded_http
from shared.providers.guarded_http import http_client, require_https

Answer = Callable[[web.Request], web.StreamResponse]


@pytest.fixture
async def served() -> AsyncIterator[tuple[int, list[web.Request]]]:
    """A server on loopback: its port, and what it was asked."""
    asked: list[web.Request] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        asked.append(request)
        if request.path == "/huge":
            return web.Response(body=b"x" * (guarded_http.MOST_ANSWER_BYTES + 1))
        if request.path == "/bomb":
            return web.Response(body=gzip.compress(b"x" * 1000), headers={"content-encoding": "gzip"})
        return web.json_response({"host": request.host})

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield runner.addresses[0][1], asked
    await runner.cleanup()


def resolve_to(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> list[str]:
    """From now on every name has these addresses. Gives the names that were looked up."""
    names: list[str] = []

    async def getaddrinfo(_: object, host: str, port: int, **__: Any) -> list[Any]:
        names.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr("asyncio.BaseEventLoop.getaddrinfo", getaddrinfo)
    return names


@pytest.mark.parametrize(
    "addresses", [("127.0.0.1",), ("10.1.2.3",), ("169.254.169.254",), ("8.8.8.8", "127.0.0.1")]
)
async def test_a_name_with_a_private_address_is_refused(
    served: tuple[int, list[web.Request]], monkeypatch: pytest.MonkeyPatch, addresses: tuple[str, ...]
) -> None:
    port, asked = served
    resolve_to(monkeypatch, *addresses)
    async with http_client(2, public_only=True) as client:
        with pytest.raises(ProviderRejected, match="public"):
            await client.get(f"http://vendor.test:{port}/")
    assert asked == []


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1", "0"])
async def test_private_digits_are_refused(served: tuple[int, list[web.Request]], host: str) -> None:
    port, asked = served
    async with http_client(2, public_only=True) as client:
        with pytest.raises((ProviderRejected, httpx2.HTTPError, httpx2.InvalidURL)):
            await client.get(f"http://{host}:{port}/")
    assert asked == []


async def test_the_address_that_was_looked_at_is_the_one_called(
    served: tuple[int, list[web.Request]], monkeypatch: pytest.MonkeyPatch
) -> None:
    port, _ = served
    names = resolve_to(monkeypatch, "127.0.0.1")
    monkeypatch.setattr(guarded_http, "is_public", lambda address: address == "127.0.0.1")
    async with http_client(2, public_only=True) as client:
        answer = await client.get(f"http://vendor.test:{port}/")
        assert answer.json() == {"host": f"vendor.test:{port}"}
        assert names == ["vendor.test"]
        with pytest.raises(ProviderRejected, match="no end"):
            await client.get(f"http://vendor.test:{port}/huge")
        with pytest.raises(httpx2.DecodingError):
            await client.get(f"http://vendor.test:{port}/bomb")


@pytest.mark.parametrize(
    "url",
    ["http://api.vendor.com/v1", "ftp://x", "https://", "https://u:p@vendor.com", "https://10.0.0.1/v1", "x"],
)
def test_addresses_that_get_no_key(url: str) -> None:
    with pytest.raises(ProviderRejected):
        require_https(url)


def test_an_address_that_may_get_a_key() -> None:
    require_https("https://api.tokenfactory.nebius.com/v1/")
