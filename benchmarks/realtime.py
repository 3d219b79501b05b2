"""A change of a job's row until a client hears of it: Realtime, polling every second, and bare LISTEN.

Each of 200 updates, 20 ms apart, is timed on one clock, from the return of its commit to the callback of the
official Python client, which subscribes through the front door as the user who owns the job.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import shutil
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import psycopg
from postgrest import APIResponse
from realtime import RealtimePostgresChangesListenEvent
from supabase import AsyncClient, acreate_client

from devstack.ports import free_port
from devstack.up import Stack

UPDATES = 200
GAP_SECONDS = 0.02
POLL_SECONDS = 1.0
LIMIT_MS = 150.0
PATIENCE_SECONDS = 30.0
CHANNEL = "benchmark_realtime"
Heard = dict[int, float]  # step of the row -> when it was heard of, on the monotonic clock
# No functions server: the job is only looked at.
CHILDREN = frozenset({"postgres", "front_door", "realtime"})


@dataclass(frozen=True)
class Job:
    """A row of training_jobs and the signed-in client of its owner."""

    id: str
    owner: AsyncClient


async def make_job(url: str, publishable_key: str, secret_key: str) -> Job:
    """A new user with a project, a dataset and a pending job."""
    owner = await acreate_client(url, publishable_key)
    email = f"{secrets.token_hex(6)}@example.com"
    signed_up = await owner.auth.sign_up({"email": email, "password": secrets.token_hex(12)})
    assert signed_up.user is not None
    assert signed_up.session is not None
    await owner.realtime.set_auth(signed_up.session.access_token)
    service = await acreate_client(url, secret_key)

    async def insert(table: str, **values: Any) -> str:
        return str(only_row(await service.table(table).insert(values).execute())["id"])

    project = await insert("projects", name="Benchmark", owner_id=signed_up.user.id)
    dataset = await insert("training_datasets", project_id=project, name="Benchmark", status="ready")
    job = await insert(
        "training_jobs",
        project_id=project,
        dataset_id=dataset,
        user_id=signed_up.user.id,
        idempotency_key=secrets.token_hex(8),
        request_hash="benchmark",
        provider="local",
        base_model="tiny",
        method="lora",
        model_name="benchmark",
    )
    return Job(job, owner)


async def measure(
    url: str, publishable_key: str, secret_key: str, database_url: str, updates: int = UPDATES
) -> list[float]:
    """Milliseconds from commit to callback, one for each update."""
    job = await make_job(url, publishable_key, secret_key)
    return await by_realtime(job, database_url, updates)


async def by_realtime(job: Job, database_url: str, updates: int = UPDATES) -> list[float]:
    """As `measure`, for a job that exists."""
    heard: Heard = {}
    is_subscribed = asyncio.Event()

    def note(change: Any) -> None:
        heard.setdefault(change["data"]["record"]["step"], time.monotonic())

    channel = job.owner.channel("benchmark")
    channel.on_postgres_changes(
        RealtimePostgresChangesListenEvent.Update,
        note,
        table="training_jobs",
        schema="public",
        filter=f"id=eq.{job.id}",
    )
    channel.on_system(lambda _: is_subscribed.set())
    await channel.subscribe()
    await asyncio.wait_for(is_subscribed.wait(), PATIENCE_SECONDS)
    try:
        return await latencies(heard, lambda: write(database_url, job.id, updates))
    finally:
        await job.owner.remove_channel(channel)


async def by_polling(job: Job, database_url: str, updates: int = UPDATES) -> list[float]:
    """The row is read through the front door every second; a poll tells of all steps up to the row's."""
    heard: Heard = {}

    async def poll() -> None:
        while True:
            answer = await job.owner.table("training_jobs").select("step").eq("id", job.id).execute()
            for one in range(1, (only_row(answer)["step"] or 0) + 1):
                heard.setdefault(one, time.monotonic())
            await asyncio.sleep(POLL_SECONDS)

    await reset(database_url, job.id)
    polling = asyncio.create_task(poll())
    try:
        return await latencies(heard, lambda: write(database_url, job.id, updates))
    finally:
        polling.cancel()


