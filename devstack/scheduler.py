"""What pg_net and pg_cron do on hosted Supabase: row events and the clock call functions.

Row events arrive by NOTIFY and are hints: one that is lost is made up for by the schedule.
"""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import httpx
import psycopg
from pydantic import SecretStr

CHANNEL = "function_calls"
MOST_CALLS_AT_ONCE = 8
MOST_WAITING_CALLS = 1000
CALL_SECONDS = 120.0
# A functions server that was killed is back within a few seconds.
RETRY_AFTER_SECONDS = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0)
RECONNECT_SECONDS = 1.0
QUERY_SECONDS = 30.0
Call = tuple[str, str]  # the name of a function and its body as JSON
log = logging.getLogger(__name__)


class FunctionCaller:
    """Posts to the functions server, a few calls at a time; callers are never kept waiting.

    Equal calls run one after the other, and of those that wait only one is kept: each looks at the rows
    as they are when it runs, so the kept one does the work of all.
    """

    def __init__(self, functions_url: str, secret: SecretStr) -> None:
        self._url = functions_url
        self._headers = {
            "x-fineflow-secret": secret.get_secret_value(),
            "content-type": "application/json",
        }
        self._queue: asyncio.Queue[Call] = asyncio.Queue()
        self._taken: set[Call] = set()  # waiting or running
        self._again: set[Call] = set()  # asked for once more while running or waiting

    def call(self, name: str, body: Any) -> None:
        """The call will be made soon; dropped, with a warning, when a thousand are waiting already."""
        wanted = (name, json.dumps(body, sort_keys=True))
        if wanted in self._taken:
            self._again.add(wanted)
        elif self._queue.qsize() >= MOST_WAITING_CALLS:
            log.warning("%s is not called: %s calls are waiting", name, MOST_WAITING_CALLS)
        else:
            self._taken.add(wanted)
            self._queue.put_nowait(wanted)

    async def run(self) -> None:
        """Makes the calls, until cancelled."""
        async with (
            httpx.AsyncClient(headers=self._headers, timeout=CALL_SECONDS, trust_env=False) as http,
            asyncio.TaskGroup() as workers,
        ):
            for _ in range(MOST_CALLS_AT_ONCE):
                workers.create_task(self._work(http))

    async def _work(self, http: httpx.AsyncClient) -> None:
        while True:
            wanted = await self._queue.get()
            self._again.discard(wanted)
            await self._make(http, *wanted)
            if wanted in self._again:
                self._queue.put_nowait(wanted)
            else:
                self._taken.discard(wanted)

    async def _make(self, http: httpx.AsyncClient, name: str, body: str) -> None:
        try:
            response = await self._post(http, f"{self._url}/functions/v1/{name}", body)
        except httpx.HTTPError as error:
            log.warning("%s could not be called: %r", name, error)
        else:
            if response.is_error:
                log.warning("%s answered %s: %.300s", name, response.status_code, response.text)

    async def _post(self, http: httpx.AsyncClient, url: str, body: str) -> httpx.Response:
        for pause in RETRY_AFTER_SECONDS:
            try:
                return await http.post(url, content=body)
            except (httpx.ConnectError, httpx.RemoteProtocolError, httpx.ReadError):
                await asyncio.sleep(pause)  # every function bears a second delivery
        return await http.post(url, content=body)


async def listen(database_url: SecretStr, caller: FunctionCaller) -> None:
    """Hands row events to the caller, until cancelled; reconnects when Postgres goes away."""
    while True:
        try:
            async with await _connect(database_url) as connection:
                await connection.execute(f"listen {CHANNEL}")
                async for notification in connection.notifies():
                    _hand_over(notification.payload, caller)
        except psycopg.OperationalError as error:
            log.warning("row events are interrupted: %s", error)
        await asyncio.sleep(RECONNECT_SECONDS)


def _hand_over(payload: str, caller: FunctionCaller) -> None:
    try:
        call = json.loads(payload)
        name, body = call["name"], call["body"]
    except (ValueError, TypeError, KeyError):
        log.warning("a row event cannot be read: %.200s", payload)
        return
    caller.call(name, body)


async def run_schedules(database_url: SecretStr) -> None:
    """Runs each row of private.schedules at its local pace, until cancelled."""
    async with asyncio.TaskGroup() as clocks:
        for name, every_seconds in await _schedules(database_url):
            clocks.create_task(_tick(database_url, name, every_seconds))


async def _schedules(database_url: SecretStr) -> list[tuple[Any, ...]]:
    """The rows of private.schedules, asked for until Postgres gives them."""
    while True:
        try:
            async with await _connect(database_url) as connection:
                rows = await connection.execute("select name, every_seconds_local from private.schedules")
                return await rows.fetchall()
        except psycopg.OperationalError as error:
            log.warning("the schedules cannot be read: %s", error)
        await asyncio.sleep(RECONNECT_SECONDS)


async def _tick(database_url: SecretStr, name: str, every_seconds: int) -> None:
    while True:
        try:
            async with await _connect(database_url) as connection:
                while True:
                    async with asyncio.timeout(QUERY_SECONDS):
                        await connection.execute("select private.run_schedule(%s)", [name])
                    await asyncio.sleep(every_seconds)
        except (psycopg.Error, TimeoutError) as error:
            log.warning("schedule %s: %s", name, error)
        await asyncio.sleep(RECONNECT_SECONDS)


async def _connect(database_url: SecretStr) -> psycopg.AsyncConnection[tuple[Any, ...]]:
    return await psycopg.AsyncConnection.connect(
        database_url.get_secret_value(), autocommit=True, connect_timeout=5, application_name="scheduler"
    )
