"""One origin: what the front door answers itself, what it passes on, and the shape of what Lite says."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from uuid import uuid4

import httpx
import psycopg
import pytest
import websockets

from devstack.install import PROJECT
from devstack.node_tools import NODE_DIR, node_binary
from devstack.ports import free_port
from devstack.supabase_lite import byte_count, lite_settings
from devstack.up import Stack, StackFailed
from tests.devstack.users import PASSWORD, User, client
from tests.supabase_py import supabase_client


async def test_health_and_unknown_addresses(lite: Stack) -> None:
    async with httpx.AsyncClient(base_url=lite.url) as http:
        assert (await http.get("/health")).json() == {"status": "ok"}
        for path in ("/", "/_system/info", "/rest/v10/notes", "/restricted", "/realtime/v1/websocket"):
            response = await http.get(path)
            assert (response.status_code, response.json()["error"]["code"]) == (404, "not_found"), path


async def test_functions_that_are_down_are_a_readable_503(lite: Stack) -> None:
    async with httpx.AsyncClient(base_url=lite.url) as http:
        origin = {"origin": "http://web.test"}
        asked = {"access-control-request-method": "POST", "access-control-request-headers": "apikey, x-new"}
        preflight = await http.options("/functions/v1/chat", headers=origin | asked)
        assert preflight.status_code == 204
        assert preflight.headers["access-control-allow-headers"] == "apikey, x-new"
        response = await http.post("/functions/v1/chat", json={}, headers=origin)
        assert response.status_code == 503
        assert response.json()["error"]["code"] == "functions_unavailable"
        assert response.headers["access-control-allow-origin"] == "*"


@asynccontextmanager
async def echo_server(port: int) -> AsyncIterator[None]:
    """Answers each request with its own head and body, in two chunks."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        body = await reader.readexactly(int(length[1]) if length else 0)
        writer.write(b"HTTP/1.1 207 Multi-Status\r\nx-from: functions\r\nconnection: close\r\n\r\n" + head)
        await writer.drain()
        writer.write(body)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", port):
        yield


async def test_functions_get_the_request_as_it_came(lite: Stack) -> None:
    async with echo_server(lite.ports["functions"]), httpx.AsyncClient(base_url=lite.url) as http:
        response = await http.post(
            "/functions/v1/chat?x=%20y", content=b"z" * 300_000, headers={"x-own": "kept"}
        )
    assert (response.status_code, response.headers["x-from"]) == (207, "functions")
    head, _, body = response.text.partition("\r\n\r\n")
    assert head.startswith("POST /functions/v1/chat?x=%20y HTTP/1.1\r\n")
    assert "x-own: kept" in head
    assert body == "z" * 300_000


async def test_sockets_reach_realtime(lite: Stack) -> None:
    async def echo(socket: websockets.ServerConnection) -> None:
        assert socket.request is not None
        await socket.send(socket.request.path)
        async for message in socket:
            await socket.send(message)

    address = lite.url.replace("http", "ws") + "/realtime/v1/websocket?vsn=2.0.0"
    with pytest.raises(websockets.InvalidStatus, match="503"):
        await websockets.connect(address)
    async with (
        websockets.serve(echo, "127.0.0.1", lite.ports["realtime"]),
        websockets.connect(address) as socket,
    ):
        assert await socket.recv() == "/realtime/v1/websocket?vsn=2.0.0"
        await socket.send("x" * 200_000)
        assert await socket.recv() == "x" * 200_000
    with pytest.raises(websockets.InvalidStatus, match="404"):
        await websockets.connect(lite.url.replace("http", "ws") + "/other")


async def test_supabase_py_signs_up_and_in(lite: Stack) -> None:
    who = {"email": f"user-{uuid4().hex}@test.local", "password": PASSWORD}
    async with supabase_client(lite.url, lite.publishable_key) as supabase:
        up = await supabase.auth.sign_up(who)  # raises where times are not ISO 8601
        signed_in = await supabase.auth.sign_in_with_password(who)
    assert up.user is not None
    assert signed_in.user is not None
    assert isinstance(signed_in.user.created_at, datetime)
    assert signed_in.user.id == up.user.id


