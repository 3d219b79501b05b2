"""A Hugging Face Job from its start to a model that answers here: its container's disk goes, the model stays.

Real functions, Storage, SDK, trainer and inference server; a Hugging Face on loopback, a process its machine.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from devstack.up import Stack
from functions.context import Services
from shared.errors import FineFlowError
from shared.models.fetching import fetch
from shared.models.stored import StoredModel, stored
from shared.providers.huggingface import HuggingFaceProvider
from shared.storage import Storage
from shared.training.spec import TrainerExit
from tests.fakes.huggingface import FakeHuggingFace
from tests.functions.server import functions_over
from tests.functions.world import World, make_world, undisturbed

IMAGE = "registry.example/fineflow-trainer:1"


@dataclass
class House:
    world: World
    fake: FakeHuggingFace
    services: Services
    disk: Path  # of the containers

    async def start(self, **more: Any) -> tuple[str, str]:
        """A new job and its run at Hugging Face, where nothing moves by itself."""
        dataset = await self.world.new_dataset(pairs=16)
        request = {
            "datasetId": dataset, "provider": "huggingface", "apiKey": self.fake.api_key, "gpu": "t4-small",
            "modelName": "doors", "trainingConfig": {"epochs": 30, "learningRate": 0.003},
        } | more  # fmt: skip
        answer = await self.world.call("start-training", request)
        assert answer.status_code == 202, answer.text
        return answer.json()["jobId"], list(self.fake.jobs)[-1]

    def container(self, ref: str) -> subprocess.Popen[str]:
        """A process with what the job was given, and nothing else of this machine's environment."""
        job = self.fake.jobs[ref]
        self.fake.set_stage(ref, "RUNNING")
        environment = {
            **job.body["environment"], **job.secrets, "JOB_ID": ref, "FINEFLOW_DATA_DIR": str(self.disk),
            "PATH": os.environ["PATH"], "HOME": str(self.disk), "PYTHONPATH": os.getcwd(),
            "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        assert job.body["command"] == ["python", "-m", "modal_app.remote"]
        return subprocess.Popen(
            [sys.executable, "-m", "modal_app.remote"], env=environment, text=True, stderr=subprocess.PIPE
        )

    async def ended(self, container: subprocess.Popen[str]) -> int:
        _, log = await asyncio.to_thread(container.communicate, timeout=120)
        assert "Traceback" not in log, log[-3000:]
        return container.returncode

    async def model_of(self, job_id: str, ref: str) -> dict[str, Any]:
        """The row of the model, once the job has completed."""
        self.fake.set_stage(ref, "COMPLETED")
        async with asyncio.timeout(30):
            while (row := self.row("training_jobs", job_id))["status"] not in ("completed", "failed"):
                await self.world.call_as_service("poll-training", {})
                await asyncio.sleep(0.1)
        assert row["status"] == "completed", row["error"]
        return self.row("fine_tuned_models", row["model_id"])

    def row(self, table: str, row_id: str) -> dict[str, Any]:
        ((row,),) = self.world.rows(f"select to_jsonb(r) from public.{table} r where id = %s", row_id)
        return dict(row)

    def sums(self) -> dict[str, str]:
        """The sha256 of each file of the model on the container's disk."""
        (artifact,) = self.disk.glob("runs/*/artifact")
        return sums(artifact)

    def objects(self, model: StoredModel) -> list[str]:
        """The names of what lies in Storage of this attempt."""
        query = "select name from storage.objects where bucket_id = 'models' and starts_with(name, %s)"
        return [name.rpartition("/")[2] for (name,) in self.world.rows(query, model.folder)]

    def storage(self, token: str, http: httpx.AsyncClient) -> Storage:
        return Storage(
            self.world.stack.url, api_key=self.world.stack.publishable_key, bearer=token, http=http
        )


def sums(directory: Path) -> dict[str, str]:
    files = (path for path in directory.rglob("*") if path.is_file())
    return {str(p.relative_to(directory)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture
async def house(stack: Stack, tmp_path: Path) -> AsyncIterator[House]:
    with FakeHuggingFace() as fake:
        provider = HuggingFaceProvider(image=IMAGE, endpoint=fake.url, timeout_seconds=5)
        async with (
            make_world(stack) as made,
            functions_over(stack, {"huggingface": provider}) as (url, services),
            httpx.AsyncClient(base_url=url, timeout=60) as http,
        ):
            with undisturbed(made):
                yield House(replace(made, http=http), fake, services, tmp_path / "disk")


async def test_the_model_outlives_its_container_and_answers_here(house: House, tmp_path: Path) -> None:
    job_id, ref = await house.start(method="lora", trainingConfig={"epochs": 2})
    assert await house.ended(house.container(ref)) == TrainerExit.COMPLETED
    trained = house.sums()
    shutil.rmtree(house.disk)

    row = await house.model_of(job_id, ref)
    model = stored(row["artifact_path"])
    assert model
    assert (str(model.project_id), str(model.job_id), model.attempt) == (house.world.project, job_id, 1)
    async with httpx.AsyncClient() as http:
        await fetch(model, house.storage(house.world.viewer_token, http), tmp_path / "fetched")
        for token in (house.world.stranger_token, house.world.stack.publishable_key):
            with pytest.raises(FineFlowError) as refused:
                await fetch(model, house.storage(token, http), tmp_path / "stolen")
            assert refused.value.code == "model_not_found"
    assert sums(tmp_path / "fetched" / "artifact") == trained
    assert (tmp_path / "fetched" / "adapter" / "adapter_model.safetensors").is_file()
