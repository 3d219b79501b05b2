"""A Hugging Face Job from its start to a model that answers here: its container's disk goes, the model stays.

Real functions, Storage, SDK, trainer and inference server; a Hugging Face on loopback, a process its machine.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import signal
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
from shared.models.fetching import Source, fetch, from_storage
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
    world: World  # behind functions that start jobs at the fake
    stack_world: World  # the same behind the stack's own functions
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
        assert "canary" not in log.lower()
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

    async def fineflow(self, *arguments: str) -> dict[str, Any]:
        """What `fineflow models` prints, run by the demo user of the stack."""
        self.world.rows(
            "insert into public.project_members (project_id, user_id, role)"
            " select %s, id, 'viewer' from auth.users where email = %s on conflict do nothing",
            self.world.project, self.world.stack.demo_email,
        )  # fmt: skip
        kept = {n: v for n, v in os.environ.items() if not n.startswith(("FINEFLOW_", "SUPABASE_"))}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "cli.main", "models", *arguments),
            *("--project", self.world.project, "--json"),
            env={**kept, "FINEFLOW_DATA_DIR": str(self.world.stack.data_dir)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        out, err = await asyncio.wait_for(process.communicate(), 120)
        assert process.returncode == 0, out.decode() + err.decode()
        return dict(json.loads(out))

    def row(self, table: str, row_id: str) -> dict[str, Any]:
        ((row,),) = self.world.rows(f"select to_jsonb(r) from public.{table} r where id = %s", row_id)
        return dict(row)

    def sums(self) -> dict[str, str]:
        """The sha256 of each file of the model on the container's disk."""
        (artifact,) = self.disk.glob("runs/*/artifact")
        return sums(artifact)

    def source(self, model: StoredModel, token: str, http: httpx.AsyncClient) -> Source:
        key = self.world.stack.publishable_key
        return from_storage(model, Storage(self.world.stack.url, api_key=key, bearer=token, http=http))


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
                yield House(replace(made, http=http), made, fake, services, tmp_path / "disk")


async def test_the_model_outlives_its_container_and_answers_here(house: House, tmp_path: Path) -> None:
    job_id, ref = await house.start(method="lora", trainingConfig={"epochs": 40, "learningRate": 0.01})
    assert await house.ended(house.container(ref)) == TrainerExit.COMPLETED
    trained = house.sums()
    shutil.rmtree(house.disk)

    row = await house.model_of(job_id, ref)
    model = stored(row["artifact_path"])
    assert model
    assert (str(model.project_id), str(model.job_id), model.attempt) == (house.world.project, job_id, 1)
    async with httpx.AsyncClient() as http:
        await fetch(model, house.source(model, house.world.viewer_token, http), tmp_path / "fetched")
        for token in (house.world.stranger_token, house.world.stack.publishable_key):
            with pytest.raises(FineFlowError) as refused:
                await fetch(model, house.source(model, token, http), tmp_path / "stolen")
            assert refused.value.code == "model_not_found"
    assert sums(tmp_path / "fetched" / "artifact") == trained
    assert (tmp_path / "fetched" / "adapter" / "adapter_model.safetensors").is_file()

    question = {"model": row["id"], "messages": [{"role": "user", "content": "What opens door 3?"}]}
    answer = await house.stack_world.call("chat", question)  # the stack's own functions fetch it
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["message"]["content"] == "Door 3 opens with 21."

    # Another container trains on from it: it fetches the model by addresses that its job token gets.
    later_job, later_ref = await house.start(baseModel=f"model:{row['id']}", trainingConfig={"epochs": 1})
    assert await house.ended(house.container(later_ref)) == TrainerExit.COMPLETED
    later = await house.model_of(later_job, later_ref)
    assert (later["parent_model_id"], later["root_base_model"]) == (row["id"], "fineflow/tiny")
    assert later["recipe"]["base_model"] == f"model:{row['id']}"
    assert later["template_fingerprint"] == row["template_fingerprint"]
    assert later["metrics"]["first_loss"] < 0.1 < row["metrics"]["first_loss"]  # it knew its rows already

    fetched = await house.fineflow("fetch", row["id"], "-o", str(tmp_path / "mine"))
    assert fetched["bytes"] > row["artifact_bytes"]
    assert sums(tmp_path / "mine" / "artifact") == trained
    exported = await house.fineflow(
        "export", row["id"], "--format", "gguf", "--quantization", "f32", "-o", str(tmp_path / "gguf")
    )
    assert {file["name"] for file in exported["files"]} == {"README.md", "model.gguf"}


async def test_a_container_that_is_killed_with_its_model_trained_is_followed_by_one_that_only_sends(
    house: House,
) -> None:
    job_id, ref = await house.start(trainingConfig={"epochs": 1})
    container = house.container(ref)
    async with asyncio.timeout(90):
        while not list(house.disk.glob("runs/*/trained.json")):
            await asyncio.sleep(0.002)
    container.kill()
    assert await house.ended(container) == -signal.SIGKILL
    assert house.row("training_jobs", job_id)["status"] != "completed"

    assert await house.ended(house.container(ref)) == TrainerExit.COMPLETED
    row = await house.model_of(job_id, ref)
    assert stored(row["artifact_path"])
    trained = house.world.rows(
        "select count(*) from training_job_events where job_id = %s and message like 'Training started%%'",
        job_id,
    )
    assert trained == [(1,)]


async def test_a_bucket_that_takes_less_says_what_to_do(house: House) -> None:
    job_id, ref = await house.start(trainingConfig={"epochs": 1})
    house.world.rows("update storage.buckets set file_size_limit = 100 where id = 'models'")
    try:
        assert await house.ended(house.container(ref)) == TrainerExit.FAILED
    finally:
        house.world.rows("update storage.buckets set file_size_limit = 41943040 where id = 'models'")
    house.fake.set_stage(ref, "ERROR", message="exit code 1")
    await house.world.call_as_service("poll-training", {})
    job = house.row("training_jobs", job_id)
    assert (job["status"], job["error"]["code"]) == ("failed", "artifact_too_large")
    assert "40 MiB" in job["error"]["message"]
    assert job["progress_percent"] < 100
    assert "model.safetensors" in house.sums()  # it is not lost before its disk is