async def test_values_have_the_shape_of_postgrest(lite: Stack) -> None:
    user = await asyncio.to_thread(User.new, lite)
    with user.http as http:
        http.post("/rest/v1/notes", json=[{"body": "a", "cost": 0.01}, {"body": "b", "cost": "NaN"}])
        first, second = http.get("/rest/v1/notes", params={"order": "id"}).json()
    assert (first["cost"], second["cost"]) == (0.01, "NaN")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?\+00:00", first["created_at"])


async def test_a_changed_schema_is_seen_at_once(lite: Stack) -> None:
    name = f"fresh_{uuid4().hex[:8]}"
    with (
        client(lite, lite.publishable_key) as http,
        psycopg.connect(lite.database_url, autocommit=True) as db,
    ):
        assert http.get(f"/rest/v1/{name}").json()["code"] == "PGRST205"
        db.execute(f"create table public.{name} as select 1 as a")
        db.execute(f"grant select on public.{name} to anon")
        await asyncio.sleep(0.1)
        assert http.get(f"/rest/v1/{name}").json() == [{"a": 1}]
        db.execute(f"drop table public.{name}")


async def test_the_seed_runs_once(data_dir: Path, sample_project: Path) -> None:
    some = {"postgres", "front_door"}
    async with Stack(data_dir, free_port(), project=sample_project, children=some) as stack:
        with psycopg.connect(stack.database_url) as database:
            assert database.execute("delete from public.closed where id = 2").rowcount == 1
    async with Stack(data_dir, free_port(), project=sample_project, children=some) as stack:
        with psycopg.connect(stack.database_url) as database:
            assert database.execute("select id from public.closed").fetchall() == [(1,)]


async def test_a_failing_migration_is_named_and_leaves_nothing(data_dir: Path, sample_project: Path) -> None:
    folder = sample_project / "supabase" / "migrations"
    (folder / "20260102000000_half.sql").write_text("create table public.half (id int); select 1 / 0;")
    stack = Stack(data_dir, free_port(), project=sample_project, children={"postgres", "front_door"})
    with pytest.raises(StackFailed, match=r"20260102000000_half\.sql: division by zero"):
        async with stack:
            pass
    (folder / "20260102000000_half.sql").write_text("create table public.half (id int);")
    async with stack:  # possible only if the first attempt was rolled back
        pass


def test_an_unknown_version_of_lite_is_refused() -> None:
    script = (
        f"import {{ missingInternals }} from {json.dumps(str(NODE_DIR / 'lite.mjs'))};"
        "console.log(missingInternals({ connection: { driver: {}, rlsState: 'none' } }).join());"
    )
    words = [node_binary(), "--input-type=module", "--eval", script]
    done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=True)
    names = "connection.rlsState,connection.clearSchemaCache,connection.driver.listen,app._storageAdapter"
    assert done.stdout.strip() == names


@pytest.mark.parametrize(
    ("message", "status", "code"),
    [
        ("Error: write CONNECTION_CLOSED 127.0.0.1:5432", 503, "PGRST001"),
        ("PostgresError: the database system is starting up", 503, "PGRST001"),
        ("TypeError: x is not a function", 500, "SUP"),
    ],
)
def test_a_database_that_is_away_is_told_as_postgrest_tells_it(message: str, status: int, code: str) -> None:
    said = json.dumps({"code": "SUP", "message": message})
    script = (
        f"import {{ tellOutage }} from {json.dumps((NODE_DIR / 'outages.mjs').as_uri())};"
        f"const answer = await tellOutage(new Response({json.dumps(said)}, {{ status: 500 }}));"
        "console.log(JSON.stringify([answer.status, (await answer.json()).code]));"
    )
    words = [node_binary(), "--input-type=module", "--eval", script]
    done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=True)
    assert json.loads(done.stdout) == [status, code]


def test_lite_follows_the_settings_of_the_project() -> None:
    config = {"api": {"schemas": ["public"], "port": 1}, "auth": {"jwt_expiry": 60}, "realtime": {"x": 1}}
    assert lite_settings(config) == {
        "api": {"schemas": ["public"]},
        "auth": {"jwt_expiry": 60},
        "storage": {},
    }
    assert byte_count("100MiB") == 104_857_600
    with pytest.raises(ValueError, match="is no file size"):
        byte_count("much")


def test_the_lock_file_names_no_registry() -> None:
    assert '"resolved"' not in (NODE_DIR / "package-lock.json").read_text()
    assert (NODE_DIR / ".npmrc").read_text() == (PROJECT / ".npmrc").read_text()
