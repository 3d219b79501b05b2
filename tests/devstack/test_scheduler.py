from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr

from devstack import scheduler
from devstack.ports import free_port
from devstack.scheduler import MOST_CALLS_AT_ONCE, FunctionCaller, listen, run_schedules
from devstack.up import Stack

SECRET = SecretStr("a-secret-of-functions")


class Functions:
    """A functions server that notes what it is asked; `answer` is awaited before each reply."""

    def __init__(self) -> None:
        self.port = free_port()
        self.calls: list[tuple[str, str, Any]] = []
        self.running = self.most_running = 0
        self.hold = asyncio.Event()
        self.hold.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while head := (await reader.readuntil(b"\r\n\r\n")).decode():
                headers = dict(line.lower().split(": ", 1) for line in head.splitlines()[1:] if line)
                body = json.loads(await reader.readexactly(int(headers["content-length"])))
                self.running += 1
                self.most_running = max(self.most_running, self.running)
                self.calls.append((head.split(" ")[1], headers["x-fineflow-secret"], body))
                await self.hold.wait()
                self.running -= 1
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
                await writer.drain()
        writer.close()

    @asynccontextmanager
    async def up(self) -> AsyncIterator[None]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        try:
            yield
        finally:
            server.close()

    def caller(self) -> FunctionCaller:
        return FunctionCaller(f"http://127.0.0.1:{self.port}", SECRET)


@asynccontextmanager
async def running(*work: Any) -> AsyncIterator[None]:
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


def notify(stack: Stack, payload: str) -> None:
    with psycopg.connect(stack.database_url, autocommit=True) as database:
        database.execute("select pg_notify('function_calls', %s)", [payload])


async def test_a_row_event_calls_its_function(lite: Stack) -> None:
    functions = Functions()
    caller = functions.caller()
    async with functions.up(), running(caller.run(), listen(SecretStr(lite.database_url), caller)):
        await asyncio.sleep(0.3)
        for broken in ("not json", '"text"', "{}"):
            notify(lite, broken)
        notify(lite, json.dumps({"name": "process-document", "body": {"documentId": "ä"}}))
        await until(lambda: len(functions.calls) == 1)
    expected = ("/functions/v1/process-document", SECRET.get_secret_value(), {"documentId": "ä"})
    assert functions.calls == [expected]


async def test_listening_goes_on_after_the_connection_was_lost(lite: Stack) -> None:
    functions = Functions()
    caller = functions.caller()
    async with functions.up(), running(caller.run(), listen(SecretStr(lite.database_url), caller)):
        await asyncio.sleep(0.3)
        with psycopg.connect(lite.database_url, autocommit=True) as database:
            database.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'scheduler'"
            )
        await asyncio.sleep(scheduler.RECONNECT_SECONDS + 0.5)
        notify(lite, json.dumps({"name": "again", "body": {}}))
        await until(lambda: len(functions.calls) == 1)


async def test_a_functions_server_that_is_away_for_a_moment_loses_no_event() -> None:
    functions = Functions()
    caller = functions.caller()
    async with running(caller.run()):
        caller.call("late", {"n": 1})
        await asyncio.sleep(0.5)
        async with functions.up():
            await until(lambda: len(functions.calls) == 1)
    assert functions.calls[0][2] == {"n": 1}


async def test_a_call_that_cannot_be_made_is_given_up_and_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(scheduler, "RETRY_AFTER_SECONDS", (0.01, 0.01))
    monkeypatch.setattr(logging.getLogger("devstack.scheduler"), "propagate", True)
    functions = Functions()
    caller = functions.caller()
    async with running(caller.run()):
        caller.call("lost", {})
        await until(lambda: "lost could not be called" in caplog.text)
        async with functions.up():
            caller.call("next", {})
            await until(lambda: len(functions.calls) == 1)


async def test_no_more_than_a_few_calls_run_at_once() -> None:
    functions = Functions()
    functions.hold.clear()
    caller = functions.caller()
    async with functions.up(), running(caller.run()):
        for number in range(30):
            caller.call("slow", {"n": number})
        await until(lambda: functions.running == MOST_CALLS_AT_ONCE)
        await asyncio.sleep(0.1)
        functions.hold.set()
        await until(lambda: len(functions.calls) == 30)
    assert functions.most_running == MOST_CALLS_AT_ONCE


async def test_equal_calls_are_one_that_runs_and_one_that_waits() -> None:
    functions = Functions()
    functions.hold.clear()
    caller = functions.caller()
    async with functions.up(), running(caller.run()):
        caller.call("poll-training", {})
        await until(lambda: functions.running == 1)
        for _ in range(20):
            caller.call("poll-training", {})
        caller.call("other", {})
        await until(lambda: functions.running == 2)
        functions.hold.set()
        await until(lambda: len(functions.calls) == 3)
        await asyncio.sleep(0.1)
    assert [path.rpartition("/")[2] for path, _, _ in functions.calls] == [
        "poll-training",
        "other",
        "poll-training",
    ]


async def test_schedules_run_at_their_local_pace(lite: Stack) -> None:
    def ticks() -> int:
        with psycopg.connect(lite.database_url) as database:
            row = database.execute("select count(*) from private.ticks").fetchone()
            assert row is not None
            return int(row[0])

    before = ticks()
    async with running(run_schedules(SecretStr(lite.database_url))):
        await asyncio.sleep(2.5)
    assert ticks() - before == 3


async def test_schedules_wait_for_postgres_that_is_slow_to_answer(
    lite: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect, refusals = scheduler._connect, [psycopg.OperationalError("connection timeout expired")]

    async def slow(database_url: SecretStr) -> Any:
        if refusals:
            raise refusals.pop()
        return await connect(database_url)

    monkeypatch.setattr(scheduler, "_connect", slow)
    monkeypatch.setattr(scheduler, "RECONNECT_SECONDS", 0.01)
    assert await scheduler._schedules(SecretStr(lite.database_url)) == [("tick", 1)]
    assert not refusals
