"""Keeps a server from calling private addresses in the name of a user who chose the address."""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from shared.errors import ProviderRejected, ProviderUnavailable

# All that IANA has given out. Python calls NAT64 (64:ff9b::/96), ::127.0.0.1 and fec0::/10 global too, and
# behind a gateway these are IPv4 addresses of its own network.
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")


def require_public(url: str) -> None:
    """Raises ProviderRejected for a private address in digits. A name is left to the resolver."""
    host = urlsplit(url).hostname or ""
    try:
        is_refused = not is_public(host)
    except ValueError:
        is_refused = False
    if is_refused:
        raise _not_public(host)


async def require_public_host(url: str) -> None:
    """Every address of the host is public now. Raises ProviderRejected, or ProviderUnavailable for a name
    that cannot be looked up.

    For clients whose connections PublicResolver cannot choose; a name may still move afterwards.
    """
    host = urlsplit(url).hostname or ""
    try:
        found = await aiohttp.ThreadedResolver().resolve(host, 0, socket.AF_UNSPEC)
    except OSError as error:
        raise ProviderUnavailable(f"{host} could not be looked up.") from error
    if not all(is_public(result["host"]) for result in found):
        raise _not_public(host)


def is_public(address: str) -> bool:
    """Whether an address in digits is reachable for everybody. Raises ValueError for a name."""
    found = ipaddress.ip_address(address)
    if isinstance(found, ipaddress.IPv6Address):
        embedded = found.ipv4_mapped or found.sixtofour
        if embedded is None and found not in _GLOBAL_UNICAST:
            return False
        found = embedded or found
    return found.is_global and not found.is_multicast


def _not_public(host: str) -> ProviderRejected:
    return ProviderRejected(f"{host} is not a public address.", code="address_not_public")


class PublicResolver(AbstractResolver):
    """Resolves names to public addresses only, at each connection: a name that moves is looked at again."""

    def __init__(self) -> None:
        self._system = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._system.resolve(host, port, family)
        public = [result for result in found if is_public(result["host"])]
        if not public:
            raise OSError(f"{host} has no public address")
        return public

    async def close(self) -> None:
        await self._system.close()
