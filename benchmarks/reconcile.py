"""How many running jobs one tick looks at in a second, against a loop that takes one after the other.

The provider is a process of its own that answers each status after 150 ms; the database, PostgREST and
Realtime are those of the embedded stack. Nothing changes at the provider, so nothing may be written.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import aiohttp
import psycopg
from pydantic import SecretStr
from realtime import RealtimePostgresChangesListenEvent

from benchmarks.realtime import make_job
from devstack.ports import free_port
from devstack.up import Stack
from shared.db import Database, http_client
from shared.errors import ProviderUnavailable
from shared.jobs.advance import JobCore
from shared.jobs.reconcile import Reconciler
from shared.jobs.store import JobStore
from shared.jobs.token import TrainerTokens
from shared.keys.store import KeyProvider, OpenedKey
from shared.providers.base import KeyFacts, ProviderReport
from shared.training.config import Method
from shared.training.estimate import Estimate
from shared.training.files import TrainingFile
from shared.training.spec import Callback, RunSpec

LATENCY_SECONDS = 0.15
CONCURRENCY = 100
LIMIT = CONCURRENCY / LATENCY_SECONDS
ACTIVE_JOBS, SEQUENTIAL_JOBS = 10_000, 40
TICK_SECONDS = 30
CHILDREN = frozenset({"postgres", "front_door", "realtime"})


class SlowProvider:
    """Asks the slow server for the state of a run, by one request."""

    name = "slow"
    key: KeyProvider | None = None
    methods: frozenset[Method] = frozenset({"full"})
    runs_our_trainer = True
    late_seconds = 0.0

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self._url, self._session = url, session

    async def poll(
        self, provider_job_id: str, *, key: OpenedKey | None, cursor: str | None = None
    ) -> ProviderReport:
        async with self._session.get(f"{self._url}/runs/{provider_job_id}") as response:
            if response.status != 200:
                raise ProviderUnavailable(f"HTTP {response.status}")
            return ProviderReport((await response.json())["status"])

    async def start(
        self, spec: RunSpec, dataset: TrainingFile, *, idempotency_key: str, callback: Callback,
        key: OpenedKey | None,
    ) -> str:  # fmt: skip
        raise NotImplementedError

    async def find(self, idempotency_key: str, *, key: OpenedKey | None) -> list[str]:
        raise NotImplementedError

    async def cancel(self, provider_job_id: str, *, key: OpenedKey | None) -> None:
        raise NotImplementedError

    async def delete_model(self, provider_model_id: str, *, key: OpenedKey | None) -> None:
        raise NotImplementedError

    async def check_key(self, key: OpenedKey) -> KeyFacts:
        raise NotImplementedError

    def estimate(self, spec: RunSpec, dataset: TrainingFile) -> Estimate:
        raise NotImplementedError


class NoKeys:
    """The provider needs none."""

    async def open(self, user_id: UUID, provider: KeyProvider) -> OpenedKey | None:
        return None

    async def mark_invalid(
        self, user_id: UUID, provider: KeyProvider, opened: OpenedKey, reason: str
    ) -> bool:
        return False


class SlowServer(asyncio.Protocol):
    """Answers each GET when the latency has passed; no framework, so that the wire adds nothing to it."""

    _BODY = b'{"status": "training"}'
    _ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
        len(_BODY),
        _BODY,
    )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        for _ in range(data.count(b"\r\n\r\n")):  # a GET has no body, and ends in one piece
            asyncio.get_running_loop().call_later(LATENCY_SECONDS, self._transport.write, self._ANSWER)


def serve(port: int) -> None:
    """The slow server, until it is terminated."""

    async def forever() -> None:
        server = await asyncio.get_running_loop().create_server(SlowServer, "127.0.0.1", port, backlog=1000)
        await server.serve_forever()

    asyncio.run(forever())


def add_running_jobs(database_url: str, owner_job: str, count: int) -> None:
    """`count` jobs in training, due now, beside the one that is there."""
    with psycopg.connect(database_url) as database:
        database.execute("set session_replication_role = replica")  # as if they had walked there
        database.execute(
            "insert into public.training_jobs (project_id, dataset_id, user_id, idempotency_key,"
            " request_hash, provider, base_model, method, model_name, status, attempt, provider_job_id,"
            " deadline_at) select project_id, dataset_id, user_id, gen_random_uuid()::text, 'h', 'slow',"
            " base_model, 'full', 'm', 'training', 1, gen_random_uuid()::text, now() + interval '6 hours'"
            " from public.training_jobs, generate_series(1, %s) where id = %s",
            [count, owner_job],
        )
        database.execute(
            "insert into private.training_job_control (job_id, status_since)"
            " select id, now() - interval '1 hour' from public.training_jobs where provider = 'slow'"
        )


def make_due(database_url: str) -> None:
    """Every job at the slow provider is due, no other."""
    with psycopg.connect(database_url) as database:
        database.execute(
            "update private.training_job_control c set next_poll_at = case when j.provider = 'slow'"
            " then now() else 'infinity' end from public.training_jobs j where j.id = c.job_id"
        )


def versions(database_url: str) -> int:
    """Grows with every write of a job's row."""
    with psycopg.connect(database_url) as database:
        row = database.execute("select sum(version) from public.training_jobs").fetchone()
        assert row
        return int(row[0])


