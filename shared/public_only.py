"""Keeps a server from calling private addresses in the name of a user who chose the address."""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from shared.errors import ProviderRejected


def require_public(url: str) -> None:
    """Raises ProviderRejected for a private address in digits. A name is left to the resolver."""
    host = urlsplit(url).hostname or ""
    try:
        is_refused = not is_public(host)
    except ValueError:
        is_refused = False
    if is_refused:
        raise ProviderRejected(f"{host} is not a public address.", code="address_not_public")


def is_public(address: str) -> bool:
    """Whether an address in digits is reachable for everybody. Raises ValueError for a name."""
    found = ipaddress.ip_address(address)
    if isinstance(found, ipaddress.IPv6Address):
        found = found.ipv4_mapped or found.sixtofour or found
    return found.is_global and not found.is_multicast


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
