"""A receiver of webhooks on loopback: remembers what came, and answers as it is told."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass(frozen=True)
class Message:
    headers: dict[str, str]
    raw: bytes
    at: float  # of time.monotonic()

    @property
    def body(self) -> dict[str, Any]:
        return dict(json.loads(self.raw))

    @property
    def type(self) -> str:
        return str(self.body["type"])


Answer = Callable[[int], web.Response]


def status(code: int, **headers: str) -> Answer:
    """Every message is answered with this status."""
    return lambda _: web.Response(status=code, headers={k.replace("_", "-"): v for k, v in headers.items()})


@dataclass
class Receiver:
    answer: Answer = field(default=status(204))  # given how many came before
    delay_seconds: float = 0.0
    messages: list[Message] = field(default_factory=list)
    url: str = ""
    port: int = 0
    _came: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def handle(self, request: web.Request) -> web.Response:
        raw = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.messages.append(Message(headers, raw, time.monotonic()))
        async with self._came:
            self._came.notify_all()
        await asyncio.sleep(self.delay_seconds)
        return self.answer(len(self.messages) - 1)

    async def wait_for(self, event_type: str, seconds: float = 20) -> Message:
        """The first message of this type, come or to come. Raises TimeoutError."""
        async with asyncio.timeout(seconds), self._came:
            await self._came.wait_for(lambda: any(m.type == event_type for m in self.messages))
        return next(message for message in self.messages if message.type == event_type)

    @property
    def types(self) -> list[str]:
        return [message.type for message in self.messages]


@asynccontextmanager
async def receiver(answer: Answer | None = None, delay_seconds: float = 0.0) -> AsyncIterator[Receiver]:
    """Listens until the block ends."""
    made = Receiver(delay_seconds=delay_seconds)
    made.answer = answer or made.answer
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", made.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        made.port = runner.addresses[0][1]
        made.url = f"http://127.0.0.1:{made.port}/hook"
        yield made
    finally:
        await runner.cleanup()
