"""The official clients against the front door: sign up, rows, functions, and live changes of a job."""

import asyncio
import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from supabase import AsyncClient, FunctionsHttpError

from devstack.node_tools import NODE_DIR, node_binary
from devstack.up import Stack
from tests.conftest import NewUser
from tests.functions.world import make_dataset

CLIENT = Path(__file__).with_name("client.mjs")


def make_job(stack: Stack, project: str, user: str) -> str:
    dataset = make_dataset(stack, project, pairs=10)
    with psycopg.connect(stack.database_url) as database:
        # In one transaction: no row event and no schedule, nothing but this test may change the job.
        database.execute("alter table public.training_jobs disable trigger call_start_training")
        row = database.execute(
            "insert into public.training_jobs (project_id, dataset_id, user_id, idempotency_key,"
            " request_hash, provider, base_model, method, model_name)"
            " values (%s, %s, %s, %s, 'h', 'nowhere', 'fineflow/tiny', 'full', 'm') returning id",
            [project, dataset, user, str(uuid4())],
        ).fetchone()
        database.execute(
            "update private.training_job_control set next_poll_at = now() + interval '1 day'"
            " where job_id = %s",
            [row[0] if row else None],
        )
        database.execute("alter table public.training_jobs enable trigger call_start_training")
    assert row
    return str(row[0])


def move(stack: Stack, job: str, step: str) -> None:
    with psycopg.connect(stack.database_url, autocommit=True) as database:
        database.execute("update public.training_jobs set current_step = %s where id = %s", [step, job])


async def follow(client: AsyncClient, received: list[dict[str, Any]]) -> None:
    """Changes of training_jobs are appended to `received` from now on."""
    joined = asyncio.Event()
    channel = client.channel(f"jobs-{uuid4()}")
    channel.on_postgres_changes("*", schema="public", table="training_jobs", callback=received.append)
    channel.on_system(lambda message: joined.set())
    await channel.subscribe()
    await asyncio.wait_for(joined.wait(), 10)


async def until(condition: Any, seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


async def test_supabase_py(stack: Stack, new_user: NewUser) -> None:
    client, user, token = await new_user()
    stranger, _, stranger_token = await new_user()
    await client.realtime.set_auth(token)
    await stranger.realtime.set_auth(stranger_token)
    project = (await client.table("projects").insert({"name": "from py"}).execute()).data[0]
    assert project["owner_id"] == user
    assert (await stranger.table("projects").select("*").eq("id", project["id"]).execute()).data == []
    answer = json.loads(await client.functions.invoke("manage-api-keys", {"body": {"action": "status"}}))
    assert {entry["set"] for entry in answer["keys"]} == {False}
    with pytest.raises(FunctionsHttpError):
        await client.functions.invoke("start-training", {"body": {"datasetId": project["id"]}})

    mine: list[dict[str, Any]] = []
    theirs: list[dict[str, Any]] = []
    await follow(client, mine)
    await follow(stranger, theirs)
    job = make_job(stack, project["id"], user)
    move(stack, job, "one step")
    await until(lambda: len(mine) >= 2)
    assert [change["data"]["type"] for change in mine] == ["INSERT", "UPDATE"]
    assert mine[1]["data"]["record"]["current_step"] == "one step"
    assert mine[1]["data"]["record"]["version"] == 2
    assert theirs == []
    row = (await client.table("training_jobs").select("*").eq("id", job).single().execute()).data
    assert row["current_step"] == "one step"


async def test_supabase_js(stack: Stack) -> None:
    process = await asyncio.create_subprocess_exec(
        node_binary(), CLIENT, stack.url, stack.publishable_key, NODE_DIR / "package.json",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout
    assert process.stdin
    lines: list[dict[str, Any]] = []

    async def read() -> dict[str, Any]:
        assert process.stdout
        line = json.loads(await asyncio.wait_for(process.stdout.readline(), 30))
        lines.append(line)
        return dict(line)

    called = await read()
    assert (called["seenByStranger"], called["keysSet"], called["refusedStatus"]) == (0, 0, 404)
    assert called["refused"]["error"]["code"] == "dataset_not_found"
    assert (await read())["event"] == "following"
    job = make_job(stack, called["project"], called["user"])
    move(stack, job, "one step")
    assert await read() == {"event": "change", "type": "INSERT", "id": job, "status": "pending"}
    assert await read() == {"event": "change", "type": "UPDATE", "id": job, "status": "pending"}
    process.stdin.close()
    rest = (await asyncio.wait_for(process.stdout.read(), 10)).decode()
    assert "stranger" not in rest
    assert await process.wait() == 0
