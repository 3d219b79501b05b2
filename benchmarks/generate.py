"""Calls of a model a second: our client against openai's SDK, and through a storm of 429s.

The model is a process of its own that answers every question after 300 ms, so the ideal is calls at once /
0.3 s. Both clients run on one core, in turn, with the same question of 3 kB and the same answer. Ours is what
generation uses: shared.llm's client under shared.llm.pace. Of three runs the best counts, for both: other
work on the machine only ever makes them slower. Where the user may, both processes go before all others.

The storm: a service that takes everything for two seconds, then for 20 seconds 200 calls a second with 20 at
once to spare (429 beyond), then everything again. Goodput is what it took in these 20 seconds over what it
would have taken. Three kinds of service: one that says nothing beside 429, one that sends `retry-after: 1`,
and one that sends OpenAI's headers. Lost: calls that ended without an answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import multiprocessing
import os
import time
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection

LATENCY_SECONDS = 0.3
RUNS = 3
AT_ONCE = (100, 500)
WANTED = {100: 0.90, 500: 0.85}
ROUND_TRIPS = 10  # timed, after one that opens the connections
ROUND_TRIPS_PEER = 3  # it takes longer
STORM_AFTER_SECONDS, STORM_SECONDS, ALLOWED_PER_SECOND, TO_SPARE = 2.0, 20.0, 200.0, 20.0
STORM_CALLS = 8_000
WANTED_GOODPUT = 0.95
KINDS = ("silent", "retry-after", "headers")
QUESTION = "The lamp turns once every 24 seconds. " * 80
_ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [
        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "words " * 130}}
    ],
    "usage": {"prompt_tokens": 700, "completion_tokens": 200, "total_tokens": 900},
}


def main() -> None:
    cores = sorted(os.sched_getaffinity(0))
    receive, send = multiprocessing.Pipe(duplex=False)
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(send, cores[-1]), daemon=True)
    server.start()
    alone_on(cores[0])
    port: int = receive.recv()
    try:
        result = asyncio.run(measure(f"http://127.0.0.1:{port}"))
    finally:
        server.terminate()
    print(json.dumps(result))
    for at_once, wanted in WANTED.items():
        share = result["shares_of_ideal"][str(at_once)]
        assert share >= wanted, f"{share:.1%} of ideal at {at_once} at once"
    assert result["storm_goodput"] >= WANTED_GOODPUT, f"{result['storm_goodput']:.1%} in the storm"
    assert result["storm_lost"] == 0


async def measure(address: str) -> dict[str, object]:
    shares: dict[str, dict[int, list[float]]] = {"ours": {}, "openai": {}}
    for run in range(RUNS):
        for at_once in AT_ONCE:
            for name, ask in (("ours", ours), ("openai", openai_sdk)):
                rate, cpu_us = await ask(address, at_once)
                shares[name].setdefault(at_once, []).append(rate * LATENCY_SECONDS / at_once)
                print(
                    f"run {run + 1}: {name:6} {at_once} at once: {rate:,.0f} calls/s, "
                    f"{shares[name][at_once][-1]:.1%} of ideal, {cpu_us:,.0f} us of processor a call"
                )
    storms = {kind: await storm(address, kind) for kind in KINDS}
    for kind, (goodput, rejected, lost) in storms.items():
        print(
            f"storm, {kind}: {goodput:.1%} of the allowed rate, {rejected:,} turned away, {lost} of "
            f"{STORM_CALLS:,} lost"
        )
    best = {name: {c: max(found) for c, found in by.items()} for name, by in shares.items()}
    most = AT_ONCE[-1]
    ideal = most / LATENCY_SECONDS
    return {
        "name": "generate",
        "ours": round(best["ours"][most] * ideal),
        "peer": round(best["openai"][most] * ideal),
        "peer_name": "openai SDK",
        "limit": round(ideal),
        "limit_name": "calls at once / latency",
        "unit": f"calls per second at {most} at once",
        "ratio_to_peer": round(best["ours"][most] / best["openai"][most], 2),
        "ratio_to_limit": round(best["ours"][most], 4),
        "shares_of_ideal": {str(c): round(share, 4) for c, share in best["ours"].items()},
        "shares_of_ideal_peer": {str(c): round(share, 4) for c, share in best["openai"].items()},
        "storm_goodput": round(min(goodput for goodput, _, _ in storms.values()), 4),
        "storm_goodput_by_kind": {kind: round(goodput, 4) for kind, (goodput, _, _) in storms.items()},
        "storm_turned_away": {kind: rejected for kind, (_, rejected, _) in storms.items()},
        "storm_lost": sum(lost for _, _, lost in storms.values()),
        "n": RUNS,
    }


async def ours(address: str, at_once: int) -> tuple[float, float]:
    from shared.llm.base import Turn
    from shared.llm.openai_compatible import OpenAICompatible
    from shared.llm.pace import Paced

    client = OpenAICompatible(f"{address}/v1", "m", None)
    model = Paced(client, first_at_once=at_once, most_at_once=at_once)
    turns = [Turn("system", "Make pairs."), Turn("user", QUESTION)]

    async def ask() -> None:
        assert (await model.complete(turns)).text

    try:
        return await timed(ask, at_once, ROUND_TRIPS)
    finally:
        await model.close()


async def openai_sdk(address: str, at_once: int) -> tuple[float, float]:
    from openai import AsyncOpenAI

    client = AsyncOpenAI(base_url=f"{address}/v1", api_key="sk-none", max_retries=0, timeout=90)

    async def ask() -> None:
        answer = await client.chat.completions.create(
            model="m",
            messages=[{"role": "system", "content": "Make pairs."}, {"role": "user", "content": QUESTION}],
        )
        assert answer.choices[0].message.content

    try:
        return await timed(ask, at_once, ROUND_TRIPS_PEER)
    finally:
        await client.close()


async def timed(ask: Callable[[], Awaitable[None]], at_once: int, round_trips: int) -> tuple[float, float]:
    """Calls a second, and microseconds of processor time a call."""
    await asyncio.gather(*(ask() for _ in range(at_once)))  # opens the connections

    async def lane() -> None:
        for _ in range(round_trips):
            await ask()

    started, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(lane() for _ in range(at_once)))
    calls = at_once * round_trips
    return calls / (time.perf_counter() - started), (time.process_time() - cpu) / calls * 1e6


async def storm(address: str, kind: str) -> tuple[float, int, int]:
    """Goodput in the storm, how many calls were turned away, how many were lost."""
    from shared.errors import FineFlowError
    from shared.llm.base import Turn
    from shared.llm.openai_compatible import OpenAICompatible
    from shared.llm.pace import Paced

    client = OpenAICompatible(f"{address}/{kind}/v1", "m", None)
    model = Paced(client, most_at_once=500)
    turns = [Turn("user", QUESTION)]
    answers = await asyncio.gather(
        *(model.complete(turns) for _ in range(STORM_CALLS)), return_exceptions=True
    )
    lost = sum(isinstance(answer, FineFlowError) for answer in answers)
    async with client.session().get(f"{address}/{kind}/counted") as response:
        counted = await response.json(content_type=None)
    await model.close()
    allowed = ALLOWED_PER_SECOND * STORM_SECONDS
    return counted["taken"] / allowed, counted["turned_away"], lost


# --- the service ---


def alone_on(core: int) -> None:
    """This process runs on that core, before all others where that is allowed (it is to root)."""
    os.sched_setaffinity(0, {core})
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))


def serve(send: Connection, core: int) -> None:
    alone_on(core)
    asyncio.run(_serve(send))


async def _serve(send: Connection) -> None:
    storms = {f"/{kind}/": Storm(kind) for kind in KINDS}
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Service(storms), "127.0.0.1", 0, backlog=2048)
    send.send(server.sockets[0].getsockname()[1])
    await server.serve_forever()


class Storm:
    """What one service takes, and what it says when it takes no more."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._began: float | None = None
        self._tokens, self._filled_at = TO_SPARE, 0.0
        self.taken = self.turned_away = 0

    def take(self) -> tuple[int, str]:
        """The status of a call, and headers to send."""
        now = time.monotonic()
        self._began = self._began or now
        since = now - self._began - STORM_AFTER_SECONDS
        if not 0 <= since < STORM_SECONDS:
            return 200, ""
        filled = self._tokens + (now - (self._filled_at or now)) * ALLOWED_PER_SECOND
        self._tokens, self._filled_at = min(TO_SPARE, filled), now
        if self._tokens < 1:
            self.turned_away += 1
            return 429, "retry-after: 1\r\n" if self._kind == "retry-after" else ""
        self._tokens -= 1
        self.taken += 1
        if self._kind != "headers":
            return 200, ""
        full_in = (TO_SPARE - self._tokens) / ALLOWED_PER_SECOND
        return 200, (
            f"x-ratelimit-limit-requests: {TO_SPARE:.0f}\r\n"
            f"x-ratelimit-remaining-requests: {int(self._tokens)}\r\n"
            f"x-ratelimit-reset-requests: {full_in * 1000:.0f}ms\r\n"
        )


class Service(asyncio.Protocol):
    """HTTP by hand: it must not be what is measured."""

    _body = json.dumps(_ANSWER).encode()

    def __init__(self, storms: dict[str, Storm]) -> None:
        self._storms = storms
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, rest = self._received.partition(b"\r\n\r\n")
        if not found:
            return
        _, is_long, length = head.lower().partition(b"content-length:")
        if is_long and len(rest) < int(length.split(b"\r\n")[0]):
            return
        self._received = b""
        path = head.split(b" ", 2)[1].decode()
        storm = next((storm for prefix, storm in self._storms.items() if path.startswith(prefix)), None)
        if storm and path.endswith("/counted"):
            counts = {"taken": storm.taken, "turned_away": storm.turned_away}
            self._answer(200, "", json.dumps(counts).encode())
        else:
            status, headers = storm.take() if storm else (200, "")
            body = self._body if status == 200 else b'{"error": {"message": "Too many requests"}}'
            delay = LATENCY_SECONDS if status == 200 else 0.0
            asyncio.get_running_loop().call_later(delay, self._answer, status, headers, body)

    def _answer(self, status: int, headers: str, body: bytes) -> None:
        head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n{headers}"
        self._transport.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)


if __name__ == "__main__":
    main()
