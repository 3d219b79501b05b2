"""A job at Modal from its start to its model: real functions, SDK and trainer, and a Modal on loopback."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import modal
import pytest
from pydantic import SecretStr

from devstack.up import Stack
from shared.providers.modal import ModalProvider
from shared.training.spec import Callback, Ticket
from tests.fakes.http import Fault
from tests.fakes.modal import TOKEN_ID, TOKEN_SECRET, FakeModal
from tests.functions.server import functions_over
from tests.functions.world import World, make_world, undisturbed
from tests.shared.providers.harness import CHAT_FILE, run_spec

TRAIN = ("fineflow", "train")
# What a container does with a ticket. Its last line: the result, and whether torch was needed for it.
CONTAINER = """
import json, sys
from pathlib import Path
from modal_app.remote import train_remote
from shared.training.spec import Ticket
ticket, data_dir, call = json.load(sys.stdin)
result = train_remote(Ticket.model_validate(ticket), Path(data_dir), provider_job_id=call)
print(json.dumps([result, "torch" in sys.modules]))
"""


@dataclass
class Containers:
    """Modal's machines: a process for each call."""

    data_dir: Path
    imported_torch: dict[str, bool] = field(default_factory=dict)  # by call

    def train(self, ticket: dict[str, Any]) -> dict[str, Any]:
        call = modal.current_function_call_id()
        assert call
        environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ} | {
            "FINEFLOW_DATA_DIR": str(self.data_dir),
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.getcwd(),
        }
        done = subprocess.run(
            [sys.executable, "-c", CONTAINER],
            input=json.dumps([ticket, str(self.data_dir), call]),
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        result, self.imported_torch[call] = json.loads(done.stdout.splitlines()[-1])
        return dict(result)


@dataclass
class House:
    world: World
    fake: FakeModal
    provider: ModalProvider
    containers: Containers

    def job(self, job_id: str) -> dict[str, Any]:
        columns = ("status", "attempt", "provider_job_id", "model_id", "error", "progress_percent")
        (row,) = self.world.rows(f"select {', '.join(columns)} from training_jobs where id = %s", job_id)
        return dict(zip(columns, row, strict=True))

    async def until(self, job_id: str, *statuses: str) -> dict[str, Any]:
        """The job in one of these statuses, with the schedule at work."""
        async with asyncio.timeout(60):
            while (job := self.job(job_id))["status"] not in statuses:
                await self.world.call_as_service("poll-training", {})
                await asyncio.sleep(0.1)
        return job


@pytest.fixture
async def house(stack: Stack, tmp_path: Path) -> AsyncIterator[House]:
    containers = Containers(tmp_path)
    with FakeModal({TRAIN: containers.train}) as fake:
        provider = ModalProvider(
            token_id=SecretStr(TOKEN_ID),
            token_secret=SecretStr(TOKEN_SECRET),
            server_url=fake.url,
            timeout_seconds=1,
        )
        async with (
            make_world(stack) as made,
            functions_over(stack, {"modal": provider}) as (url, _),
            httpx.AsyncClient(base_url=url, timeout=60) as http,
        ):
            with undisturbed(made):
                yield House(replace(made, http=http), fake, provider, containers)
        await provider.close()


async def test_a_job_trains_once_whatever_becomes_of_the_answer_to_its_start(house: House) -> None:
    house.fake.disturb("create", Fault(hang=True, executed=True))
    dataset = await house.world.new_dataset(pairs=24)
    answer = await house.world.call(
        "start-training",
        {"datasetId": dataset, "provider": "modal", "trainingConfig": {"epochs": 2}},
    )
    assert answer.status_code == 202, answer.text
    job_id = answer.json()["jobId"]
    assert house.job(job_id)["provider_job_id"] is None  # nobody here knows of the call

    job = await house.until(job_id, "queued", "training", "completed", "failed")
    (first,) = house.fake.runs
    assert job["provider_job_id"] == first  # its trainer said so
    second = await call_again(house, first)

    job = await house.until(job_id, "completed", "failed", "cancelled")
    assert (job["status"], job["attempt"], job["provider_job_id"]) == ("completed", 1, first), job
    assert job["progress_percent"] == 100
    async with asyncio.timeout(30):
        while any(call.result is None for call in house.fake.runs.values()):
            await asyncio.sleep(0.05)
    assert (await house.provider.poll(second)).status == "queued"  # it never was the job's run
    assert house.containers.imported_torch == {first: True, second: False}

    models = "select artifact_path, provider from fine_tuned_models where job_id = %s"
    ((artifact, provider),) = house.world.rows(models, job_id)
    assert provider == "modal"
    assert Path(artifact, "model.safetensors").exists()
    assert house.world.rows("select count(*) > 0 from training_metrics where job_id = %s", job_id) == [
        (True,)
    ]
    # Nobody named a GPU: it is the one that was estimated, and that the job is billed by.
    assert house.world.rows("select gpu from training_jobs where id = %s", job_id) == [("L4",)]
    assert (house.fake.runs[first].gpu, house.fake.runs[first].timeout_seconds) == ("L4", 21_600)
    assert house.fake.unimplemented == []


async def call_again(house: House, ref: str) -> str:
    """A second call with the ticket of the first, as after an answer that got lost on the way."""
    (sent,) = house.fake.runs[ref].arguments
    ticket = Ticket.model_validate(sent)
    spec = run_spec("fineflow/tiny").model_copy(
        update={"job_id": ticket.job_id, "attempt": ticket.attempt, "run_id": ticket.run_id}
    )
    return await house.provider.start(
        spec,
        CHAT_FILE,
        idempotency_key=str(ticket.job_id),
        callback=Callback(url=ticket.report_url, token=ticket.token),
    )
