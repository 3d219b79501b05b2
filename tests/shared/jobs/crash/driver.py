"""The process that moves one job: the functions' own wiring, ticked until nothing will ever be due."""

from __future__ import annotations

import json
import urllib.request
from dataclasses import replace
from random import Random
from typing import Any
from uuid import UUID

import psycopg
from pydantic import BaseModel

from functions.context import Services
from shared.config import Settings
from shared.jobs.reconcile import Reconciler
from shared.providers.openai import OpenAIProvider
from tests.shared.jobs.crash.claiming import ClaimingProvider
from tests.shared.jobs.crash.clock import DatabaseClock
from tests.shared.jobs.crash.gate import Gate, watch
from tests.shared.jobs.crash.lives import BY_NAME, LATE_SECONDS, TIMING, Life

STUCK = 3
_MOST_TICKS = 300


class Place(BaseModel):
    """Where a lane's database and vendors answer. Secrets in clear: it goes to a child of this test."""

    settings: dict[str, str]
    database_url: str
    vendors: dict[str, str]  # by provider


class Order(BaseModel):
    """One process: which job, and after which of its effects it dies."""

    place: Place
    life: str
    job_id: UUID
    incarnation: int  # 0 for the first process of this job
    die_after: int | None


async def drive(order: Order) -> list[str]:
    """The job has ended and nothing is due any more; what the process did, in order. SystemExit: stuck."""
    gate = Gate(order.die_after)
    watch(gate)
    services = _services(order)
    reconciler = Reconciler(services.jobs, concurrency=2)
    with psycopg.connect(order.place.database_url, autocommit=True) as database:
        clock = DatabaseClock(database)
        for _ in range(_MOST_TICKS):
            seconds = clock.jump(BY_NAME[order.life].lasts_seconds)
            moving = _move_vendors(order.place, seconds or 0.0, hold=_is_unwanted(order, database))
            if seconds is None and not moving:
                return gate.effects
            await _act(order, services, database)
            await reconciler.tick()
    raise SystemExit(STUCK)


def _is_unwanted(order: Order, database: psycopg.Connection) -> bool:
    """Whether somebody wants the job stopped: then its run goes on for ever until it is."""
    row = database.execute(
        "select cancel_requested_at from public.training_jobs where id = %s", [order.job_id]
    ).fetchone()
    return row is None or row[0] is not None


def _services(order: Order) -> Services:
    vendors = order.place.vendors
    available = {
        "openai": OpenAIProvider(allow_private_addresses=True, timeout_seconds=20, late_seconds=LATE_SECONDS),
        "claiming": ClaimingProvider(vendors["claiming"], LATE_SECONDS),
    }
    services = Services.connect(Settings.model_validate(order.place.settings), available=available)
    random = Random(f"{order.life} {order.incarnation}")
    return replace(services, jobs=replace(services.jobs, timing=TIMING, random=random))


async def _act(order: Order, services: Services, database: psycopg.Connection) -> None:
    """What the user does. A wish that was stored is not wished again."""
    life: Life = BY_NAME[order.life]
    row = database.execute(
        "select status::text, cancel_requested_at is not null from public.training_jobs where id = %s",
        [order.job_id],
    ).fetchone()
    if row is None:
        return
    status, is_cancelled = row
    if status in life.delete_in:
        database.execute("set session_replication_role = origin")  # the triggers are a part of it
        database.execute("delete from public.training_jobs where id = %s", [order.job_id])
        database.execute("set session_replication_role = replica")
    elif not is_cancelled and (
        status in life.cancel_in or (life.cancel_after_death and order.incarnation > 0)
    ):
        await services.jobs.store.request_cancel(order.job_id)


def _move_vendors(place: Place, seconds: float, *, hold: bool) -> bool:
    """Each vendor is one state further; whether one of them still has work. Not an effect of ours."""
    asked = {"seconds": seconds, "hold": hold}
    return any([_post(f"{url}/_fake/move", asked)["moving"] for url in place.vendors.values()])


def _post(url: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=20) as response:
        answer: dict[str, Any] = json.loads(response.read())
    return answer
