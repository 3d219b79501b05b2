"""Jobs run while functions are killed with -9 and Postgres is restarted without a goodbye."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

import httpx
import psycopg

from devstack.supervisor import Service
from tests.shared.jobs.chaos.jobs import Findings, Plan, findings, insert, plans
from tests.shared.jobs.chaos.place import Place, open_place

FUNCTIONS = 8
_SECONDS_PER_STATE = 1.5
_CALL_SECONDS = 60
_PAUSE_SECONDS = 1.0
_NOT_ENDED = (
    "select count(*) from public.training_jobs where status not in ('completed', 'failed', 'cancelled')"
)
_NOT_SWEPT = (
    "select count(*) from private.provider_attempts"
    " where sweeps = 0 and next_sweep_at < now() + interval '15 s'"
)


@dataclass(frozen=True)
class Storm:
    """What is done to whom. Means of seconds; disturbances end after `storm_seconds` at the latest."""

    jobs: int
    seed: int
    jobs_per_second: float = 4
    kill_every_seconds: float = 3
    restart_every_seconds: float = 5
    storm_seconds: float = 900
    calm_seconds: float = 180  # until everything must have come to rest after the last disturbance


@dataclass
class Count:
    kills: int = 0
    restarts: int = 0
    seconds: float = 0.0
    calm_after_seconds: float = 0.0  # from the last disturbance to the end of the last job


async def weather(storm: Storm, directory: Path) -> tuple[dict[str, Any], Findings]:
    """The figures, as they are printed, and the jobs that went wrong."""
    plan = plans(storm.jobs, storm.jobs_per_second, storm.seed)
    async with open_place(directory, FUNCTIONS, _SECONDS_PER_STATE) as place:
        url = place.here.database_url.get_secret_value()
        secret = place.here.secrets.api_key_encryption_secret
        ids = await asyncio.to_thread(insert, url, plan, secret, place.openai_url)
        count = await _run(storm, place, url, list(zip(ids, plan, strict=True)))
        vendors = [place.openai_url.removesuffix("/v1"), place.trainers_url]
        found = await asyncio.to_thread(findings, url, ids, plan, vendors)
    figures = {
        "rows": storm.jobs,
        "seed": storm.seed,
        "kills": count.kills,
        "restarts": count.restarts,
        "front_door_deaths": place.own_deaths.count("front_door"),
        "functions_deaths": len(place.own_deaths) - place.own_deaths.count("front_door"),
        "runs_created": found.runs_created,
        "duplicates": len(found.duplicates),
        "lost": len(found.lost),
        "wrong_terminal": len(found.wrong_terminal),
        "stuck": len(found.stuck),
        "calm_after_seconds": round(count.calm_after_seconds, 1),
        "seconds": round(count.seconds, 1),
    }
    return figures, found


async def _run(storm: Storm, place: Place, url: str, jobs: list[tuple[UUID, Plan]]) -> Count:
    count = Count()
    began = time.monotonic()
    callers = [asyncio.create_task(_call(place, service)) for service in place.functions]
    users = asyncio.create_task(_cancel(url, jobs, began))
    disturbances = asyncio.create_task(_disturb(storm, place, count))
    with suppress(TimeoutError):
        async with asyncio.timeout(storm.storm_seconds):
            await users
            await _until_none(url, _NOT_ENDED)
    disturbances.cancel()
    with suppress(asyncio.CancelledError):
        await disturbances
    last = time.monotonic()
    with suppress(TimeoutError):
        async with asyncio.timeout(storm.calm_seconds):
            await _until_none(url, _NOT_ENDED)
            count.calm_after_seconds = time.monotonic() - last
            await _until_none(url, _NOT_SWEPT)
    count.seconds = time.monotonic() - began
    for task in (*callers, users):
        task.cancel()
    await asyncio.gather(*callers, users, return_exceptions=True)
    return count


async def _disturb(storm: Storm, place: Place, count: Count) -> None:
    """Kills and restarts go on beside each other. A restart that has begun is finished first."""
    random = Random(storm.seed)

    async def kill() -> None:
        await place.kill(random.choice(place.functions))
        count.kills += 1

    async def restart() -> None:
        await place.restart_postgres()
        count.restarts += 1

    await asyncio.gather(
        _every(storm.kill_every_seconds, kill, random), _every(storm.restart_every_seconds, restart, random)
    )


async def _every(mean_seconds: float, act: Callable[[], Coroutine[Any, Any, None]], random: Random) -> None:
    while True:
        await asyncio.sleep(mean_seconds * random.uniform(0.3, 1.7))
        acting = asyncio.ensure_future(act())
        try:
            await asyncio.shield(acting)
        except asyncio.CancelledError:
            await acting
            raise


async def _call(place: Place, service: Service) -> None:
    """The schedule: asks one functions process again and again, whatever it answers."""
    assert service.health_url
    url = service.health_url.replace("/health", "/poll-training")
    headers = {"x-fineflow-secret": place.here.secrets.function_secret.get_secret_value()}
    async with httpx.AsyncClient(timeout=_CALL_SECONDS, headers=headers, trust_env=False) as http:
        while True:
            with suppress(httpx.HTTPError):
                await http.post(url, json={})
            await asyncio.sleep(_PAUSE_SECONDS)


async def _cancel(url: str, jobs: list[tuple[UUID, Plan]], began: float) -> None:
    """Each user asks for the stop at their time, until somebody has heard it."""
    wishes = sorted((plan.cancel_at, job_id) for job_id, plan in jobs if plan.cancel_at is not None)
    for cancel_at, job_id in wishes:
        await asyncio.sleep(max(0.0, began + cancel_at - time.monotonic()))
        await _ask(url, "select public.request_training_cancel(%s)", job_id)


async def _until_none(url: str, sql: str) -> None:
    while await _ask(url, sql):
        await asyncio.sleep(0.5)


async def _ask(url: str, sql: str, *parameters: object) -> Any:
    """What Postgres answers as soon as it answers. Only for what may be asked twice."""
    while True:
        try:
            async with await psycopg.AsyncConnection.connect(
                url, autocommit=True, connect_timeout=5
            ) as database:
                row = await (await database.execute(sql, parameters)).fetchone()
                return row[0] if row else None
        except psycopg.OperationalError:
            await asyncio.sleep(0.1)
