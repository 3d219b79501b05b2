"""Counts what a process changes in the world outside, and ends it right after one of these changes.

Every request that leaves the process goes through one of two clients, so nothing is left out. One that
only reads is no effect: what a death after it leaves behind is what a death before it would have left.
Nor is there anything between one effect and the request that follows, so one point stands for both.
"""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import httpx2

KILLED = 137  # what a shell says of a process that was killed with -9
_ID = re.compile(r"/(?:[0-9a-f-]{32,36}|(?:ftjob|file|run)-\w+)(?=/|$)")


class Gate:
    """The effects so far, by name. The process is gone after number `die_after`; None: it lives."""

    def __init__(self, die_after: int | None) -> None:
        self._die_after = die_after
        self.effects: list[str] = []

    def passed(self, name: str) -> None:
        """The world has changed, and the answer to the request has not been read."""
        self.effects.append(name)
        if len(self.effects) == self._die_after:
            os._exit(KILLED)


def watch(gate: Gate) -> None:
    """From now on every request of this process that changes something passes the gate."""
    for client in (httpx.AsyncClient, httpx2.AsyncClient):
        send: Callable[..., Awaitable[Any]] = client.send
        setattr(client, "send", _counted(send, gate))  # noqa: B010  # typed as a method


def _counted(send: Callable[..., Awaitable[Any]], gate: Gate) -> Callable[..., Awaitable[Any]]:
    async def counted(client: Any, request: Any, **options: Any) -> Any:
        try:
            response = await send(client, request, **options)
        except Exception:
            if request.method != "GET":
                gate.passed(f"{_name(request)} (no answer)")
            raise
        if request.method != "GET" and not await _took_nothing(request, response):
            gate.passed(_name(request))
        return response

    return counted


def _name(request: Any) -> str:
    path = _ID.sub("/*", request.url.path.removeprefix("/rest/v1"))
    return f"{request.method} {path}"


async def _took_nothing(request: Any, response: Any) -> bool:
    """Whether it asked for work and there was none."""
    return "/rpc/claim_" in request.url.path and await response.aread() == b"[]"
