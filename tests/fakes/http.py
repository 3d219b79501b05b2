"""What the HTTP fakes of vendors have in common: a real server on loopback, and faults on demand.

A fake answers what the vendor's published contract says and refuses what the vendor refuses. A `Fault`
is scripted for one operation (`create`, `list`, `poll`, `upload`, ...) and hits its next call only.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Fault:
    """One disturbance. With `executed` the call takes effect although its answer is lost or an error."""

    status: int | None = None  # answer with this status; None: the answer itself is disturbed, see below
    headers: dict[str, str] = field(default_factory=dict)
    body: dict[str, Any] | None = None  # None: what the fake's own errors look like
    executed: bool = False
    hang: bool = False  # no answer at all, until the client gives up
    reset: bool = False  # the connection breaks, after half of the answer when there is one
    delay_seconds: float = 0.0
    keep_bytes: int | None = None  # upload: only so many bytes arrive, and the vendor says so
    hide_seconds: float = 0.0  # create, upload: what was made appears in lists only later


FAULT = web.RequestKey("fault", Fault)  # of a request that a fake handles


def busy(retry_after_seconds: float) -> Fault:
    """429, turned away before anything happened."""
    return Fault(status=429, headers={"retry-after": f"{retry_after_seconds:g}"})


class FakeServer:
    """Serves the routes of a subclass: `with FakeOpenAI() as fake: fake.url`.

    Runs on a loop and thread of its own, so a test may block. Subclasses list routes as
    `(method, path, operation, handler)` and read `request[FAULT]` where a fault concerns them.
    """

    def __init__(self, *, port: int = 0) -> None:  # 0: a free one
        self._port = port
        self.calls: Counter[str] = Counter()  # by operation
        self.requests: list[tuple[str, str, dict[str, str]]] = []  # method, path with query, headers
        self._faults: dict[str, list[Fault]] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._ready = threading.Event()
        self._gone = asyncio.Event()
        self.url = ""

    def routes(self) -> list[tuple[str, str, str, Handler]]:
        raise NotImplementedError

    def error(self, status: int, message: str) -> dict[str, Any]:
        """The vendor's error body."""
        return {"error": {"message": message}}

    def disturb(self, operation: str, *faults: Fault) -> None:
        """The next calls of this operation meet these faults, one each."""
        self._faults.setdefault(operation, []).extend(faults)

    def forget_faults(self) -> None:
        """No call is disturbed any more."""
        self._faults.clear()

    def __enter__(self) -> Any:
        self._thread.start()
        self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._gone.set)
        self._thread.join(10)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._run())
        self._loop.close()

    async def _run(self) -> None:
        app = web.Application(client_max_size=600_000_000)
        for method, path, operation, handler in self.routes():
            app.router.add_route(method, path, self._disturbed(operation, handler))
        runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self._port)
        await site.start()
        port = runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{port}"
        self._ready.set()
        await self._gone.wait()
        await runner.cleanup()

    def _disturbed(self, operation: str, handler: Handler) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            self.calls[operation] += 1
            self.requests.append((request.method, request.path_qs, dict(request.headers)))
            waiting = self._faults.get(operation)
            fault = waiting.pop(0) if waiting else Fault()
            request[FAULT] = fault
            await asyncio.sleep(fault.delay_seconds)
            disturbs = fault.status is not None or fault.hang or fault.reset
            answer = await handler(request) if fault.executed or not disturbs else None
            if fault.hang:
                await asyncio.sleep(3600)
            if fault.reset:
                return await _break(request, answer)
            if fault.status is not None:
                body = fault.body or self.error(fault.status, "injected")
                return web.json_response(body, status=fault.status, headers=fault.headers)
            assert answer is not None
            return answer

        return handle


async def _break(request: web.Request, answer: web.StreamResponse | None) -> web.StreamResponse:
    transport = request.transport
    assert transport is not None
    if isinstance(answer, web.Response) and isinstance(answer.body, bytes):
        head = (
            f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(answer.body)}\r\n\r\n"
        )
        transport.write(head.encode() + answer.body[: len(answer.body) // 2])
        await asyncio.sleep(0.05)
    transport.close()
    return web.Response()
