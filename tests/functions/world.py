"""A project on the embedded stack with an owner, a viewer and a stranger, and datasets to try things on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

import httpx
import psycopg
from pydantic import SecretStr

from devstack.secrets_file import load_secrets
from devstack.up import Stack
from functions.context import Services
from functions.entry import create_app
from shared.config import Settings
from shared.providers.registry import Providers

PASSWORD = "correct-horse-battery"


@dataclass
class World:
    stack: Stack
    http: httpx.AsyncClient
    user: str
    token: str
    viewer_token: str
    stranger_token: str
    project: str
    dataset: str  # ready, 12 pairs
    dataset_small: str  # ready, 9 pairs
    dataset_generating: str  # 12 pairs, not ready

    async def call(self, name: str, body: dict[str, Any], token: str | None = None) -> httpx.Response:
        """The answer of a function to the owner, or to who holds the token."""
        headers = {"authorization": f"Bearer {token or self.token}"}
        return await self.http.post(f"/functions/v1/{name}", json=body, headers=headers)

    async def call_as_service(self, name: str, body: dict[str, Any]) -> httpx.Response:
        """The answer of a function to a row event or the schedule."""
        headers = {"x-fineflow-secret": self.stack.function_secret}
        return await self.http.post(f"/functions/v1/{name}", json=body, headers=headers)

    async def new_dataset(self, *, pairs: int, status: str = "ready") -> str:
        """A dataset of the project with this many valid pairs."""
        return make_dataset(self.stack, self.project, pairs=pairs, status=status)

    def rows(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        """What Postgres says, past RLS."""
        with psycopg.connect(self.stack.database_url, autocommit=True) as database:
            cursor = database.execute(sql, parameters)
            return cursor.fetchall() if cursor.description else []


@contextmanager
def undisturbed(world: World) -> Iterator[None]:
    """Jobs are moved by the test alone: no row event and no schedule of the stack looks at them."""
    world.rows("alter table public.training_jobs disable trigger call_start_training")
    world.rows("update private.schedules set name = 'paused' where name = 'poll-training'")
    try:
        yield
    finally:
        world.rows("update private.schedules set name = 'poll-training' where name = 'paused'")
        world.rows("alter table public.training_jobs enable trigger call_start_training")


def make_dataset(stack: Stack, project: str, *, pairs: int, status: str = "ready") -> str:
    with psycopg.connect(stack.database_url) as database:
        row = database.execute(
            "insert into public.training_datasets (project_id, name, status, pair_count)"
            " values (%s, %s, 'draft', %s) returning id",
            [project, f"set {uuid4().hex[:6]}", pairs],
        ).fetchone()
        assert row
        for number in range(pairs):
            database.execute(
                "insert into public.training_pairs (dataset_id, project_id, ordinal, user_message,"
                " assistant_message, token_count) values (%s, %s, %s, %s, %s, 12)",
                [
                    row[0],
                    project,
                    number,
                    f"What opens door {number}?",
                    f"Door {number} opens with {number * 7}.",
                ],
            )
        database.execute("update public.training_datasets set status = %s where id = %s", [status, row[0]])
    return str(row[0])


async def sign_up(http: httpx.AsyncClient, stack: Stack) -> tuple[str, str]:
    """The id and the access token of a new user."""
    response = await http.post(
        "/auth/v1/signup",
        json={"email": f"user-{uuid4().hex}@test.local", "password": PASSWORD},
        headers={"apikey": stack.publishable_key},
    )
    response.raise_for_status()
    return response.json()["user"]["id"], response.json()["access_token"]


@asynccontextmanager
async def make_world(stack: Stack) -> AsyncIterator[World]:
    async with httpx.AsyncClient(base_url=stack.url, timeout=60) as http:
        user, token = await sign_up(http, stack)
        viewer, viewer_token = await sign_up(http, stack)
        _, stranger_token = await sign_up(http, stack)
        project = str(uuid4())
        with psycopg.connect(stack.database_url) as database:
            database.execute(
                "insert into public.projects (id, owner_id, name) values (%s, %s, 'p')", [project, user]
            )
            database.execute(
                "insert into public.project_members (project_id, user_id, role) values (%s, %s, 'viewer')",
                [project, viewer],
            )
        yield World(
            stack=stack,
            http=http,
            user=user,
            token=token,
            viewer_token=viewer_token,
            stranger_token=stranger_token,
            project=project,
            dataset=make_dataset(stack, project, pairs=12),
            dataset_small=make_dataset(stack, project, pairs=9),
            dataset_generating=make_dataset(stack, project, pairs=12, status="draft"),
        )


@asynccontextmanager
async def own_functions(
    world: World, *, available: Providers | None = None, **changed: Any
) -> AsyncIterator[World]:
    """The same world behind functions in this process: with these providers, and other settings."""
    secrets = load_secrets(world.stack.data_dir)
    settings = Settings(
        **{
            "supabase_url": world.stack.url,
            "supabase_publishable_key": world.stack.publishable_key,
            "supabase_secret_key": SecretStr(world.stack.secret_key),
            "supabase_jwt_secret": SecretStr(world.stack.jwt_secret),
            "api_key_encryption_secret": secrets.api_key_encryption_secret,
            "function_secret": secrets.function_secret,
            "data_dir": world.stack.data_dir,
        }
        | changed
    )
    app = create_app(settings, available=available)
    app.state.services = services = Services.connect(settings, available=available)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://functions") as http:
        yield replace(world, http=http)
    await services.http.aclose()