async def by_listening(job: Job, database_url: str, updates: int = UPDATES) -> list[float]:
    """LISTEN on a connection to Postgres, told by the transaction that writes: nothing could be nearer."""
    heard: Heard = {}
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
        await connection.execute(f"listen {CHANNEL}")

        async def listen() -> None:
            async for notice in connection.notifies():
                heard.setdefault(int(notice.payload), time.monotonic())

        listening = asyncio.create_task(listen())
        try:
            return await latencies(heard, lambda: write(database_url, job.id, updates, is_notified=True))
        finally:
            listening.cancel()
            with suppress(asyncio.CancelledError):
                await listening


def only_row(answer: APIResponse) -> dict[str, Any]:
    (row,) = answer.data
    return cast(dict[str, Any], row)


async def reset(database_url: str, job_id: str) -> None:
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
        await connection.execute("update public.training_jobs set step = 0 where id = %s", [job_id])


async def write(database_url: str, job_id: str, updates: int, is_notified: bool = False) -> Heard:
    """Steps 1 to `updates`, each in a transaction; when each commit returned. In a thread of its own, so that
    the clock does not wait for the event loop that hears of them.
    """
    return await asyncio.to_thread(_write, database_url, job_id, updates, is_notified)


def _write(database_url: str, job_id: str, updates: int, is_notified: bool) -> Heard:
    committed: Heard = {}
    with psycopg.connect(database_url, autocommit=True) as connection:
        for step in range(1, updates + 1):
            with connection.transaction():
                connection.execute("update public.training_jobs set step = %s where id = %s", [step, job_id])
                if is_notified:
                    connection.execute("select pg_notify(%s, %s)", [CHANNEL, str(step)])
            committed[step] = time.monotonic()
            time.sleep(GAP_SECONDS)
    return committed


async def latencies(heard: Heard, writer: Callable[[], Awaitable[Heard]]) -> list[float]:
    """Milliseconds for each step that the writer commits. Raises TimeoutError when one is never heard of."""
    committed = await writer()
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not committed.keys() <= heard.keys():  # noqa: ASYNC110 - filled by three different callers
            await asyncio.sleep(0.01)
    return [1000 * (heard[step] - at) for step, at in committed.items()]


def percentile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100)[percent - 1]


async def run() -> dict[str, Any]:
    """The result, measured on a stack of its own."""
    directory = Path(tempfile.mkdtemp(prefix="fineflow-benchmark-"))
    try:
        async with Stack(directory, free_port(), children=CHILDREN) as stack:
            job = await make_job(stack.url, stack.publishable_key, stack.secret_key)
            ours = await by_realtime(job, stack.database_url)
            peer = await by_polling(job, stack.database_url)
            limit = await by_listening(job, stack.database_url)
    finally:
        shutil.rmtree(directory)
    for name, values in (("Realtime", ours), ("polling every second", peer), ("bare LISTEN", limit)):
        print(f"{name}: p50 {percentile(values, 50):.1f} ms, p95 {percentile(values, 95):.1f} ms")
    print(f"p95 should be under {LIMIT_MS:.0f} ms")
    p95 = percentile(ours, 95)
    return {
        "name": "realtime",
        "ours": round(p95, 2),
        "peer": round(percentile(peer, 95), 2),
        "peer_name": "reading the row through REST every second",
        "limit": round(percentile(limit, 95), 2),
        "limit_name": "LISTEN on the database itself",
        "unit": "ms from commit to callback, p95",
        "ratio_to_peer": round(percentile(peer, 95) / p95, 2),
        "ratio_to_limit": round(percentile(limit, 95) / p95, 3),
        "n": len(ours),
        "p50_ms": round(percentile(ours, 50), 2),
        "p95_ms": round(p95, 2),
    }


def main() -> None:
    print(json.dumps(asyncio.run(run())))


if __name__ == "__main__":
    main()
