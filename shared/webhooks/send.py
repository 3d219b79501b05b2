"""Posts to addresses that users chose, and keeps them from reaching into our own network.

The address is checked where the socket is made, after the name was resolved: whatever a name, a number
or a moved name stands for, what is connected to is what was looked at.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver

from shared.errors import InvalidRequest
from shared.log import redact
from shared.public_only import is_public

TIMEOUT_SECONDS = 15.0
_HTTPS_PORT = 443
_MOST_ANSWER_BYTES = 2048  # of an error, for the log
_MOST_ERROR_CHARS = 300


@dataclass(frozen=True)
class Answer:
    """What came of one attempt."""

    status_code: int | None  # None: nobody answered
    error: str | None = None  # None: taken
    retry_after_seconds: float | None = None  # None: the receiver named no time


def require_endpoint_url(url: str, *, allow_private: bool) -> None:
    """Raises InvalidRequest unless events may be sent to an address like this.

    What its name stands for is looked at when an event is sent.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise _refused("is not an address") from None
    if not parts.hostname or parts.scheme not in ("https", "http"):
        raise _refused("is not an address")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise _refused("has a user name, a password or a fragment")
    if allow_private:
        return
    if parts.scheme != "https" or port not in (None, _HTTPS_PORT):
        raise _refused("is not https on port 443")
    with contextlib.suppress(ValueError):  # a name
        if not is_public(parts.hostname):
            raise _refused("is not a public address")


def _refused(why: str) -> InvalidRequest:
    return InvalidRequest(f"The url {why}. Use https://host/path.", code="webhook_url_refused")


class Sender:
    """Posts bodies. Made by `sender`."""

    def __init__(self, http: aiohttp.ClientSession, *, allow_private: bool) -> None:
        self._http = http
        self._allow_private = allow_private

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """What the receiver answered. Never raises: an attempt that failed is an answer too."""
        try:
            require_endpoint_url(url, allow_private=self._allow_private)
            async with self._http.post(url, data=body, headers=headers, allow_redirects=False) as response:
                if 200 <= response.status < 300:
                    return Answer(response.status)
                return Answer(response.status, await _what_it_says(response), _retry_after(response))
        except TimeoutError:
            return Answer(None, "No answer in time.")
        except aiohttp.ClientConnectorError as error:
            return Answer(None, _cut(f"Not connected: {error.os_error.strerror or error.host}."))
        except (aiohttp.ClientError, OSError, ValueError, InvalidRequest) as error:
            return Answer(None, _cut(str(error) or type(error).__name__))


@contextlib.asynccontextmanager
async def sender(
    *,
    allow_private: bool,
    timeout_seconds: float = TIMEOUT_SECONDS,
    resolver: AbstractResolver | None = None,
) -> AsyncIterator[Sender]:
    """A Sender whose connections end with the block.

    `allow_private`: http, every port and every address are allowed, for laptops and tests.
    """
    connector = aiohttp.TCPConnector(
        limit=0,  # the caller counts
        use_dns_cache=False,
        resolver=resolver or aiohttp.ThreadedResolver(),
        socket_factory=_socket if allow_private else _public_socket,
    )
    async with aiohttp.ClientSession(
        connector=connector,
        timeout=aiohttp.ClientTimeout(total=timeout_seconds),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        headers={"user-agent": "FineFlow-Webhooks/1", "content-type": "application/json"},
    ) as http:
        yield Sender(http, allow_private=allow_private)


def _socket(address: aiohttp.AddrInfoType) -> socket.socket:
    family, kind, protocol, _, _ = address
    return socket.socket(family, kind, protocol)


def _public_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    host, port = address[4][:2]
    if not is_public(str(host)) or port != _HTTPS_PORT:
        raise PermissionError(errno.EACCES, "The address is not public, or its port is not 443")
    return _socket(address)


async def _what_it_says(response: aiohttp.ClientResponse) -> str:
    if 300 <= response.status < 400:
        return f"{response.status}: redirects are not followed."
    said = b""
    with contextlib.suppress(aiohttp.ClientError, asyncio.TimeoutError):
        said = await response.content.read(_MOST_ANSWER_BYTES)
    return _cut(f"{response.status}: {said.decode(errors='replace')}")


def _cut(text: str) -> str:
    printable = "".join(char if char.isprintable() else " " for char in text)
    return str(redact(printable))[:_MOST_ERROR_CHARS].strip()


def _retry_after(response: aiohttp.ClientResponse) -> float | None:
    value = response.headers.get("retry-after", "").strip()
    if value.isdecimal():
        return float(value[:9])
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None
