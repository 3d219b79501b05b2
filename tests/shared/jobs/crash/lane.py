"""A database of its own on the stack's server, with its own front door, vendors and driver processes.

Several lanes work at the same time and see nothing of each other.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import psycopg
from pydantic import SecretStr

from devstack.ports import free_port, listen_from
from devstack.processes import Child, last_lines
from devstack.secrets_file import Secrets, load_secrets
from devstack.supabase_lite import bootstrap, front_door_command
from devstack.supervisor import Service, is_healthy
from devstack.up import Stack
from shared.keys.crypto import KeySealer
from shared.training.catalog import TINY, resolve
from shared.training.config import TrainingConfig
from tests.fakes.http import Fault
from tests.shared.jobs.crash.driver import Place
from tests.shared.jobs.crash.drivers import Zygote
from tests.shared.jobs.crash.lives import Life
from tests.shared.jobs.crash.worlds import MovedOpenAI, MovedTrainers

ROWS = 12
_BASES = {"openai": "gpt-4.1-mini-2025-04-14", "claiming": TINY}


@dataclass
class Lane:
    """One job at a time."""

    place: Place
    zygote: Zygote
    openai: MovedOpenAI
    trainers: MovedTrainers
    database: psycopg.Connection
    user: UUID
    dataset: UUID

    def begin(self, life: Life) -> UUID:
        """A new job on an empty table, and vendors that know nothing of any other."""
        self.database.execute("delete from public.training_jobs")
        self.database.execute("delete from public.fine_tuned_models")
        self.database.execute("delete from private.provider_attempts")
        self.database.execute("delete from private.provider_breakers")
        self.database.execute("update public.training_datasets set status = 'ready'")
        self.openai.forget()
        self.trainers.forget()
        if life.loses_answer:
            lost = Fault(executed=True, reset=True, hide_seconds=life.late_seconds)
            (self.openai if life.provider == "openai" else self.trainers).disturb("create", lost)
            self.trainers.boot_seconds.append(life.late_seconds)
        return self._new_job(life.provider)

    def _new_job(self, provider: str) -> UUID:
        base = _BASES[provider]
        job = {
            "dataset_id": str(self.dataset),
            "user_id": str(self.user),
            "idempotency_key": str(uuid4()),
            "request_hash": "h",
            "provider": provider,
            "base_model": base,
            "method": "full",
            "model_name": "crash",
            "training_config": resolve(TrainingConfig(epochs=1), base, "full").model_dump(mode="json"),
            "timeout_seconds": 86_400,
        }
        answer: dict[str, Any] = self.one("select public.create_training_job(%s)", json.dumps(job))
        assert answer["outcome"] == "created", answer
        return UUID(answer["job"]["id"])

    def one(self, sql: str, *parameters: object) -> Any:
        """The first column of the first row; None when there is none."""
        row = self.database.execute(sql, parameters).fetchone()
        return row[0] if row else None


@asynccontextmanager
async def open_lanes(stack: Stack, count: int) -> AsyncIterator[list[Lane]]:
    """So many lanes, ready; their databases are gone afterwards."""
    secrets = load_secrets(stack.data_dir)
    async with AsyncExitStack() as opened:
        zygote = await opened.enter_async_context(Zygote.start(stack.data_dir / "logs" / "crash.log"))
        with psycopg.connect(stack.database_url, autocommit=True) as server:
            template = "crash_template"
            url = await _new_database(stack, server, template)
            try:
                async with _front_door(stack, secrets, template, url):
                    pass  # it has applied the migrations
                lanes = []
                for number in range(count):
                    name = f"crash_{number}"
                    server.execute(f"create database {name} template {template}")
                    opened.callback(_drop, stack.database_url, name)
                    lanes.append(await opened.enter_async_context(_lane(stack, secrets, name, zygote)))
            finally:
                server.execute(f"drop database {template} with (force)")
        yield lanes


async def _new_database(stack: Stack, server: psycopg.Connection, name: str) -> SecretStr:
    server.execute(f"create database {name} template template0")
    server.execute(f'alter database {name} set search_path = "$user", public, extensions')
    url = _url(stack, name)
    await bootstrap(url)
    return url


def _url(stack: Stack, name: str) -> SecretStr:
    return SecretStr(stack.database_url.rpartition("/")[0] + f"/{name}")


def _drop(server_url: str, name: str) -> None:
    with psycopg.connect(server_url, autocommit=True) as server:
        server.execute(f"drop database {name} with (force)")


@asynccontextmanager
async def _lane(stack: Stack, secrets: Secrets, name: str, zygote: Zygote) -> AsyncIterator[Lane]:
    url = _url(stack, name).get_secret_value()
    async with AsyncExitStack() as opened:
        address = await opened.enter_async_context(_front_door(stack, secrets, name, SecretStr(url)))
        openai = opened.enter_context(MovedOpenAI())
        trainers = opened.enter_context(MovedTrainers(url))
        database = opened.enter_context(psycopg.connect(url, autocommit=True))
        place = Place(
            settings={
                "supabase_url": address,
                "supabase_publishable_key": secrets.publishable_key,
                "supabase_secret_key": secrets.secret_key.get_secret_value(),
                "api_key_encryption_secret": secrets.api_key_encryption_secret.get_secret_value(),
                "function_secret": secrets.function_secret.get_secret_value(),
            },
            database_url=url,
            vendors={"openai": openai.url, "claiming": trainers.url},
        )
        user, dataset = make_owner(database, secrets, openai)
        yield Lane(place, zygote, openai, trainers, database, user, dataset)


def make_owner(database: psycopg.Connection, secrets: Secrets, openai: MovedOpenAI) -> tuple[UUID, UUID]:
    """A user with an OpenAI key, and a dataset of theirs that can be trained on."""
    user, project, dataset = uuid4(), uuid4(), uuid4()
    sealer = KeySealer(secrets.api_key_encryption_secret)
    sealed = sealer.seal(SecretStr(openai.api_key), user_id=user, provider="openai", base_url=openai.base_url)
    database.execute("insert into auth.users (id, email) values (%s, %s)", [user, f"{user}@test.local"])
    database.execute(
        "insert into public.user_api_keys (user_id, provider, ciphertext, key_id, last_four, base_url)"
        " values (%s, 'openai', %s, %s, %s, %s)",
        [user, sealed, sealer.key_id, openai.api_key[-4:], openai.base_url],
    )
    database.execute("insert into public.projects (id, owner_id, name) values (%s, %s, 'p')", [project, user])
    database.execute(
        "insert into public.training_datasets (id, project_id, name, status, pair_count)"
        " values (%s, %s, 'd', 'ready', %s)",
        [dataset, project, ROWS],
    )
    database.execute(
        "insert into public.training_pairs (dataset_id, project_id, ordinal, user_message,"
        " assistant_message, token_count) select %s, %s, n, 'What opens door ' || n || '?',"
        " 'Door ' || n || ' opens with ' || n * 7 || '.', 12 from generate_series(1, %s) n",
        [dataset, project, ROWS],
    )
    return user, dataset


@asynccontextmanager
async def _front_door(stack: Stack, secrets: Secrets, name: str, url: SecretStr) -> AsyncIterator[str]:
    """Its address. Every migration is applied, and it answers."""
    data_dir = stack.data_dir / name
    (data_dir / "logs").mkdir(parents=True, exist_ok=True)
    (data_dir / "storage").mkdir(exist_ok=True)
    listener = listen_from(free_port())
    address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    command = front_door_command(
        project=stack.project,
        data_dir=data_dir,
        database_url=url,
        secrets=secrets,
        listen_fd=listener.fileno(),
        functions_port=1,
        realtime_port=1,
    )
    child = Child(command)
    try:
        while not await is_healthy(Service(command, f"{address}/health")):
            assert child.returncode is None, last_lines(command.log)
            await asyncio.sleep(0.05)
        yield address
    finally:
        await child.stop()
        listener.close()
