"""A real Postgres with logical replication, the real server as a child process, and raw clients."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import jwt
import psycopg
import pytest
from pydantic import SecretStr
from websockets.asyncio.client import ClientConnection, connect

from devstack.ports import free_port
from devstack.postgres import Postgres

JWT_SECRET = secrets.token_hex(32)
PUBLISHABLE_KEY, SECRET_KEY = "sb_publishable_test", "sb_secret_test"

SCHEMA = """
create role anon nologin;
create role authenticated nologin;
create role service_role nologin bypassrls;
create schema auth;
grant usage on schema auth, public to anon, authenticated, service_role;
create function auth.uid() returns uuid language sql stable as
    $$ select (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')::uuid $$;
create type public.job_status as enum ('queued', 'running', 'done');
create table public.jobs (
    id uuid primary key default gen_random_uuid(),
    owner uuid not null,
    status public.job_status not null default 'queued',
    step integer not null default 0,
    loss numeric,
    rate double precision,
    config jsonb,
    tags text[],
    log text,
    active boolean default true,
    secret text,
    updated_at timestamptz not null default '2026-01-02 03:04:05.678+00'
);
alter table public.jobs enable row level security;
create policy "owners see jobs" on public.jobs for select to authenticated
    using (owner = (select auth.uid()));
grant select (id, owner, status, step, loss, rate, config, tags, log, active, updated_at)
    on public.jobs to authenticated;
grant all on public.jobs to service_role;
create table public.open_notes (id integer primary key, body text);
grant select on public.open_notes to anon, authenticated;
create table public.unpublished (id integer primary key);
create publication supabase_realtime for table public.jobs, public.open_notes;
"""


class Database:
    """A Postgres that the tests may stop and start."""

    def __init__(self, directory: Path) -> None:
        self._server = Postgres(directory, SecretStr(secrets.token_hex(8)))
        self.url = self._server.url.get_secret_value()

    async def start(self) -> None:
        await self._server.__aenter__()

    async def stop(self) -> None:
        await self._server.__aexit__(None, None, None)

    def connect(self) -> psycopg.Connection:
        return psycopg.connect(self.url, autocommit=True)


class RealtimeProcess:
    """The server as devstack starts it."""

    def __init__(self, database_url: str, log: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = log
        self._database_url = database_url

    def start(self, *, until_live: bool = True) -> None:
        environment = os.environ | {
            "FINEFLOW_DATABASE_URL": self._database_url,
            "SUPABASE_JWT_SECRET": JWT_SECRET,
            "SUPABASE_PUBLISHABLE_KEY": PUBLISHABLE_KEY,
            "SUPABASE_SECRET_KEY": SECRET_KEY,
        }
        command = [sys.executable, "-m", "devstack.realtime.server", "--port", str(self.port)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        self.wait_status(200 if until_live else 503)

    def health(self) -> int | None:
        """The status of /health; None while nothing listens."""
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=2) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code
        except OSError:
            return None

    def wait_status(self, status: int) -> None:
        deadline = time.monotonic() + 20
        while self.health() != status:
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> float:
        """Seconds that it took to end."""
        started = time.monotonic()
        self.process.send_signal(how)
        self.process.wait(10)
        return time.monotonic() - started


class RawClient:
    """Frames of protocol 2.0.0 (or 1.0.0) as they are."""

    def __init__(self, socket: ClientConnection, version: str, log: Path) -> None:
        self.socket = socket
        self.version = version
        self.log = log

    async def send(self, *message: Any) -> None:
        names = ("join_ref", "ref", "topic", "event", "payload")
        raw = list(message) if self.version == "2.0.0" else dict(zip(names, message, strict=True))
        await self.socket.send(json.dumps(raw))

    async def receive(self, timeout_seconds: float = 5) -> dict[str, Any]:
        try:
            async with asyncio.timeout(timeout_seconds):
                raw = json.loads(await self.socket.recv())
        except TimeoutError:
            raise TimeoutError(self.log.read_text()) from None
        if self.version == "2.0.0":
            return dict(zip(("join_ref", "ref", "topic", "event", "payload"), raw, strict=True))
        return raw

    async def join(
        self, topic: str, token: str | None, *changes: dict[str, Any], **config: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The reply and the next message, which tells how the subscription went."""
        payload = {"config": {"postgres_changes": changes, **config}, "access_token": token}
        await self.send("1", "1", topic, "phx_join", payload)
        return await self.receive(), await self.receive()

    async def change(self) -> dict[str, Any]:
        message = await self.receive()
        assert message["event"] == "postgres_changes", message
        return message["payload"]["data"]

    async def hears_nothing(self, seconds: float = 0.3) -> bool:
        try:
            await self.receive(seconds)
        except TimeoutError:
            return True
        return False


@pytest.fixture(scope="session")
async def postgres() -> AsyncIterator[Database]:
    # Not pytest's directory: it is closed to the user that Postgres runs as under root.
    directory = Path(tempfile.mkdtemp(prefix="fineflow realtime "))
    directory.chmod(0o711)
    database = Database(directory)
    try:
        await database.start()
        with database.connect() as connection:
            connection.execute(SCHEMA)
        yield database
    finally:
        await database.stop()
        shutil.rmtree(directory)


@pytest.fixture
def db(postgres: Database) -> Iterator[psycopg.Connection]:
    with postgres.connect() as connection:
        yield connection


@pytest.fixture(scope="session")
def realtime(postgres: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealtimeProcess]:
    """Shared by the tests that leave it running."""
    server = RealtimeProcess(postgres.url, tmp_path_factory.mktemp("realtime") / "log")
    server.start()
    yield server
    server.stop()
    assert "Traceback" not in server.log.read_text()


@pytest.fixture
def own_realtime(postgres: Database, tmp_path: Path) -> Iterator[RealtimeProcess]:
    """One that the test starts, and may stop; it must never have printed a traceback."""
    server = RealtimeProcess(postgres.url, tmp_path / "log")
    yield server
    if server.process.poll() is None:
        server.stop()
    assert "Traceback" not in server.log.read_text()


@pytest.fixture
async def open_socket(realtime: RealtimeProcess) -> AsyncIterator[Callable[..., Any]]:
    """`await open_socket(version=..., key=..., server=...)` -> RawClient; closed after the test."""
    async with contextlib.AsyncExitStack() as stack:

        async def open_one(
            version: str = "2.0.0", key: str = PUBLISHABLE_KEY, server: RealtimeProcess = realtime
        ) -> RawClient:
            url = f"ws://127.0.0.1:{server.port}/realtime/v1/websocket?apikey={key}&vsn={version}"
            socket = await stack.enter_async_context(connect(url, compression=None, close_timeout=1))
            return RawClient(socket, version, server.log)

        yield open_one


@pytest.fixture(scope="session")
def make_token() -> Callable[..., str]:
    """`make_token(user_id, role=..., seconds=..., secret=..., **claims)`; a claim of None is left out."""

    def make(
        user: str, role: str = "authenticated", seconds: float = 600, secret: str = JWT_SECRET, **claims: Any
    ) -> str:
        now = time.time()
        all_claims = {"sub": user, "role": role, "aud": "authenticated", "exp": int(now + seconds), **claims}
        return jwt.encode({k: v for k, v in all_claims.items() if v is not None}, secret, "HS256")

    return make


@pytest.fixture
def user() -> str:
    return str(uuid.uuid4())


@pytest.fixture
def keys() -> tuple[str, str]:
    """The publishable and the secret key."""
    return PUBLISHABLE_KEY, SECRET_KEY


@pytest.fixture
def job(db: psycopg.Connection, user: str) -> str:
    """The id of a new row that `user` owns."""
    row = db.execute("insert into jobs (owner) values (%s) returning id::text", [user]).fetchone()
    assert row
    return str(row[0])