async def sequential(database: Database, provider: SlowProvider, jobs: int) -> float:
    """Jobs a second of the obvious loop: read the row, ask, write what was said, the next one."""
    rows = (
        await database.run(database.table("training_jobs").select("*").eq("provider", "slow").limit(jobs))
    ).data
    started = time.monotonic()
    for row in rows:
        report = await provider.poll(row["provider_job_id"], key=None)
        step = {"current_step": f"{report.status}"}
        await database.run(database.table("training_jobs").update(step).eq("id", row["id"]))
    return jobs / (time.monotonic() - started)


async def measure(stack: Stack, provider_url: str) -> dict[str, Any]:
    """All figures."""
    job = await make_job(stack.url, stack.publishable_key, stack.secret_key)
    add_running_jobs(stack.database_url, job.id, ACTIVE_JOBS)
    messages: list[Any] = []
    channel = job.owner.channel("reconcile")
    channel.on_postgres_changes(
        RealtimePostgresChangesListenEvent.All, messages.append, table="training_jobs", schema="public"
    )
    await channel.subscribe()
    await _silence(messages)
    connector = aiohttp.TCPConnector(limit=0)
    async with http_client() as http, aiohttp.ClientSession(connector=connector) as session:
        key = stack.secret_key
        database = Database(stack.url, api_key=key, bearer=key, http=http)
        provider = SlowProvider(provider_url, session)
        core = JobCore(
            store=JobStore(database),
            providers={"slow": provider},
            keys=NoKeys(),
            tokens=TrainerTokens(SecretStr("x" * 32)),
            report_url="http://127.0.0.1:1",
            build_training_file=_no_file,
        )
        before, heard = versions(stack.database_url), len(messages)
        seconds = await _tick(core, stack)
        writes = versions(stack.database_url) - before
        await _silence(messages)
        unasked = len(messages) - heard
        peer = await sequential(database, provider, SEQUENTIAL_JOBS)
        await _silence(messages)
    assert len(messages) >= heard + unasked + SEQUENTIAL_JOBS, "the subscriber is deaf"
    await job.owner.remove_channel(channel)
    rate = ACTIVE_JOBS / seconds
    return {"rate": rate, "seconds": seconds, "writes": writes, "messages": unasked, "peer": peer}


async def _silence(messages: list[Any]) -> None:
    """Nothing was heard for two seconds: what was under way has arrived."""
    count = -1
    while count != len(messages):
        count = len(messages)
        await asyncio.sleep(2)


async def _tick(core: JobCore, stack: Stack) -> float:
    make_due(stack.database_url)
    started, cpu = time.monotonic(), time.process_time()
    tick = await Reconciler(core, concurrency=CONCURRENCY, seconds=600).tick()
    seconds = time.monotonic() - started
    assert tick.looked_at == ACTIVE_JOBS
    assert not tick.moved
    cpu_ms = (time.process_time() - cpu) / ACTIVE_JOBS * 1000
    print(f"{ACTIVE_JOBS:,} jobs in {seconds:.1f} s, {cpu_ms:.2f} ms of this process's CPU each")
    return seconds


async def _no_file(dataset_id: UUID, method: str) -> TrainingFile:
    raise NotImplementedError


def run() -> dict[str, Any]:
    """The figures, on a stack of its own."""
    directory = Path(tempfile.mkdtemp(prefix="fineflow-reconcile-"))
    port = free_port()
    server = subprocess.Popen([sys.executable, "-m", "benchmarks.reconcile", "serve", str(port)])

    async def on_a_stack() -> dict[str, Any]:
        async with Stack(directory, free_port(), children=CHILDREN) as stack:
            return await measure(stack, f"http://127.0.0.1:{port}")

    try:
        return asyncio.run(on_a_stack())
    finally:
        server.terminate()
        server.wait(10)
        shutil.rmtree(directory, ignore_errors=True)


def main() -> None:
    """Prints the figures; the last line is JSON. Exit code 1 when a promise is broken."""
    if sys.argv[1:2] == ["serve"]:
        return serve(int(sys.argv[2]))
    found = run()
    rate, seconds = found["rate"], found["seconds"]
    print(
        f"Reconcile: {rate:.0f} jobs/s at concurrency {CONCURRENCY} and {LATENCY_SECONDS * 1000:.0f} ms"
        f" ({rate / LIMIT:.1%} of {LIMIT:.0f}); one after the other {found['peer']:.1f} jobs/s;"
        f" {ACTIVE_JOBS:,} active jobs in {seconds:.1f} s; {found['writes']} row writes,"
        f" {found['messages']} Realtime messages"
    )
    print(
        json.dumps(
            {
                "name": "reconcile",
                "ours": round(rate, 1),
                "peer": round(found["peer"], 2),
                "peer_name": "a loop that takes one job after the other",
                "limit": round(LIMIT, 1),
                "limit_name": "concurrency / latency",
                "unit": "jobs/s",
                "ratio_to_peer": round(rate / found["peer"], 1),
                "ratio_to_limit": round(rate / LIMIT, 3),
                "n": ACTIVE_JOBS,
                "seconds_for_10000": round(seconds, 1),
                "row_writes": found["writes"],
                "realtime_messages": found["messages"],
            }
        )
    )
    good = rate >= 0.95 * LIMIT and seconds <= TICK_SECONDS and not found["writes"] and not found["messages"]
    sys.exit(not good)


if __name__ == "__main__":
    main()
