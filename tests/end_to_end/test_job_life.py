"""A real job on the embedded stack: it trains, it survives a killed server, it is cancelled, it serves."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import psutil
import pytest

from devstack.up import Stack
from tests.functions.world import World, make_world

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
async def world(stack: Stack) -> AsyncIterator[World]:
    async with make_world(stack) as made:
        yield made


async def start(world: World, *, pairs: int = 12, epochs: int = 30) -> str:
    dataset = await world.new_dataset(pairs=pairs)
    answer = await world.call("start-training", {"datasetId": dataset, "trainingConfig": {"epochs": epochs}})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["jobId"])


COLUMNS = ("status", "step", "total_steps", "progress_percent", "attempt", "error", "model_id")


def row(world: World, job: str) -> dict[str, Any]:
    found = world.rows(f"select {', '.join(COLUMNS)} from training_jobs where id = %s", job)[0]
    return dict(zip(COLUMNS, found, strict=True))


async def until(world: World, job: str, *statuses: str, seconds: float = 90) -> dict[str, Any]:
    async with asyncio.timeout(seconds):
        while (now := row(world, job))["status"] not in statuses:
            await asyncio.sleep(0.1)
    return now


async def test_train_deploy_and_ask(world: World) -> None:
    job = await start(world, epochs=50)
    ended = await until(world, job, "completed", "failed", "cancelled")
    assert ended["status"] == "completed", ended
    assert (ended["progress_percent"], ended["step"]) == (100, ended["total_steps"])
    # Progress is told once a second, and here all steps take a few.
    assert world.rows("select count(*) > 1 from training_metrics where job_id = %s", job) == [(True,)]

    name = f"live-{uuid4().hex[:6]}"
    deploy = {"action": "deploy", "modelId": str(ended["model_id"]), "deploymentName": name, "notes": "first"}
    deployed = (await world.call("manage-models", deploy)).json()
    assert deployed["previousModelId"] is None
    question = {"model": name, "messages": [{"role": "user", "content": "What opens door 5?"}]}
    answer = await world.call("chat", question)
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["message"]["content"] == "Door 5 opens with 35."
    usage = world.rows(
        "select completion_tokens > 0, latency_ms > 0, error_code from model_usage where model_id = %s",
        ended["model_id"],
    )
    assert usage == [(True, True, None)]
    stranger = await world.call("chat", question, token=world.stranger_token)
    assert stranger.status_code == 404


def functions_server() -> psutil.Process:
    children = [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]
    return next(child for child in children if "functions.entry:app" in child.cmdline())


async def test_a_killed_functions_server_loses_nothing(world: World) -> None:
    job = await start(world, epochs=50)
    await until(world, job, "training")
    for _ in range(2):
        functions_server().kill()
        await asyncio.sleep(2)
    ended = await until(world, job, "completed", "failed", "cancelled")
    assert (ended["status"], ended["attempt"]) == ("completed", 1), ended
    assert world.rows("select count(*) from fine_tuned_models where job_id = %s", job) == [(1,)]
    ends = world.rows(
        "select data->>'to' from training_job_events where job_id = %s and type = 'status' order by id", job
    )
    assert [end[0] for end in ends].count("completed") == 1


async def test_a_running_job_is_cancelled_and_the_dataset_is_free(world: World) -> None:
    job = await start(world, pairs=40, epochs=50)
    await until(world, job, "training")
    answer = await world.call("cancel-training", {"jobId": job})
    assert answer.status_code == 200, answer.text
    ended = await until(world, job, "cancelled", "completed", "failed", seconds=30)
    assert ended["status"] == "cancelled"
    assert world.rows(
        "select d.status from training_datasets d"
        " join training_jobs j on j.dataset_id = d.id where j.id = %s",
        job,
    ) == [("ready",)]
    again = await world.call("cancel-training", {"jobId": job})
    assert (again.status_code, again.json()["error"]["code"]) == (409, "job_already_ended")


async def test_a_killed_trainer_goes_on_from_its_checkpoint(world: World) -> None:
    job = await start(world, epochs=50)
    await until(world, job, "training")
    process = json.loads((world.stack.data_dir / "runs" / job / "process.json").read_text())
    os.killpg(process["pid"], signal.SIGKILL)
    ended = await until(world, job, "completed", "failed", "cancelled")
    assert (ended["status"], ended["attempt"]) == ("completed", 1), ended
