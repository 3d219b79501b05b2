"""Starting, stopping, and what comes back by itself."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from websockets.exceptions import ConnectionClosed


def wait_for(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
async def test_ends_without_waiting_for_open_sockets(
    own_realtime: Any, open_socket: Any, how: signal.Signals
) -> None:
    own_realtime.start()
    client, stuck = await open_socket(server=own_realtime), await open_socket(server=own_realtime)
    await client.join("realtime:a", None, {"event": "*", "schema": "public", "table": "open_notes"})
    stuck.socket.transport.pause_reading()
    with socket.create_connection(("127.0.0.1", own_realtime.port)):  # connected, but says nothing
        assert own_realtime.stop(how) < 5  # half of what websockets itself gives who does not read
    assert own_realtime.process.returncode == 0
    with pytest.raises(ConnectionClosed) as closed:
        await client.socket.recv()
    assert closed.value.rcvd
    assert closed.value.rcvd.code == 1001
    assert "Traceback" not in own_realtime.log.read_text()


def test_leaves_nothing_in_the_database(own_realtime: Any, db: psycopg.Connection) -> None:
    def slots() -> set[Any]:
        return {name for (name,) in db.execute("select slot_name from pg_replication_slots")}

    before = slots()
    own_realtime.start()
    assert len(slots() - before) == 1
    own_realtime.stop(signal.SIGKILL)
    wait_for(lambda: slots() == before)


async def test_open_transaction_delays_the_start_and_not_the_end(own_realtime: Any, postgres: Any) -> None:
    """Postgres makes no slot while a transaction that has written is open."""
    with postgres.connect() as other, other.transaction():
        other.execute("insert into open_notes values (99, 'unfinished')")
        own_realtime.start(until_live=False)
        await asyncio.sleep(0.5)
        assert own_realtime.health() == 503
        assert own_realtime.stop() < 1
        own_realtime.start(until_live=False)
        other.execute("delete from open_notes")
    own_realtime.wait_status(200)


async def test_waits_for_the_publication(
    own_realtime: Any, open_socket: Any, make_token: Any, db: Any, user: str, job: str
) -> None:
    db.execute("alter publication supabase_realtime rename to elsewhere")
    try:
        own_realtime.start(until_live=False)
        client = await open_socket(server=own_realtime)
        wanted = {"event": "*", "schema": "public", "table": "jobs"}
        await client.send(
            "1", "1", "realtime:a", "phx_join",
            {"config": {"postgres_changes": [wanted]}, "access_token": make_token(user)},
        )  # fmt: skip
        assert (await client.receive())["payload"]["status"] == "ok"
        assert await client.hears_nothing()
        assert own_realtime.health() == 503
        assert own_realtime.log.read_text().count("publication supabase_realtime does not exist") == 1
    finally:
        db.execute("alter publication elsewhere rename to supabase_realtime")
    assert (await client.receive())["payload"]["message"] == "Subscribed to PostgreSQL"
    db.execute("update jobs set step = 1 where id = %s", [job])
    assert (await client.change())["record"]["step"] == 1


async def test_postgres_restarts_under_a_running_server(
    realtime: Any, postgres: Any, open_socket: Any, make_token: Any, user: str, job: str
) -> None:
    client = await open_socket()
    wanted = {"event": "UPDATE", "schema": "public", "table": "jobs", "filter": f"id=eq.{job}"}
    await client.join("realtime:a", make_token(user), wanted)
    started = time.monotonic()
    await postgres.stop()
    assert time.monotonic() - started < 3  # Postgres waits for the stream to confirm what it has sent
    realtime.wait_status(503)
    await postgres.start()
    system = await client.receive(10)
    assert (system["event"], system["payload"]["status"]) == ("system", "ok")
    assert realtime.health() == 200
    with postgres.connect() as db:
        db.execute("update jobs set step = 5 where id = %s", [job])
    assert (await client.change())["record"]["step"] == 5


def test_starts_without_postgres(tmp_path: Any, own_realtime: Any) -> None:
    own_realtime._database_url = "postgresql://postgres@127.0.0.1:1/postgres"
    own_realtime.start(until_live=False)
    assert own_realtime.stop() < 1
    assert "no change stream, trying again" in own_realtime.log.read_text()
